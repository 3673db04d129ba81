"""How near receipts of language models come to a truth that nobody is told, in simulated time: the bars of issue 5.

Powers and durations of the phases are hidden; error of a request's energy: median at most 3 %, 99th percentile at most
8 %, and the receipts add up to the account of requests to the microjoule, those of the first seconds included.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.token_truth import NS_PER_S, SCENES
from tests.fixtures.token_world import TokenWorld

LEARNING_S, MEDIAN, P99 = 10, 0.03, 0.08


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_receipts_come_near_the_truth_and_add_up(tmp_path: Path, scene: str):
    world = TokenWorld(tmp_path, SCENES[scene](1, 40))
    outcomes = world.play()
    assert sum(outcome.booked_uj for outcome in outcomes) == world.requests_uj
    learned_ns = world.plan.steps[0].start_ns + LEARNING_S * NS_PER_S
    later = [outcome for outcome in outcomes if outcome.truth.begun_ns >= learned_ns]
    errors = [outcome.error for outcome in later]
    assert np.median(errors) <= MEDIAN
    assert np.quantile(errors, 0.99) <= P99
    by_tokens = [abs(o.truth.by_tokens_uj - o.truth.energy_uj) / o.truth.energy_uj for o in later]
    assert np.median(by_tokens) > 3 * np.median(errors)
