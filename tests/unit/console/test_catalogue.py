"""Which models are deployed."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from app.clock import ManualClock
from app.console.catalogue import ServeCatalogue, deployed_models
from app.errors import Unavailable

DETAILS = {
    "applications": {
        "minilm": {"status": "RUNNING", "route_prefix": "/v2/models/minilm", "last_deployed_time_s": 7.0},
        "console": {"status": "RUNNING", "route_prefix": "/"},
        "digits": {
            "status": "DEPLOYING",
            "route_prefix": None,
            "deployed_app_config": {"route_prefix": "/v2/models/digits"},
        },
        "old": {"status": "DELETING", "route_prefix": "/v2/models/old"},
        "hidden": {"status": "RUNNING", "route_prefix": None, "deployed_app_config": None},
    }
}


class Source:
    """Serve's details, or a failure, counted."""

    def __init__(self, answer: Mapping[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked = 0

    async def __call__(self) -> Mapping[str, Any]:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_model_is_an_application_below_the_models_route() -> None:
    assert [(model.name, model.status) for model in deployed_models(DETAILS)] == [
        ("digits", "DEPLOYING"),
        ("minilm", "RUNNING"),
    ]
    assert deployed_models({}) == ()


def test_serve_is_asked_once_a_second_at_most() -> None:
    source, clock = Source(DETAILS), ManualClock()
    catalogue = ServeCatalogue(source, clock)
    asyncio.run(catalogue.models())
    clock.advance(900_000_000)
    asyncio.run(catalogue.models())
    assert source.asked == 1
    clock.advance(200_000_000)
    asyncio.run(catalogue.models())
    assert source.asked == 2


def test_the_last_known_list_answers_while_the_controller_does_not() -> None:
    source, clock = Source(DETAILS), ManualClock()
    catalogue = ServeCatalogue(source, clock)
    known = asyncio.run(catalogue.models())
    clock.advance(5_000_000_000)
    source.answer = Unavailable("gone")
    assert asyncio.run(catalogue.models()) == known


def test_a_list_never_known_is_said_to_be_unknown() -> None:
    with pytest.raises(Unavailable, match="not known yet"):
        asyncio.run(ServeCatalogue(Source(TimeoutError()), ManualClock()).models())
