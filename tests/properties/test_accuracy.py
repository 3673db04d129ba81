"""How near attribution comes to a truth that it cannot see: the bars of the accuracy benchmark, in simulated time.

At ten readings a second, requests of 500 ms and more: median error at most 2 %, 99th percentile at most 5 %; shorter
ones within one and a half ticks of the counter at their own power; no posting off by more than its uncertainty.
"""

import random
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.power_scenarios import SCENES
from tests.fixtures.power_world import PowerWorld

# Two processes of which NVML says nothing and that overlap before either was seen alone are a guess for that long.
LONG_MS, MEDIAN, P99, TICKS, WITHIN = 500, 0.02, 0.05, 1.5, 0.99


@pytest.mark.parametrize("tick_ms", [20, 100])
@pytest.mark.parametrize("scene", sorted(SCENES))
def test_attribution_comes_near_the_truth(tmp_path: Path, scene: str, tick_ms: int):
    world = PowerWorld(tmp_path, tick_ms=tick_ms)
    SCENES[scene](world, random.Random(1))
    outcomes = world.play()
    long = [outcome.error for outcome in outcomes if outcome.duration_ms >= LONG_MS]
    short = [outcome.of_bound(tick_ms) for outcome in outcomes if outcome.duration_ms < LONG_MS]
    if long:
        assert np.median(long) <= MEDIAN
        assert np.quantile(long, 0.99) <= P99
    if short:
        assert np.quantile(short, 0.99) <= TICKS
    assert np.mean(world.within_uncertainty()) >= WITHIN
