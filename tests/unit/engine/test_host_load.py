"""Who kept the host busy between two snapshots."""

from app.engine.host_load import HostLoad
from app.sensors.process_table import ProcessSnapshot
from app.units import NS_PER_MS

MS = NS_PER_MS
OURS = frozenset({7})


def snapshot(busy_ms: float, ray: tuple[int, ...] = (), **cpu_ms: float) -> ProcessSnapshot:
    """CPU milliseconds by pid, written p7=..., of which `ray` are Ray's."""
    by_pid = {int(name[1:]): round(used * MS) for name, used in cpu_ms.items()}
    return ProcessSnapshot(round(busy_ms * MS), by_pid, frozenset(ray))


def test_busy_time_is_ours_rays_and_the_others():
    use = HostLoad().between(
        snapshot(1000, (7, 9), p7=100, p9=50), snapshot(1100, (7, 9), p7=160, p9=60), OURS, watched=True
    )
    assert use.by_pid[7] == 60 * MS
    assert (use.others.system, use.others.foreign) == (10 * MS, 30 * MS)


def test_a_newborn_of_ray_used_all_its_time_in_the_interval():
    use = HostLoad().between(snapshot(0), snapshot(50, (9,), p9=20), OURS, watched=True)
    assert (use.others.system, use.others.foreign) == (20 * MS, 30 * MS)


def test_the_past_of_a_process_that_has_only_now_said_it_is_ours_is_not_of_this_interval():
    use = HostLoad().between(snapshot(0), snapshot(50, p7=9_000), OURS, watched=True)
    assert use.by_pid == {}
    assert use.others.foreign == 50 * MS


def test_a_process_that_went_leaves_its_time_to_the_others():
    use = HostLoad().between(snapshot(0, p7=10), snapshot(50), OURS, watched=True)
    assert (use.by_pid, use.others.foreign) == ({}, 50 * MS)


def test_what_the_jiffies_have_not_told_yet_is_carried():
    load = HostLoad()
    first = load.between(snapshot(0, p7=0), snapshot(0, p7=6), OURS, watched=True)
    second = load.between(snapshot(0, p7=6), snapshot(10, p7=10), OURS, watched=True)
    third = load.between(snapshot(10, p7=10), snapshot(20, p7=14), OURS, watched=True)
    assert [use.others.foreign for use in (first, second, third)] == [0.0, 0.0, 6 * MS]


def test_of_an_unwatched_interval_only_our_own_time_is_known():
    use = HostLoad().between(snapshot(0, p7=10), snapshot(5000, (9,), p7=30, p9=7), OURS, watched=False)
    assert use.by_pid[7] == 20 * MS
    assert (use.others.system, use.others.foreign) == (0.0, 0.0)


def test_a_reused_pid_never_counts_backwards():
    use = HostLoad().between(snapshot(0, p7=500), snapshot(10, p7=3), OURS, watched=True)
    assert use.by_pid[7] == 0


def test_a_process_that_has_just_said_it_is_ours_is_charged_from_then_on():
    load = HostLoad()
    before, after = ProcessSnapshot(0, {}), ProcessSnapshot(500 * MS, {7: 10_300 * MS})
    use = load.between(before, after, frozenset({7}), True, 500 * MS, opened={7: 10_000 * MS})
    assert use.by_pid == {7: 300 * MS}
    assert use.others.foreign == 200 * MS
