"""Which models are deployed: read from Serve's own details, remembered for a moment, never waited for long.

Knows nothing of HTTP. An application is a model when its route lies below /v2/models/.

    catalogue = ServeCatalogue(details, clock)
    for model in await catalogue.models(): ...
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from app.clock import Clock
from app.errors import Unavailable
from app.units import NS_PER_S

logger = logging.getLogger(__name__)

MODELS_PREFIX = "/v2/models/"
_FRESH_NS = 1 * NS_PER_S
_PATIENCE_S = 2.0
"""A controller that takes longer is busy or gone; what was last known answers better than silence."""


@dataclass(frozen=True, slots=True)
class DeployedModel:
    """One Serve application that is a model."""

    name: str
    """Of the application: the model's, or for a version beside the default one `<model>@<version>`."""
    route: str
    status: str
    """As Serve spells it: RUNNING, DEPLOYING, ..."""
    deployed_at_s: float
    version: str = ""
    """As far as the application's name and arguments tell; a repository's latest is known to the model alone."""
    running_replicas: int = 0
    message: str = ""
    """Serve's words on the status."""

    @property
    def model(self) -> str:
        """What clients call it."""
        return self.name.partition("@")[0]

    @property
    def is_awake(self) -> bool:
        """Whether a replica answers at once."""
        return self.running_replicas > 0


class Catalogue(Protocol):
    """Who knows the models."""

    async def models(self) -> tuple[DeployedModel, ...]:
        """All deployed models by name. Raises Unavailable."""


def deployed_models(details: Mapping[str, Any]) -> tuple[DeployedModel, ...]:
    """The models among the applications of Serve's instance details, sorted by name."""
    found = []
    for name, application in details.get("applications", {}).items():
        config = application.get("deployed_app_config") or {}
        route = application.get("route_prefix") or config.get("route_prefix") or ""
        if route.startswith(MODELS_PREFIX) and application["status"] != "DELETING":
            found.append(
                DeployedModel(
                    name,
                    route,
                    application["status"],
                    application.get("last_deployed_time_s", 0.0),
                    version=_version(name, config.get("args") or {}),
                    running_replicas=_running_replicas(application),
                    message=application.get("message", ""),
                )
            )
    return tuple(sorted(found, key=lambda model: model.name))


def _version(application: str, args: Mapping[str, Any]) -> str:
    source = str(args.get("source", ""))
    by_default = "1" if source.startswith(("package:", "python:")) else source.partition("@")[2]
    return application.partition("@")[2] or str(args.get("version", "")) or by_default


def _running_replicas(application: Mapping[str, Any]) -> int:
    deployments = application.get("deployments", {}).values()
    return sum(replica["state"] == "RUNNING" for each in deployments for replica in each.get("replicas", ()))


class ServeCatalogue:
    """`Catalogue` over a source of Serve's details; answers within seconds whatever the source does."""

    def __init__(self, details: Callable[[], Awaitable[Mapping[str, Any]]], clock: Clock) -> None:
        self._details = details
        self._clock = clock
        self._known: tuple[DeployedModel, ...] | None = None
        self._known_at_ns = 0

    async def models(self) -> tuple[DeployedModel, ...]:
        now_ns = self._clock.monotonic_ns()
        if self._known is not None and now_ns - self._known_at_ns < _FRESH_NS:
            return self._known
        try:
            self._known = deployed_models(await asyncio.wait_for(self._details(), _PATIENCE_S))
            self._known_at_ns = now_ns
        except (TimeoutError, Unavailable) as error:
            if self._known is None:
                raise Unavailable(
                    "the list of models is not known yet: Serve's controller does not answer; try again"
                ) from error
            logger.warning("Serve's controller does not answer; the last known list of models is used")
        return self._known
