"""One replica that serves many variants of a model: the doors of a model, with a variant behind every version.

A plain class, tested as such; Serve's wrapper and the builder are at the foot (`import_path: app.serving.pool:pool`).
Each variant has accounts of its own for its requests and for each time it is loaded; while nobody asks, the process is
warm for the pool. A variant that has to be loaded first makes its caller wait, after the caller was admitted.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from app.access.gate import Gate
from app.config import settings
from app.domain.account import load_account
from app.errors import JoulekeeperError, NotFound
from app.metering.access_feed import open_gate
from app.metering.spending_feed import open_purse
from app.protocol.generated import open_inference_pb2 as pb
from app.protocol.model_statistics import ModelCounts
from app.serving.admission import Admission
from app.serving.args import ModelArgs
from app.serving.booked_model import join_books
from app.serving.build import QUIET
from app.serving.grpc_door import GrpcDoor, refused
from app.serving.http_body import Receive
from app.serving.http_door import HttpDoor, Scope, Send, send_refusal
from app.serving.metered import MeteredModel
from app.serving.openai_door import is_openai_call, send_openai_refusal
from app.serving.own_process import settle_in
from app.serving.pool_args import PoolArgs, args_of, offered_of, variants_of
from app.serving.replica import ModelReplica, load_runner
from app.serving.residents import Residents
from app.serving.steered import Saying, is_open_choice, is_steered, saying

if TYPE_CHECKING:
    from app.engine.purse import Purse
    from app.metering.client import OpenSlice, WorkClient
    from app.models.runners.base import Runner

POOL_VERSION = "pool"
"""The version in the pool's own warm account."""
_MB = 1_000_000
_SWEEP_S = 1.0


def open_client(args: PoolArgs) -> "WorkClient":
    """Join the books as the keeper of a pool."""
    return join_books(args.name, POOL_VERSION)


class _VariantClient:
    """The pool's client as one variant has it: its loads begin when they begin, and it does not leave the books."""

    def __init__(self, client: "WorkClient", since_birth: bool) -> None:
        self._client, self._since_birth = client, since_birth

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def begin_load(self, model: str, version: str) -> "OpenSlice":
        if self._since_birth:
            return self._client.begin_load(model, version)
        return self._client.begin(load_account(model, version))

    def close(self) -> None:
        """The pool closes it."""


@dataclass(frozen=True, slots=True)
class _Face:
    """A variant for questions that need none of it in memory: is it served here, is it ready."""

    args: ModelArgs
    ready: bool = True
    """It is loaded when it is asked for: nobody has to wait for it before he may ask."""

    @property
    def label(self) -> str:
        return f"{self.args.name}@{self.args.version}"

    def check_version(self, version: str) -> None:
        """Only asked for the variant itself."""


