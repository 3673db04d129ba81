"""Devices as they are shown: the newest batch's vitals, and how far each device can be trusted."""

from app.engine.exported import device_statuses, exported_device
from app.ledger.store import StoredDevice

VITALS = dict.fromkeys(("power_mw", "utilization", "memory_used_bytes", "memory_total_bytes", "temperature_c"))
CONDITION = {"update_period_ns": 20_000_000, "counter_to_power": 0.6, "disputed": True, "notes": ["it is off"]}


def shown(**body: object):
    device = StoredDevice(key="m/b/GPU-1", tag="", node="n", kind="gpu", name="H100", grade="counter")
    whole = {"machine": "m", "boot": "b", "vitals": {"GPU-1": VITALS, "MIG-x": VITALS}, **body}
    return list(device_statuses([whole], {"m/b/GPU-1": 7}, [device]))


def test_a_disputed_device_is_degraded_and_says_why():
    [device] = shown(conditions={"GPU-1": CONDITION}, failures={})
    assert (device.state, device.counter_to_power, device.notes) == ("degraded", 0.6, ("it is off",))
    figures = exported_device(device)
    assert (figures.state, figures.disputed, figures.update_period_ns) == ("degraded", True, 20_000_000)


def test_a_device_that_could_not_be_read_has_failed():
    [device] = shown(conditions={"GPU-1": CONDITION}, failures={"GPU-1": "the GPU is lost"})
    assert device.state == "failed"


def test_batches_of_before_conditions_are_shown_without():
    [device] = shown()
    assert (device.state, device.update_period_ns, device.disputed) == ("ok", None, False)
