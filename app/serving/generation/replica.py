"""One replica of one language model: one engine, and the doors of HTTP and gRPC to it.

A plain class, tested as such; Serve's wrapper is at the foot, the builder in app/serving/build.py. Imports nothing
heavy: the process joins the books before the engine brings torch, so that its cold start is charged to `load`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ray import serve

from app.access.gate import Gate
from app.config import settings
from app.metering.access_feed import open_gate
from app.protocol.model_statistics import ModelCounts
from app.serving.admission import Admission
from app.serving.booked_model import open_client, purse_of
from app.serving.generation.args import GeneratorArgs
from app.serving.generation.grpc_door import GeneratorGrpcDoor
from app.serving.generation.loading import load
from app.serving.generation.model import GenerationModel, Load
from app.serving.generation.openai import handlers_of
from app.serving.http_door import HttpDoor
from app.serving.openai_door import OpenAIDoor, TwoDoors
from app.serving.own_process import settle_in
from app.serving.warm_replica import WarmReplica

if TYPE_CHECKING:
    from app.engine.purse import Purse
    from app.metering.client import WorkClient


class GeneratorReplica(GeneratorGrpcDoor, WarmReplica):
    """Answers once `load` has returned."""

    model: GenerationModel
    counts: ModelCounts

    def __init__(
        self,
        args: GeneratorArgs,
        *,
        open_client: Callable[[GeneratorArgs], "WorkClient"] = open_client,
        load: Load = load,
        open_gate: Callable[[str, str], Gate] = open_gate,
        purse: "Purse | None" = None,
    ) -> None:
        self.admission = Admission(open_gate(args.label, args.tenant), args.name, args.version, purse)
        self.counts = ModelCounts()
        client = self.admission.counted(open_client(args))
        self.model = GenerationModel(args, client, load, self.admission.charge, self.counts)
        handlers = handlers_of(self.model)
        self.http = TwoDoors(
            HttpDoor(self.model, self.counts, self.admission),
            OpenAIDoor(args, self.admission, handlers, self.counts, args.stalled_client_s),
        )

    async def load(self) -> None:
        """Bring the model into service."""
        await self.model.load()

    def __serve_build_asgi_app__(self) -> TwoDoors:
        return self.http


@serve.ingress()
class ServedGenerator(GeneratorReplica):
    """What Serve starts: a replica that is loaded before Serve calls it ready."""

    async def __init__(self, args: GeneratorArgs) -> None:  # type: ignore[misc]
        settle_in()
        GeneratorReplica.__init__(self, args, purse=purse_of(args))
        self.findings_directory = settings().state_dir if settings().metering else None
        await self.load()
