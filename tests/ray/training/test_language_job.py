"""A language model trained on a real local cluster by two workers, published, quantised, loaded as it is served."""

from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest

from app.clock import SystemClock
from app.config import settings
from app.domain.generation import Ending, Prompt, Sampling, Step, Token
from app.energy import measure
from app.models.generation.load import load_generator
from app.models.precision import Precision
from app.models.repository import open_repository
from app.training.job import TrainJob, load_job
from app.training.run import run_job
from app.training.variants import publish_variant

pytestmark = pytest.mark.ray

JOBS = Path(__file__).parents[3] / "deployments" / "jobs"


def tiny_job() -> TrainJob:
    """The job that ships with a model so small that a step takes milliseconds; its data are the real ones."""
    whole = load_job(JOBS / "pycoder.yaml").model_dump(mode="json")
    model = {"architecture": "llama", "vocabulary": 512, "hidden": 32, "layers": 1, "heads": 2, "context": 64}
    fewer = {"model": model, "epochs": 2, "epoch_steps": 6, "target": {"metric": "bits_per_byte", "at_most": 8.0}}
    fewer["data"] = whole["data"] | {"test_share": 0.02}  # what is held out is read after every epoch, and by variants
    return TrainJob.model_validate({**whole, **fewer})


class Heard:
    """Listens to an engine until its prompt has ended."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.done = Event()

    def tokens(self, prompt_id: str, tokens: Sequence[Token]) -> None:
        self.given += [token.id for token in tokens]

    def ended(self, prompt_id: str, ending: Ending, reason: str) -> None:
        self.done.set()

    def stepped(self, step: Step) -> None: ...


def continuation(source: str) -> list[int]:
    """Eight tokens after `def `, as one seed draws them."""
    heard = Heard()
    generator = load_generator(source, heard, repository=settings().repository)
    try:
        prompt = tuple(generator.tokenizer.encode("def "))
        generator.engine.submit(Prompt("a", prompt, Sampling(8, temperature=0.8, seed=7)))
        assert heard.done.wait(90)
    finally:
        generator.engine.close()
    return heard.given


def test_a_language_job_is_metered_published_quantised_and_served(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.training.token_cost._ROUNDS", 1)
    told: list[str] = []
    result = run_job(tiny_job(), run="pycoder-test", tell=told.append, measure=measure)

    assert result.published == "pycoder@1"
    assert 0 < result.metrics["bits_per_byte"] < 8
    assert 0 < result.metrics["zstd_19"] < result.metrics["gzip_9"] < 4
    assert result.energy.source == "ledger"
    assert result.energy.by_phase_uj["step"] > 0
    repository = open_repository(settings().repository)
    base = repository.card("pycoder", "1")
    assert base.energy == result.energy
    assert base.data[0].licence == "PSF-2.0"
    assert base.token_cost is not None
    assert base.token_cost.uj_per_token > 0

    variant = publish_variant(
        repository, "pycoder", "1", Precision.INT8, measure=measure, clock=SystemClock(), tell=told.append
    )
    card = repository.card("pycoder", variant)
    assert card.metrics["bits_per_byte"] == pytest.approx(result.metrics["bits_per_byte"], rel=0.02)
    assert card.token_cost is not None
    assert card.token_cost.base_uj_per_token > 0

    assert continuation("repository:pycoder@1") == continuation("repository:pycoder@1")
    assert continuation("repository:pycoder@int8")
