"""The governor of concurrency on engines whose truth is known: prompts that queue, steps that grow with sequences."""

import pytest

from app.errors import InvalidInput
from app.policy.concurrency import ConcurrencyGovernor, TokenObjective, concurrency_grid
from tests.fixtures.engine_world import EngineWorld

GAPS = TokenObjective(gap_s=0.05)
BOTH = TokenObjective(gap_s=0.05, first_token_s=1.0)
GRID = concurrency_grid(64)


def growing_s(sequences):
    """10 ms and 1 ms a sequence: 32 take 42 ms, 48 take 58 ms."""
    return 0.010 + 0.001 * sequences


def shared_uj(sequences):
    """A step costs 10,000 uJ, a token 100 uJ."""
    return 10_000 / sequences + 100


def mostly(world):
    """The limit of most steps: between them others are tried."""
    return max(set(world.used), key=world.used.count)


def test_it_takes_the_most_sequences_whose_gaps_meet_the_objective():
    world, governor = EngineWorld(growing_s, shared_uj), ConcurrencyGovernor(GAPS, GRID)
    world.run(governor, 40).forget().run(governor, 60)
    assert world.uj_per_token <= 1.1 * shared_uj(32)
    assert world.late_gaps(0.05) <= 0.1
    assert mostly(world) == 32


def test_it_finds_the_cheapest_in_the_middle():
    def dear_at_both_ends_uj(sequences):
        return 10_000 / sequences + 100 + 40 * sequences  # least at 16

    world, governor = EngineWorld(lambda n: 0.01, dear_at_both_ends_uj), ConcurrencyGovernor(GAPS, GRID)
    world.run(governor, 40).forget().run(governor, 60)
    assert world.uj_per_token <= 1.1 * dear_at_both_ends_uj(16)


def test_it_takes_few_where_few_are_cheaper_and_the_load_allows_it():
    world = EngineWorld(lambda n: 0.002 * n, lambda n: 100.0 + 20 * n, prompts_per_s=5)
    governor = ConcurrencyGovernor(BOTH, GRID)
    world.run(governor, 120).forget().run(governor, 60)
    assert mostly(world) <= 2
    assert world.late_first_tokens(1.0) <= 0.05


def test_prompts_that_wait_too_long_get_more_sequences_though_fewer_cost_less():
    # 12 prompts/s of 40 tokens are 480 tokens/s: at n sequences n / step_s(n), of which 16 give 615, 8 give 444.
    world = EngineWorld(growing_s, lambda n: 100.0 + 5 * n, prompts_per_s=12)
    governor = ConcurrencyGovernor(BOTH, GRID, first=4)
    world.run(governor, 60).forget().run(governor, 120)
    assert world.late_first_tokens(1.0) <= 0.05
    assert mostly(world) >= 12


def test_more_load_than_any_limit_can_take_leaves_the_gaps_as_promised():
    world = EngineWorld(growing_s, shared_uj, prompts_per_s=100)
    governor = ConcurrencyGovernor(BOTH, GRID)
    world.run(governor, 60).forget().run(governor, 60)
    assert world.late_gaps(0.05) <= 0.1
    assert mostly(world) >= 24


def test_a_slower_engine_gets_fewer_sequences_and_a_faster_one_more():
    slowdown = {"by": 1.0}
    world = EngineWorld(lambda n: slowdown["by"] * growing_s(n), shared_uj)
    governor = ConcurrencyGovernor(GAPS, GRID)
    world.run(governor, 60)
    assert mostly(world) == 32
    slowdown["by"] = 2.0  # 12 take 44 ms, 16 take 52 ms
    world.run(governor, 20).forget().run(governor, 60)
    assert world.late_gaps(0.05) <= 0.12
    assert mostly(world) <= 12
    slowdown["by"] = 1.0
    world.run(governor, 120).forget().run(governor, 60)
    assert world.uj_per_token <= 1.1 * shared_uj(32)


def test_a_change_of_power_alone_does_not_make_it_leave_the_best():
    scale = {"by": 1.0}
    world = EngineWorld(growing_s, lambda n: scale["by"] * shared_uj(n))
    governor = ConcurrencyGovernor(GAPS, GRID)
    world.run(governor, 60)
    scale["by"] = 2.0
    world.run(governor, 60).forget().run(governor, 30)
    assert world.uj_per_token <= 1.1 * 2 * shared_uj(32)


def test_what_a_heavy_load_taught_holds_after_a_light_one():
    world = EngineWorld(growing_s, shared_uj, prompts_per_s=16)
    governor = ConcurrencyGovernor(BOTH, GRID)
    world.run(governor, 60)
    world.prompts_per_s = 1
    world.run(governor, 120)
    world.prompts_per_s = 16
    world.run(governor, 10).forget().run(governor, 60)
    assert world.late_gaps(0.05) <= 0.1
    assert world.late_first_tokens(1.0) <= 0.05


def test_a_limit_that_the_load_does_not_fill_stays():
    world, governor = EngineWorld(growing_s, shared_uj, prompts_per_s=1), ConcurrencyGovernor(BOTH, GRID, first=32)
    world.run(governor, 120)
    assert set(world.used) == {32}


def test_a_limit_that_the_load_does_not_fill_goes_where_gaps_are_too_long():
    # 6 prompts/s of 40 tokens run four at once and more by themselves; from 3 on steps take longer than 50 ms.
    world = EngineWorld(lambda n: 0.010 if n < 3 else 0.060, shared_uj, prompts_per_s=4)
    governor = ConcurrencyGovernor(BOTH, GRID, first=32)
    world.run(governor, 60).forget().run(governor, 60)
    assert world.late_gaps(0.05) <= 0.1


def test_where_nothing_meets_the_objective_it_takes_what_is_late_least():
    world, governor = EngineWorld(lambda n: 0.06 + 0.001 * n, shared_uj), ConcurrencyGovernor(GAPS, GRID)
    world.run(governor, 60).forget().run(governor, 60)
    assert mostly(world) <= 3  # 61 to 63 ms: near enough to be one
    assert "nothing meets" in governor.explain().reason


def test_it_explains_itself_with_alternatives_and_the_saving():
    world, governor = EngineWorld(growing_s, shared_uj), ConcurrencyGovernor(GAPS, GRID, first=4)
    assert governor.explain().reason == "nothing measured yet"
    assert governor.explain().expected_saving is None
    world.run(governor, 100)
    told = governor.explain()
    by_limit = {one.limit: one for one in told.alternatives}
    assert by_limit[32].meets
    assert by_limit[48].misses
    assert by_limit[4].uj_per_token == pytest.approx(shared_uj(4), rel=0.05)
    # 4 cost 2,600 uJ a token, 32 cost 412.5 uJ: 84 % less.
    assert told.expected_saving == pytest.approx(1 - 412.5 / 2600, abs=0.02)
    assert "32" in told.reason


def test_the_grid_has_both_ends_and_steps_of_at_most_a_doubling():
    assert concurrency_grid(64) == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
    assert concurrency_grid(100, least=5) == (5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 100)
    assert concurrency_grid(1) == (1,)


@pytest.mark.parametrize(("grid", "first"), [([], None), ([0, 4], None), ([2, 4], 3)])
def test_a_grid_that_cannot_be_is_an_error(grid, first):
    with pytest.raises(InvalidInput, match="limit"):
        ConcurrencyGovernor(GAPS, grid, first)
