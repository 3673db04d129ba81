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
    """One Serve application that is a model. `status` as Serve spells it: RUNNING, DEPLOYING, ..."""

    name: str
    route: str
    status: str
    deployed_at_s: float


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
                DeployedModel(name, route, application["status"], application.get("last_deployed_time_s", 0.0))
            )
    return tuple(sorted(found, key=lambda model: model.name))


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
