"""The one table of metrics: name, instrument, unit and meaning.

Knows nothing of how metrics leave, nor of OpenTelemetry's SDK: instruments, the reference page and the tests all
come from `METRICS`. Hardware metrics follow OpenTelemetry's semantic conventions for hardware (status:
development; opentelemetry-semantic-conventions 0.66b2, read 2026-11-22). What is charged to accounts has no
convention and carries our own prefix. Units are UCUM. Requests are never labels.
"""

from dataclasses import dataclass
from typing import Literal

from app.telemetry.figures import (
    BALANCE_LABELS,
    ONLY_GPUS,
    UG_PER_G,
    Reader,
    component,
    device_energy,
    device_states,
    disputed,
    gpu,
    memory_utilization,
    of_balances,
    of_devices,
    of_meters,
    thermometer,
    update_period_s,
    warnings,
    watts,
)
from app.units import UJ_PER_J

Kind = Literal["counter", "updowncounter", "gauge"]
Sender = Literal["node", "accountant"]

_BALANCE_ATTRIBUTES = (*(f"joulekeeper.{label}" for label in BALANCE_LABELS), "joulekeeper.grade")
_COMPONENT_ATTRIBUTES = ("hw.id", "hw.type", "hw.name", "hw.vendor", "joulekeeper.node")
_GPU_ATTRIBUTES = ("hw.id", "hw.name", "hw.vendor", "joulekeeper.node")
_SENSOR_ATTRIBUTES = ("hw.id", "hw.name", "hw.sensor_location", "joulekeeper.node")
_METER_ATTRIBUTES = ("joulekeeper.node",)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table."""

    name: str
    kind: Kind
    unit: str
    """UCUM."""
    description: str
    attributes: tuple[str, ...]
    """Every attribute a point may carry; empty values are left out."""
    read: Reader
    meaning: str = ""
    """What a reader must know beyond the description."""
    standard: bool = False
    """Defined by OpenTelemetry's semantic conventions."""
    pushed_by: Sender = "node"
    """Who pushes it by OTLP: each figure leaves the cluster once. The Prometheus endpoint shows all of them."""

    @property
    def prometheus_name(self) -> str:
        """What the Prometheus endpoint calls it."""
        unit = _PROMETHEUS_UNITS[self.unit]
        name = self.name.replace(".", "_")
        if unit and not name.endswith(f"_{unit}"):
            name = f"{name}_{unit}"
        return f"{name}_total" if self.kind == "counter" else name


# As the exporter maps UCUM to Prometheus; a test compares with what it really writes.
_PROMETHEUS_UNITS = {
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "By": "bytes",
    "Cel": "celsius",
    "s": "seconds",
}
_PROMETHEUS_UNITS |= {"1": "", "{batch}": "", "{warning}": ""}


