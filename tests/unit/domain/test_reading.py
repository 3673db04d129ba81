"""Devices and deltas: identities and the few figures computed from them."""

from app.domain.reading import Delta, DeltaKind, Device, DeviceKind, Grade


def device(kind: DeviceKind = DeviceKind.GPU, boot: str = "b") -> Device:
    return Device("m", boot, "GPU-1", kind, "H100", Grade.COUNTER)


def test_a_device_is_booked_under_machine_boot_and_uuid():
    assert device().key == "m/b/GPU-1"
    assert device(boot="next").key != device().key


def test_only_accelerators_are_held_by_a_process():
    assert [kind for kind in DeviceKind if not kind.is_host] == [DeviceKind.GPU]


def test_a_delta_is_watched_unless_it_says_otherwise():
    delta = Delta(device(), 100, 350, 7)
    assert (delta.kind, delta.duration_ns) == (DeltaKind.NORMAL, 250)
