"""One replica of one language model: one engine, and the doors of HTTP and gRPC to it.

A plain class, tested as such; Serve's wrapper is at the foot, the builder in app/serving/build.py. Imports nothing
heavy: the process joins the books before the engine brings torch, so that its cold start is charged to `load`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ray import serve

from app.access.gate import Gate
from app.domain.account import warm_account
from app.errors import Unavailable
from app.metering.access_feed import open_gate
from app.protocol.model_statistics import ModelCounts
from app.serving.admission import Admission
from app.serving.generation.args import GeneratorArgs
from app.serving.generation.grpc_door import GeneratorGrpcDoor
from app.serving.generation.loading import load
from app.serving.generation.model import GenerationModel, Load
from app.serving.generation.openai import handlers_of
from app.serving.http_door import HttpDoor
from app.serving.openai_door import OpenAIDoor, TwoDoors
from app.serving.own_process import settle_in

if TYPE_CHECKING:
    from app.metering.client import WorkClient


def open_client(args: GeneratorArgs) -> "WorkClient":
    """Join the books as the keeper of a warm model."""
    from app.metering.client import WorkClient
    from app.metering.devices import visible_accelerators

    return WorkClient.open(warm_account(args.name, args.version), devices=visible_accelerators())


class GeneratorReplica(GeneratorGrpcDoor):
    """Answers once `load` has returned."""

    def __init__(
        self,
        args: GeneratorArgs,
        *,
        open_client: Callable[[GeneratorArgs], "WorkClient"] = open_client,
        load: Load = load,
        open_gate: Callable[[str, str], Gate] = open_gate,
    ) -> None:
        self.admission = Admission(open_gate(args.label, args.tenant), args.name)
        self.counts = ModelCounts()
        client = self.admission.counted(open_client(args))
        self.model = GenerationModel(args, client, load, self.admission.charge, self.counts)
        self._rested_at = -1
        handlers = handlers_of(self.model)
        self.http = TwoDoors(
            HttpDoor(self.model, self.counts, self.admission),
            OpenAIDoor(args, self.admission, handlers, self.counts, args.stalled_client_s),
        )

    async def load(self) -> None:
        """Bring the model into service."""
        await self.model.load()

    async def wake(self) -> None:
        """Nothing: whoever is answered has woken the model."""

    async def let_sleep(self) -> None:
        """Ask to be put to sleep, as soon as nobody is served any more; the next request takes that back."""
        self._rested_at = self.counts.success.count

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve's autoscaling policy (autoscale.py) hears of this replica; see `ModelReplica`."""
        return self.model.stats() | {"sleep_wanted": float(self._rested_at == self.counts.success.count)}

    def check_health(self) -> None:
        """Raises Unavailable when the model does not answer any more."""
        if not self.model.ready:
            raise Unavailable(f"{self.model.label} is not loaded")

    def __serve_build_asgi_app__(self) -> TwoDoors:
        return self.http

    def __del__(self) -> None:
        # Absent when `__init__` failed.
        if "model" in self.__dict__:
            self.model.close()


@serve.ingress()
class ServedGenerator(GeneratorReplica):
    """What Serve starts: a replica that is loaded before Serve calls it ready."""

    async def __init__(self, args: GeneratorArgs) -> None:  # type: ignore[misc]
        settle_in()
        GeneratorReplica.__init__(self, args)
        await self.load()
