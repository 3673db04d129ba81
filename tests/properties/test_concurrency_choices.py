"""The governor of concurrency in worlds that hypothesis makes up.

Settings are learnt from noisy steps, so what is asserted of the choice is asserted of most of the time.
"""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.policy.concurrency import ConcurrencyGovernor, TokenObjective, concurrency_grid
from app.policy.steps_seen import StepSeen
from tests.fixtures.engine_world import EngineWorld

GAP_S = 0.05
OBJECTIVE = TokenObjective(gap_s=GAP_S)
WORLDS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

grids = st.integers(1, 96).map(concurrency_grid)
fixed_s = st.floats(0.002, 0.04)
each_s = st.floats(0.0001, 0.004)
fixed_uj = st.floats(0, 20_000)
each_uj = st.floats(50, 500)
anything = st.builds(
    StepSeen,
    at_s=st.floats(0, 1e6),
    seconds=st.floats(0, 10),
    sequences=st.floats(0, 1000),
    waiting=st.integers(0, 1000),
    tokens=st.integers(0, 10_000),
    energy_uj=st.integers(0, 10**12),
    gaps=st.lists(st.tuples(st.floats(0, 100), st.integers(1, 500)), max_size=60),
    first_tokens_s=st.lists(st.floats(0, 1000), max_size=20),
)


@given(grid=grids, seen=st.lists(anything, max_size=60), first_token_s=st.none() | st.floats(0.01, 10))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_it_is_told_the_limit_is_of_the_grid_and_can_be_explained(grid, seen, first_token_s):
    governor = ConcurrencyGovernor(TokenObjective(gap_s=GAP_S, first_token_s=first_token_s), grid)
    for one in sorted(seen, key=lambda step: step.at_s):
        governor.observe(one)
        told = governor.explain()
        assert governor.limit() == told.limit
        assert told.limit in grid
        assert {alternative.limit for alternative in told.alternatives} <= set(grid)
        assert not any(alternative.meets and alternative.misses for alternative in told.alternatives)


def feasible(grid, step_s, margin):
    return [limit for limit in grid if step_s(limit) * margin <= GAP_S]


@given(grid=grids, fixed_s=fixed_s, each_s=each_s, fixed_uj=fixed_uj, each_uj=each_uj, seed=st.integers(0, 99))
@WORLDS
def test_where_more_is_slower_and_cheaper_it_finds_the_cheapest_that_meets(
    grid, fixed_s, each_s, fixed_uj, each_uj, seed
):
    def step_s(sequences):
        return fixed_s + each_s * sequences

    def token_uj(sequences):
        return fixed_uj / sequences + each_uj

    world, governor = EngineWorld(step_s, token_uj, seed=seed), ConcurrencyGovernor(OBJECTIVE, grid)
    world.run(governor, 60).forget().run(governor, 40)
    safe = feasible(grid, step_s, margin=1.15)
    if safe:  # 5 % noise: a step that is 15 % faster than it must be is late once in 300
        assert world.late_gaps(GAP_S) <= 0.15
        assert world.uj_per_token <= 1.15 * min(map(token_uj, safe))


@given(grid=grids, fixed_s=fixed_s, each_s=each_s, seed=st.integers(0, 99))
@WORLDS
def test_where_more_is_slower_and_dearer_it_finds_the_least(grid, fixed_s, each_s, seed):
    world = EngineWorld(lambda n: fixed_s + each_s * n, lambda n: 100.0 + 10 * n, seed=seed)
    governor = ConcurrencyGovernor(OBJECTIVE, grid)
    world.run(governor, 80).forget().run(governor, 40)
    if fixed_s + each_s * min(grid) <= GAP_S / 1.15:
        # Gaps of one sequence may be longer than those of none, never cheaper ones ignored.
        assert world.uj_per_token <= 1.15 * (100 + 10 * min(grid))


@given(grid=grids, costs=st.data(), seed=st.integers(0, 99))
@WORLDS
def test_it_never_stays_where_gaps_are_too_long_if_another_limit_meets(grid, costs, seed):
    """Costs are anything; only gaps grow with the sequences."""
    cost = {limit: costs.draw(st.floats(50, 5000)) for limit in grid}
    slow_from = costs.draw(st.sampled_from(grid[1:])) if len(grid) > 1 else 2

    def token_uj(sequences):
        return cost[next(limit for limit in grid if limit >= sequences)]

    world = EngineWorld(lambda n: 0.02 if n < slow_from else 0.08, token_uj, seed=seed)
    governor = ConcurrencyGovernor(OBJECTIVE, grid)
    world.run(governor, 60).forget().run(governor, 40)
    assert world.late_gaps(GAP_S) <= 0.15


@given(before=st.floats(0.3, 1.0), after=st.floats(1.0, 3.0), there_and_back=st.booleans(), seed=st.integers(0, 99))
@WORLDS
def test_a_world_that_changes_its_pace_is_followed(before, after, there_and_back, seed):
    """The objective always; the cost nearly always: seldom it stays at fewer sequences than the world now allows
    (docs/generation/governor.md), at 1.36 times the least where that was looked for."""
    grid, pace = concurrency_grid(64), {"by": before}

    def step_s(sequences):
        return pace["by"] * (0.008 + 0.0008 * sequences)

    def token_uj(sequences):
        return 10_000 / sequences + 100

    world, governor = EngineWorld(step_s, token_uj, seed=seed), ConcurrencyGovernor(OBJECTIVE, grid)
    for by in [before, after, before] if there_and_back else [after, before, after]:
        pace["by"] = by
        world.run(governor, 100).forget().run(governor, 40)
        safe = feasible(grid, step_s, margin=1.15)
        assert world.late_gaps(GAP_S) <= 0.2
        assert world.uj_per_token <= 2.5 * min(map(token_uj, safe))
