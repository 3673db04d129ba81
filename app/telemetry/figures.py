"""How the figures of each metric are taken from a snapshot: values with their attributes, in the unit exported.

Knows nothing of metric names, nor of OpenTelemetry. Several entries with the same attributes make one point: energy and
carbon are added as integers before they become floats, of momentary figures the last one counts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from app.telemetry.snapshot import Balance, DeviceFigures, LedgerSnapshot, MeterHealth
from app.units import NS_PER_S, UJ_PER_J

Attributes = Mapping[str, str]
Measured = tuple[float, Attributes]
Reader = Callable[[LedgerSnapshot], Iterator[Measured]]

UG_PER_G = 1_000_000
_MW_PER_W = 1_000

BALANCE_LABELS = ("account", "node", "model", "version", "tenant", "job", "kind")
ONLY_GPUS = frozenset({"gpu"})

# The semantic conventions call it memory.
_HW_TYPES = {"dram": "memory"}
_HW_STATES = ("ok", "degraded", "failed")


def of_balances(figure: Callable[[Balance], int], scale: int) -> Reader:
    def read(snapshot: LedgerSnapshot) -> Iterator[Measured]:
        return _summed(((figure(b), _balance_attributes(b)) for b in snapshot.balances), scale)

    return read


def device_energy(snapshot: LedgerSnapshot) -> Iterator[Measured]:
    # A device that was booked under two boots is one component with one running total.
    attributed = (
        (device.energy_uj, {**component(device), "joulekeeper.grade": device.grade}) for device in snapshot.devices
    )
    return _summed(attributed, UJ_PER_J)


def of_devices(
    figure: Callable[[DeviceFigures], float | None],
    attributes: Callable[[DeviceFigures], Attributes],
    only: frozenset[str] = frozenset(),
) -> Reader:
    """A figure of each device that tells it; of two with the same attributes the last one wins."""

    def read(snapshot: LedgerSnapshot) -> Iterator[Measured]:
        latest: dict[frozenset[tuple[str, str]], Measured] = {}
        for device in snapshot.devices:
            value = figure(device)
            if value is not None and (not only or device.kind in only):
                named = attributes(device)
                latest[frozenset(named.items())] = (value, named)
        return iter(latest.values())

    return read


def device_states(snapshot: LedgerSnapshot) -> Iterator[Measured]:
    """1 for the state that each device is in, 0 for the others."""
    for state in _HW_STATES:
        named = of_devices(lambda device, state=state: float(device.state == state), component)  # type: ignore[misc]
        yield from ((value, {**attributes, "hw.state": state}) for value, attributes in named(snapshot))


def of_meters(
    figure: Callable[[MeterHealth], float | None],
) -> Reader:
    def read(snapshot: LedgerSnapshot) -> Iterator[Measured]:
        for meter in snapshot.meters:
            value = figure(meter)
            if value is not None:
                yield value, _without_empty({"joulekeeper.node": meter.node})

    return read


def warnings(snapshot: LedgerSnapshot) -> Iterator[Measured]:
    if snapshot.warnings is not None:
        yield snapshot.warnings, {}


def _summed(parts: Iterable[tuple[int, Attributes]], scale: int) -> Iterator[Measured]:
    totals: dict[frozenset[tuple[str, str]], int] = {}
    named: dict[frozenset[tuple[str, str]], Attributes] = {}
    for value, attributes in parts:
        key = frozenset(attributes.items())
        totals[key] = totals.get(key, 0) + value
        named[key] = attributes
    return ((total / scale, named[key]) for key, total in totals.items())


def _balance_attributes(balance: Balance) -> Attributes:
    own = {f"joulekeeper.{label}": balance.labels.get(label, "") for label in BALANCE_LABELS}
    return _without_empty({**own, "joulekeeper.grade": balance.grade})


def component(device: DeviceFigures) -> Attributes:
    return _without_empty({**gpu(device), "hw.type": _HW_TYPES.get(device.kind, device.kind)})


def gpu(device: DeviceFigures) -> Attributes:
    return _without_empty(
        {
            "hw.id": device.uuid,
            "hw.name": device.name,
            "hw.vendor": device.vendor,
            "joulekeeper.node": device.node,
        }
    )


def thermometer(device: DeviceFigures) -> Attributes:
    return _without_empty(
        {
            "hw.id": device.uuid,
            "hw.name": device.name,
            "hw.sensor_location": device.kind,
            "joulekeeper.node": device.node,
        }
    )


def _without_empty(attributes: Attributes) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if value}


def watts(device: DeviceFigures) -> float | None:
    return None if device.power_mw is None else device.power_mw / _MW_PER_W


def memory_utilization(device: DeviceFigures) -> float | None:
    if device.memory_used_bytes is None or not device.memory_total_bytes:
        return None
    return device.memory_used_bytes / device.memory_total_bytes


def update_period_s(device: DeviceFigures) -> float | None:
    return None if device.update_period_ns is None else device.update_period_ns / NS_PER_S


def disputed(device: DeviceFigures) -> float | None:
    return None if device.disputed is None else float(device.disputed)
