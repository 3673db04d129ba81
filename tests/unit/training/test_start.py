"""The part `start` of a job file: one end, sizes that the job can have, and every mistake named."""

from typing import Any

import pytest

from app.errors import InvalidInput
from app.training.job import TrainJob
from tests.fixtures.small_training import job


def with_start(**start: Any) -> TrainJob:
    return job(workers={"min": 1, "max": 4}, start=start)


def test_a_deadline_or_slack_but_not_both() -> None:
    found = with_start(deadline="2026-12-01T06:00:00Z")
    assert found == TrainJob.model_validate(found.model_dump(mode="json"))
    for start in ({}, {"deadline": "2026-12-01T06:00:00Z", "slack_hours": 3}):
        with pytest.raises(InvalidInput, match=r"start: .*one of deadline and slack_hours"):
            with_start(**start)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"deadline": "2026-12-01T06:00:00"}, "start.deadline: .*timezone"),
        ({"slack_hours": -1}, "start.slack_hours: must be >= 0.0, got -1"),
        ({"slack_hours": 3, "slak": 1}, "start.slak: unknown key; did you mean slack_hours"),
        ({"slack_hours": 3, "speeds": {1: 1, 4: 3, 8: 5}}, "start.speeds: 8 workers are not within workers = 1 to 4"),
        ({"slack_hours": 3, "speeds": {1: 1, 2: 1.9}}, "start.speeds: says nothing of workers.max = 4; add it"),
    ],
)
def test_what_cannot_be_meant_is_named(start: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        with_start(**start)
