"""One replica of one model: the doors, HTTP and gRPC, to a metered model.

A plain class, tested as such; Serve's wrapper is at the foot. Serve finds the HTTP door through
`__serve_build_asgi_app__` and the gRPC methods by their names in the service. Imports nothing heavy: the process
joins the books (`open_client`) before the runner brings torch, so that its cold start is charged to `load`.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import serve

from app.access.gate import Gate
from app.config import settings
from app.metering.access_feed import open_gate
from app.protocol.messages import InferRequest
from app.protocol.model_statistics import ModelCounts
from app.serving.admission import Admission
from app.serving.args import ModelArgs
from app.serving.booked_model import open_client, purse_of
from app.serving.embeddings import Embedder
from app.serving.grpc_door import GrpcDoor
from app.serving.http_door import HttpDoor
from app.serving.metered import MeteredModel
from app.serving.openai_door import OpenAIDoor, TwoDoors
from app.serving.own_process import settle_in
from app.serving.shadow import SHADOW_TENANT, ShadowSender
from app.serving.traffic import application_of
from app.serving.warm_replica import WarmReplica

if TYPE_CHECKING:
    from app.engine.purse import Purse
    from app.metering.client import WorkClient
    from app.models.runners.base import Runner


def load_runner(args: ModelArgs) -> "Runner":
    """The runner that `args` ask for. Raises what app/models/runners/load.py raises."""
    from app.models.runners.load import load_runner

    return load_runner(
        args.source,
        device=device_of(args.device),
        repository=settings().repository,
        source_args=args.source_args,
    )


class ModelReplica(GrpcDoor, WarmReplica):
    """Answers once `load` has returned."""

    model: MeteredModel
    counts: ModelCounts

    def __init__(
        self,
        args: ModelArgs,
        *,
        open_client: Callable[[ModelArgs], "WorkClient"] = open_client,
        load_runner: Callable[[ModelArgs], "Runner"] = load_runner,
        open_gate: Callable[[str, str], Gate] = open_gate,
        counts: ModelCounts | None = None,
        purse: "Purse | None" = None,
    ) -> None:
        gate = open_gate(f"{args.name}@{args.version}", args.tenant)
        self.admission = Admission(gate, args.name, args.version, purse)
        self.counts = counts or ModelCounts()
        self.model = MeteredModel(args, self.admission.counted(open_client(args)), load_runner, self.counts)
        if args.shadow:
            self.model.shadow = ShadowSender(args.shadow, VersionHandles(args.name, args.version).send)
        self.http = TwoDoors(
            HttpDoor(self.model, self.counts, self.admission),
            OpenAIDoor(args, self.admission, {"embeddings": Embedder(self.model, self.admission)}, self.counts),
        )

    async def load(self) -> None:
        """Bring the model into service."""
        await self.model.load()

    async def take_copy(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Answer a copy of another version's request, for nobody; called through Serve's handle only."""
        await self.model.answer(lambda: InferRequest("", dict(inputs)), lambda _: b"", tenant=SHADOW_TENANT)

    def __serve_build_asgi_app__(self) -> TwoDoors:
        return self.http


class VersionHandles:
    """The ways to the other versions of a model, found when they are first used."""

    def __init__(self, model: str, own_version: str) -> None:
        self._model, self._own_version = model, own_version
        self._found: dict[str, Any] = {}

    async def send(self, version: str, inputs: Mapping[str, np.ndarray]) -> None:
        """Have `version` answer `inputs`. Raises what Serve raises where it is not deployed."""
        if version not in self._found:
            application = application_of(self._model, version, self._own_version)
            # Asks the controller, and waits for it.
            self._found[version] = await asyncio.to_thread(serve.get_app_handle, application)
        try:
            await self._found[version].take_copy.remote(dict(inputs))
        except Exception:
            # It may have been deployed anew.
            self._found.pop(version, None)
            raise


def device_of(wanted: str) -> str:
    """The device that `wanted` means in this replica."""
    if wanted != "auto":
        return wanted
    from app.metering.devices import visible_accelerators

    if not visible_accelerators():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@serve.ingress()
class ServedModel(ModelReplica):
    """What Serve starts: a replica that is loaded before Serve calls it ready."""

    async def __init__(self, args: ModelArgs) -> None:  # type: ignore[misc]
        settle_in()
        ModelReplica.__init__(self, args, purse=purse_of(args))
        self.findings_directory = settings().state_dir if settings().metering else None
        await self.load()
