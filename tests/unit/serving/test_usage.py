"""When a model was asked, as its replica tells it."""

import pytest

from app.serving.usage import Usage
from app.units import NS_PER_S


class Wall:
    def __init__(self):
        self.now_s = 1000.0

    def wall_ns(self):
        return round(self.now_s * NS_PER_S)


@pytest.fixture
def wall():
    return Wall()


def test_a_visit_lasts_while_any_request_does(wall):
    usage = Usage(wall)
    wall.now_s = 1010.0
    usage.begin()
    wall.now_s = 1011.0
    usage.begin()
    usage.end()
    assert usage.stats() == {"asked": 2.0, "busy_from_s": 1010.0, "idle_from_s": 0.0, "idle_s": 10.0}
    wall.now_s = 1015.0
    usage.end()
    wall.now_s = 1018.0
    assert usage.stats() == {"asked": 2.0, "busy_from_s": 1010.0, "idle_from_s": 1015.0, "idle_s": 13.0}


def test_never_asked_it_rests_since_it_was_loaded(wall):
    usage = Usage(wall)
    wall.now_s = 1004.0
    assert usage.stats() == {"asked": 0.0, "busy_from_s": 0.0, "idle_from_s": 1000.0, "idle_s": 4.0}