METRICS: tuple[Metric, ...] = (
    Metric(
        name="joulekeeper.energy",
        kind="counter",
        unit="J",
        description="Energy charged to an account.",
        attributes=_BALANCE_ATTRIBUTES,
        read=of_balances(lambda balance: balance.energy_uj, UJ_PER_J),
        meaning="Each microjoule is charged once, so the sum over all points is the sum of `hw.energy`: add "
        "up accounts or devices, never both. Attempts of a job are added up.",
    ),
    Metric(
        name="joulekeeper.energy.uncertainty",
        kind="updowncounter",
        unit="J",
        description="What the readings could not resolve of the energy charged to an account.",
        attributes=_BALANCE_ATTRIBUTES,
        read=of_balances(lambda balance: balance.uncertainty_uj, UJ_PER_J),
        meaning="The true share lies within plus or minus this; the total of a device is exact.",
    ),
    Metric(
        name="joulekeeper.carbon",
        kind="updowncounter",
        unit="g",
        description="Location-based CO2 equivalent of the energy charged to an account.",
        attributes=_BALANCE_ATTRIBUTES,
        read=of_balances(lambda balance: balance.carbon_ugco2e, UG_PER_G),
        meaning="PUE included. Not a counter: revised grid data price the past again, and it may fall. Here that is "
        "done every ten minutes at most, in reports at once; what nodes push by OTLP is priced when it is booked.",
    ),
    Metric(
        name="hw.energy",
        kind="counter",
        unit="J",
        description="Energy consumed by the component.",
        attributes=(*_COMPONENT_ATTRIBUTES, "joulekeeper.grade"),
        read=device_energy,
        meaning="What the books hold for the device since they began, not its raw counter.",
        standard=True,
    ),
    Metric(
        name="hw.power",
        kind="gauge",
        unit="W",
        description="Instantaneous power consumed by the component.",
        attributes=_COMPONENT_ATTRIBUTES,
        read=of_devices(watts, component),
        standard=True,
    ),
    Metric(
        name="hw.temperature",
        kind="gauge",
        unit="Cel",
        description="Temperature in degrees Celsius.",
        attributes=_SENSOR_ATTRIBUTES,
        read=of_devices(lambda device: device.temperature_c, thermometer),
        standard=True,
    ),
    Metric(
        name="hw.gpu.utilization",
        kind="gauge",
        unit="1",
        description="Fraction of time in which the GPU was busy.",
        attributes=_GPU_ATTRIBUTES,
        read=of_devices(lambda device: device.utilization, gpu, ONLY_GPUS),
        meaning="Over the device's last sample period; busy does not mean full.",
        standard=True,
    ),
    Metric(
        name="hw.gpu.memory.usage",
        kind="updowncounter",
        unit="By",
        description="GPU memory used.",
        attributes=_GPU_ATTRIBUTES,
        read=of_devices(lambda device: device.memory_used_bytes, gpu, ONLY_GPUS),
        standard=True,
    ),
    Metric(
        name="hw.gpu.memory.limit",
        kind="updowncounter",
        unit="By",
        description="Size of the GPU memory.",
        attributes=_GPU_ATTRIBUTES,
        read=of_devices(lambda device: device.memory_total_bytes, gpu, ONLY_GPUS),
        standard=True,
    ),
    Metric(
        name="hw.gpu.memory.utilization",
        kind="gauge",
        unit="1",
        description="Fraction of GPU memory used.",
        attributes=_GPU_ATTRIBUTES,
        read=of_devices(memory_utilization, gpu, ONLY_GPUS),
        standard=True,
    ),
    Metric(
        name="hw.status",
        kind="updowncounter",
        unit="1",
        description="Operational status of the component: 1 for the state that it is in, 0 for the others.",
        attributes=(*_COMPONENT_ATTRIBUTES, "hw.state"),
        read=device_states,
        meaning="`degraded`: its energy counter is disputed; `failed`: it could not be read last time.",
        standard=True,
    ),
    Metric(
        name="joulekeeper.device.energy.update_period",
        kind="gauge",
        unit="s",
        description="Time between two updates of the energy counter of the device, as measured.",
        attributes=_COMPONENT_ATTRIBUTES,
        read=of_devices(update_period_s, component),
        meaning="Missing where it is not known, or the counter moves all the time.",
    ),
    Metric(
        name="joulekeeper.device.energy.power_ratio",
        kind="gauge",
        unit="1",
        description="Movement of the energy counter of the device over its integrated power.",
        attributes=_COMPONENT_ATTRIBUTES,
        read=of_devices(lambda device: device.counter_to_power, component),
        meaning="1 agrees; 0.1 away from it is what both may be wrong together. Of the last window, of 5 s to 10 min.",
    ),
    Metric(
        name="joulekeeper.device.energy.disputed",
        kind="gauge",
        unit="1",
        description="Whether the energy counter of the device disagrees with its power: 1 or 0.",
        attributes=_COMPONENT_ATTRIBUTES,
        read=of_devices(disputed, component),
        meaning="Worth an alert: its energy is booked as the counter has it, grade `disputed`.",
    ),
    Metric(
        name="joulekeeper.meter.present",
        kind="gauge",
        unit="1",
        description="Whether a meter watches the node: 1 or 0.",
        attributes=_METER_ATTRIBUTES,
        read=of_meters(lambda meter: float(meter.present)),
        meaning="0 is no fault: on nodes that may be released the meter leaves with the last piece of work.",
        pushed_by="accountant",
    ),
    Metric(
        name="joulekeeper.meter.last_heard",
        kind="gauge",
        unit="s",
        description="Time since the accountant last heard of the meter of the node.",
        attributes=_METER_ATTRIBUTES,
        read=of_meters(lambda meter: meter.last_heard_s),
        meaning="Worth an alert where it grows while `joulekeeper.meter.present` is 1.",
        pushed_by="accountant",
    ),
    Metric(
        name="joulekeeper.meter.batches",
        kind="counter",
        unit="{batch}",
        description="Batches of postings that the meter of the node has delivered.",
        attributes=_METER_ATTRIBUTES,
        read=of_meters(lambda meter: meter.batches),
        pushed_by="accountant",
    ),
    Metric(
        name="joulekeeper.meter.waiting",
        kind="gauge",
        unit="{batch}",
        description="Batches of postings in the node's journal that the accountant has not acknowledged.",
        attributes=_METER_ATTRIBUTES,
        read=of_meters(lambda meter: meter.waiting),
        meaning="A few are on their way; worth an alert where it grows.",
    ),
    Metric(
        name="joulekeeper.warnings",
        kind="gauge",
        unit="{warning}",
        description="Warnings in the accountant's status.",
        attributes=(),
        read=warnings,
        meaning="Worth an alert above 0; `joulekeeper watch --once` says what they are.",
        pushed_by="accountant",
    ),
)
