"""Snapshots become points: integers are added before they become floats, what a device does not tell is left out."""

from hypothesis import given
from hypothesis import strategies as st

from app.telemetry.instruments import METRICS
from app.telemetry.snapshot import Balance, DeviceFigures, LedgerSnapshot, MeterHealth

BY_NAME = {metric.name: metric for metric in METRICS}


def points(name: str, **parts) -> list[tuple[float, dict[str, str]]]:
    return [(value, dict(attributes)) for value, attributes in BY_NAME[name].read(LedgerSnapshot(**parts))]


def device(**changes) -> DeviceFigures:
    return DeviceFigures(
        **{"uuid": "GPU-1", "kind": "gpu", "name": "H100", "node": "a", "grade": "counter", "energy_uj": 0, **changes}
    )


def test_balances_with_the_same_labels_are_one_point():
    labels = {"account": "job", "job": "digits", "node": "a"}
    first = Balance({**labels, "attempt": "1"}, 1_500_000, 10, "counter")
    second = Balance({**labels, "attempt": "2"}, 500_000, 20, "counter")
    attributes = {f"joulekeeper.{name}": value for name, value in labels.items()} | {"joulekeeper.grade": "counter"}
    assert points("joulekeeper.energy", balances=(first, second)) == [(2.0, attributes)]
    assert points("joulekeeper.carbon", balances=(first, second)) == [(0.00003, attributes)]


def test_grades_are_never_mixed():
    labels = {"account": "request", "node": "a"}
    balances = (Balance(labels, 1, 0, "counter"), Balance(labels, 2, 0, "modelled"))
    grades = {
        attributes["joulekeeper.grade"]: joules
        for joules, attributes in points("joulekeeper.energy", balances=balances)
    }
    assert grades == {"counter": 1e-6, "modelled": 2e-6}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers(0, 2**50)), max_size=30))
def test_the_sum_over_accounts_is_the_sum_of_the_books(entries):
    balances = tuple(Balance({"account": a, "model": m}, uj, 0, "counter") for a, m, uj in entries)
    exported = points("joulekeeper.energy", balances=balances)
    assert sum(round(joules * 1e6) for joules, _ in exported) == sum(uj for _, _, uj in entries)


def test_a_device_booked_under_two_boots_has_one_running_total():
    both = (device(energy_uj=3_000_000), device(energy_uj=4_000_000))
    [(joules, _)] = points("hw.energy", devices=both)
    assert joules == 7.0


def test_the_same_device_name_on_two_nodes_stays_two_devices():
    both = (device(uuid="rapl:package-0", kind="cpu"), device(uuid="rapl:package-0", kind="cpu", node="b"))
    assert len(points("hw.energy", devices=both)) == 2


def test_what_a_device_does_not_tell_is_no_point_and_zero_is_one():
    silent, idle = device(), device(uuid="GPU-2", power_mw=0, utilization=0.0)
    for name in ("hw.power", "hw.gpu.utilization"):
        [(value, attributes)] = points(name, devices=(silent, idle))
        assert (value, attributes["hw.id"]) == (0.0, "GPU-2")
    assert points("hw.temperature", devices=(silent, idle)) == []


def test_gpu_metrics_are_of_gpus_only():
    host = device(uuid="cpu:0", kind="cpu", utilization=0.5, memory_used_bytes=1, memory_total_bytes=2)
    for name in BY_NAME:
        if name.startswith("hw.gpu."):
            assert points(name, devices=(host,)) == []


def test_a_memory_of_unknown_size_has_no_utilization():
    assert points("hw.gpu.memory.utilization", devices=(device(memory_used_bytes=5, memory_total_bytes=0),)) == []


def test_dram_is_called_memory_as_the_conventions_do():
    [(_, attributes)] = points("hw.energy", devices=(device(kind="dram"),))
    assert attributes["hw.type"] == "memory"


def test_a_meter_that_left_cleanly_is_shown_as_absent():
    meters = (MeterHealth("a", present=True, last_heard_s=0.5, batches=3), MeterHealth("b", False, 60.0))
    assert points("joulekeeper.meter.present", meters=meters) == [
        (1.0, {"joulekeeper.node": "a"}),
        (0.0, {"joulekeeper.node": "b"}),
    ]
    assert [value for value, _ in points("joulekeeper.meter.last_heard", meters=meters)] == [0.5, 60.0]
    assert points("joulekeeper.meter.batches", meters=meters) == [(3, {"joulekeeper.node": "a"})]
