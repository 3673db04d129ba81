"""The model repository of the Open Inference Protocol's extension: what is deployed, waking it, putting it to sleep.

Knows nothing of HTTP, gRPC or Ray. Loading and unloading never change what is deployed: a load is a call that starts a
replica and waits for it, an unload asks the replicas there are to go. Raises NotFound for what is not deployed,
InvalidInput for what a client cannot decide here, Unavailable when a model does not wake in time.
"""

from collections.abc import Iterable
from typing import Protocol

from app.console.catalogue import Catalogue, DeployedModel
from app.errors import InvalidInput, NotFound, Unavailable

_NOT_HERE = "config"
"""Parameters of Triton's load that would change what is deployed: this one, and files by `file:...`."""


class Sleepers(Protocol):
    """Who can wake a model and let it sleep, by the name of its application."""

    async def wake(self, application: str) -> None:
        """Return once a replica is ready. Raises Unavailable if none is in time."""

    async def let_sleep(self, application: str) -> None:
        """Ask a replica that runs to go. Raises Unavailable if it does not answer."""


class Repository:
    """The repository's calls, for HTTP and gRPC alike."""

    def __init__(self, catalogue: Catalogue, sleepers: Sleepers) -> None:
        self._catalogue = catalogue
        self._sleepers = sleepers

    async def index(self, only_ready: bool = False) -> tuple[DeployedModel, ...]:
        """All deployed models, or those that are awake."""
        return tuple(model for model in await self._catalogue.models() if model.is_awake or not only_ready)

    async def load(self, name: str, parameters: Iterable[str] = ()) -> None:
        """Wake model `name`: its default version, or `<model>@<version>`."""
        for parameter in parameters:
            if parameter == _NOT_HERE or parameter.startswith("file:"):
                raise InvalidInput(
                    f"parameter {parameter!r} would change what is deployed; use `joulekeeper deploy FILE` for that"
                )
        for model in await self._deployed(name):
            if model.name != name:
                continue
            if model.status != "RUNNING":
                raise Unavailable(f"model {name!r} is {model.status}: {model.message or 'try again'}")
            await self._sleepers.wake(name)

    async def unload(self, name: str) -> None:
        """Put model `name` to sleep with all its versions, or `<model>@<version>`; none is woken for it."""
        for model in await self._deployed(name):
            if model.is_awake:
                await self._sleepers.let_sleep(model.name)

    async def _deployed(self, name: str) -> list[DeployedModel]:
        models = await self._catalogue.models()
        found = [model for model in models if name in (model.name, model.model)]
        if not found:
            known = ", ".join(repr(model.name) for model in models) or "none"
            raise NotFound(f"no model {name!r} to load or unload; deployed: {known}")
        return found


def state_of(model: DeployedModel) -> tuple[str, str]:
    """State and reason of `model` as Triton spells them."""
    if model.is_awake:
        return "READY", ""
    if model.status == "RUNNING":
        return "UNAVAILABLE", "asleep; a request or a load wakes it"
    if model.status == "DEPLOYING":
        return "LOADING", model.message
    return "UNAVAILABLE", model.message or model.status