class PoolReplica(GrpcDoor):
    """Answers for every variant. Loads none before it is asked for."""

    def __init__(
        self,
        args: PoolArgs,
        *,
        open_client: Callable[[PoolArgs], "WorkClient"] = open_client,
        load_runner: Callable[[ModelArgs], "Runner"] = load_runner,
        open_gate: Callable[[str, str], Gate] = open_gate,
        purse: "Purse | None" = None,
    ) -> None:
        """`purse`: what the pool may spend and who answers those that name no variant; None: the default one does."""
        self.args, self._purse = args, purse
        self._gate = open_gate(f"{args.name}@{POOL_VERSION}", args.tenant)
        self.admission = Admission(self._gate, args.name)
        self._client, self._load_runner = open_client(args), load_runner
        self._counts = {variant: ModelCounts() for variant in args.variants}
        self.model = self._face(args.default)
        self._born = True
        self.residents: Residents[ModelReplica] = Residents(
            load=self._load,
            unload=lambda _, replica: replica.model.close(),
            size_of=lambda replica: replica.model.memory_bytes,
            max_bytes=round(args.max_memory_mb * _MB),
        )
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to let go what nobody asks for."""
        self._sweeping = asyncio.create_task(self._sweep())

    async def wake(self) -> None:
        """Nothing: a variant is loaded when it is asked for."""

    async def let_sleep(self) -> None:
        """Let go of every variant that nobody uses now."""
        await self.residents.leave_idle(0)

    def close(self) -> None:
        """Unload everything and leave the books."""
        if self._sweeping:
            self._sweeping.cancel()
        self.residents.close()
        self._client.close()

    def __serve_build_asgi_app__(self) -> "_HttpDoor":
        return _HttpDoor(self)

    def __del__(self) -> None:
        # Absent when `__init__` failed.
        if "_sweeping" in self.__dict__:
            self.residents.close()
            self._client.close()

    async def answer_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application: the variant in the path, else the default one."""
        try:
            variant = self._variant(_version_in(scope))
            is_steered.set(False)
            if self._purse and is_open_choice(scope):
                variant = self._chosen(lambda: self.admission.of_http(scope, requests=0))
                send = saying(send, variant, self._purse.why)
            if scope["type"] != "http" or scope["path"].endswith("/ready"):
                await HttpDoor(self._face(variant), self._counts[variant], self.admission)(scope, receive, send)
                return
            if not self.residents.is_held(variant):
                self.admission.of_http(scope, requests=0)
            async with self.residents.use(variant) as replica:
                await replica.http(scope, receive, send)
        except JoulekeeperError as error:
            await (send_openai_refusal if is_openai_call(scope) else send_refusal)(send, error)

    async def ModelInfer(self, request: pb.ModelInferRequest, grpc_context: Any) -> pb.ModelInferResponse:
        target = (request.model_name, request.model_version)
        return await self._by_grpc("ModelInfer", request, target, grpc_context, pb.ModelInferResponse())

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, grpc_context: Any) -> pb.ModelMetadataResponse:
        target = (request.name, request.version)
        return await self._by_grpc("ModelMetadata", request, target, grpc_context, pb.ModelMetadataResponse())

    async def ModelConfig(self, request: pb.ModelConfigRequest, grpc_context: Any) -> pb.ModelConfigResponse:
        target = (request.name, request.version)
        return await self._by_grpc("ModelConfig", request, target, grpc_context, pb.ModelConfigResponse())

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, grpc_context: Any
    ) -> pb.ModelStatisticsResponse:
        target = (request.name or self.args.name, request.version)
        return await self._by_grpc("ModelStatistics", request, target, grpc_context, pb.ModelStatisticsResponse())

    async def _by_grpc(self, method: str, request: Any, target: tuple[str, str], grpc_context: Any, empty: Any) -> Any:
        try:
            self._check_target(*target)
            variant = self._variant(target[1])
            is_steered.set(False)
            if self._purse and method == "ModelInfer" and not target[1]:
                variant = self._chosen(lambda: self.admission.of_grpc(grpc_context, method, requests=0))
                grpc_context = Saying(grpc_context, variant, self._purse.why)
            if not self.residents.is_held(variant):
                self.admission.of_grpc(grpc_context, method, requests=0)
            async with self.residents.use(variant) as replica:
                return await getattr(replica, method)(request, grpc_context)
        except JoulekeeperError as error:
            return refused(grpc_context, error, empty)

    async def _infer(
        self, request: pb.ModelInferRequest, grpc_context: Any, method: str
    ) -> tuple[pb.ModelInferResponse, list[tuple[str, str]]]:
        """One message of a stream."""
        self._check_target(request.model_name, request.model_version)
        variant, is_open = self._variant(request.model_version), not request.model_version
        if self._purse and is_open:
            variant = self._purse.choose()
        is_steered.set(is_open)
        async with self.residents.use(variant) as replica:
            return await replica._infer(request, grpc_context, method)

    def _chosen(self, admit: Callable[[], object]) -> str:
        """The variant whose turn it is; strangers are not told of budgets. Raises OverQuota, Unavailable."""
        assert self._purse is not None, "asked before"  # noqa: S101
        try:
            variant = self._purse.choose()
        except JoulekeeperError:
            admit()
            raise
        is_steered.set(True)
        return variant

    def _check_target(self, name: str, version: str) -> None:
        super()._check_target(name, "")
        self._variant(version)

    def _face(self, variant: str) -> MeteredModel:
        return cast("MeteredModel", _Face(args_of(self.args, variant)))

    def _variant(self, version: str) -> str:
        variant = version or self.args.default
        if variant not in self.args.variants:
            known = ", ".join(list(self.args.variants)[:10])
            raise NotFound(f"{self.args.name} has no version {variant!r} here; there are {known}")
        return variant

    async def _load(self, variant: str) -> ModelReplica:
        client = cast("WorkClient", _VariantClient(self._client, self._born))
        self._born = False
        replica = ModelReplica(
            args_of(self.args, variant),
            open_client=lambda _: client,
            load_runner=self._load_runner,
            open_gate=lambda *_: self._gate,
            counts=self._counts[variant],
            purse=self._purse,
        )
        try:
            await replica.load()
        except BaseException:
            replica.model.close()
            raise
        return replica

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            await self.residents.leave_idle(self.args.idle_timeout_s)


class _HttpDoor:
    """The ASGI application; uvicorn would take a bound method for one of ASGI 2."""

    def __init__(self, pool: PoolReplica) -> None:
        self._pool = pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._pool.answer_http(scope, receive, send)


def _version_in(scope: Scope) -> str:
    """The version that the path names, empty if none."""
    parts = str(scope.get("path", ""))[len(scope.get("root_path", "")) :].strip("/").split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "versions" else ""


@serve.ingress()
class ServedPool(PoolReplica):
    """What Serve starts. It is ready with nothing loaded: waking a pool costs no model."""

    async def __init__(self, args: PoolArgs) -> None:  # type: ignore[misc]
        settle_in()
        purse = open_purse(f"{args.name}@{POOL_VERSION}", args.name, args.spending, offered_of(args))
        PoolReplica.__init__(self, args, purse=purse)
        await self.start()


AUTOSCALING = AutoscalingConfig(
    min_replicas=0, max_replicas=1, downscale_delay_s=300, look_back_period_s=2, metrics_interval_s=0.5
)
"""One replica, from zero and back. Its models leave by themselves; an empty process is kept for five minutes."""

_pool = serve.deployment(
    name="Model",
    autoscaling_config=AUTOSCALING,
    ray_actor_options={"num_cpus": 0.5},
    max_ongoing_requests=256,
    graceful_shutdown_timeout_s=10,
    graceful_shutdown_wait_loop_s=0.5,
    logging_config=QUIET,
)(ServedPool)


def pool(args: PoolArgs) -> Application:
    """The application that serves a pool. Raises InvalidInput or NotFound for variants that cannot be."""
    return _pool.bind(variants_of(args, settings().repository))
