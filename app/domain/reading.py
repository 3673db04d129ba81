"""Readings: what a sensor saw of one device at one instant, and the delta between two of them.

Knows nothing of how a device is read, nor of who used it. Two kinds of reading are two types: a cumulative
counter, and a power value that must be integrated.
"""

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How an energy figure came to be; never mixed silently."""

    COUNTER = "counter"
    """The hardware's own cumulative energy counter."""
    INTEGRATED = "integrated"
    """Sampled power, integrated by us."""
    MODELLED = "modelled"
    """A model with cited coefficients; no energy hardware was read."""
    APPORTIONED = "apportioned"
    """A part of a counter that several instances of one device share (MIG), divided by their activity."""
    DISPUTED = "disputed"
    """A hardware counter that disagrees with the device's own power readings; booked as it stands."""


class DeviceKind(StrEnum):
    """What a device is; host kinds (cpu, dram) are shared by all processes of a node."""

    GPU = "gpu"
    CPU = "cpu"
    DRAM = "dram"

    @property
    def is_host(self) -> bool:
        """True where energy goes by the CPU time of processes, False where a process holds the device."""
        return self is not DeviceKind.GPU


@dataclass(frozen=True, slots=True)
class Device:
    """One thing whose energy can be read, named so that no two meters can book it twice."""

    machine: str
    """Stable id of the host (/etc/machine-id unless configured)."""
    boot: str
    """Boot id of the host: counters start anew with it."""
    uuid: str
    """Unique on the host: NVML's UUID, `rapl:package-0`, a name that holds a model's coefficients. Never an index."""
    kind: DeviceKind
    name: str
    """For people: the product name."""
    grade: Grade
    wraps_at_uj: int | None = None
    """Range of the counter: it restarts from 0 after reaching this value. None: it does not wrap in practice."""
    vendor: str = ""
    parent: str = ""
    """Of an instance of a partitioned accelerator (MIG): the UUID of the device whose counter it shares. Such a device
    has no energy of its own: it is never read, and work that holds it is charged on its parent, `apportioned`."""
    compute_share: float = 1.0
    """Of an instance: its part of the parent's compute, 0..1."""

    @property
    def key(self) -> str:
        """`machine/boot/uuid`: the identity under which energy is booked."""
        return f"{self.machine}/{self.boot}/{self.uuid}"


@dataclass(frozen=True, slots=True)
class CounterReading:
    """A cumulative energy counter: `counter_uj` microjoules since some origin, at `at_ns` (monotonic)."""

    at_ns: int
    counter_uj: int


@dataclass(frozen=True, slots=True)
class PowerReading:
    """Instantaneous power in milliwatts at `at_ns` (monotonic); energy between two is the trapezoid's area."""

    at_ns: int
    power_mw: int


Reading = CounterReading | PowerReading


class DeltaKind(StrEnum):
    """What lies between two readings."""

    NORMAL = "normal"
    """The counter moved while a meter watched."""
    UNWATCHED = "unwatched"
    """No meter was there, and it had left cleanly."""
    DEAD = "dead"
    """No meter was there, because it died."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Energy of one device between two readings: `energy_uj` >= 0 over [start_ns, end_ns)."""

    device: Device
    start_ns: int
    end_ns: int
    energy_uj: int
    kind: DeltaKind = DeltaKind.NORMAL

    @property
    def duration_ns(self) -> int:
        """Length of the interval, > 0."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Vitals:
    """Figures of a device that are shown, never booked. None: the device does not tell."""

    power_mw: int | None = None
    utilization: float | None = None
    """0..1: share of the last sample period in which the device was busy."""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_c: float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """How far a device's figures can be trusted, as its sensor found by watching it."""

    update_period_ns: int | None = None
    """Time between two updates of the energy counter; None: unknown, unsteady, or it moves all the time."""
    counter_to_power: float | None = None
    """Movement of the counter over integrated power of the same window; 1.0 agrees. None: not known (yet)."""
    disputed: bool = False
    """The counter disagrees with the device's own power readings by more than both may be wrong."""
    notes: tuple[str, ...] = ()
    """What a person should know about the device, a sentence each; empty when all is well."""


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """A process seen on a device. `utilization` 0..1 over the last period, None where the device cannot tell."""

    pid: int
    utilization: float | None = None
    memory_used_bytes: int | None = None
