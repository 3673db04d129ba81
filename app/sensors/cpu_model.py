"""The host's CPUs by a model: a cumulative counter since boot where no energy hardware can be read.

Knows nothing of processes. The counter is computed from the monotonic clock and the kernel's busy time alone,

    E(t) = cpus x P_idle x t + (P_max - P_idle) x busy CPU seconds

so that after a dead meter the next one still finds the movement. Busy time has steps of 10 ms. It leaves out DRAM,
disks, fans and losses of the power supply. The coefficients are part of the device's identity: other coefficients
make another counter, never a jump of this one. Raises SensorUnusable only.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from app.clock import Clock
from app.domain.reading import Condition, CounterReading, Device, DeviceKind, Grade, ProcessUse, Reading, Vitals
from app.errors import SensorUnusable
from app.sensors.base import Opened
from app.units import NS_PER_S

PROC_ROOT = Path("/proc")
_MW_NS_PER_UJ = 1_000_000


@dataclass(frozen=True, slots=True)
class CpuPower:
    """Milliwatts of one logical CPU, idle and fully busy."""

    idle_mw: int
    max_mw: int


# github.com/cloud-carbon-footprint/ccf-coefficients, commit b0032d9, output/coefficients-aws-use.csv (min and max watts
# per vCPU); Apache-2.0; read 2026-11-22. Rounded to milliwatts; Graviton3, 3E and 4 repeat Graviton2 there.
CPU_POWER = {
    "Broadwell": CpuPower(713, 3685),
    "Cascade Lake": CpuPower(690, 4063),
    "Coffee Lake": CpuPower(1138, 5422),
    "EPYC 1st Gen": CpuPower(847, 2604),
    "EPYC 2nd Gen": CpuPower(474, 1693),
    "EPYC 3rd Gen": CpuPower(456, 1957),
    "EPYC 4th Gen": CpuPower(739, 2282),
    "EPYC 5th Gen": CpuPower(3682, 8961),
    "Emerald Rapids": CpuPower(814, 4482),
    "Granite Rapids": CpuPower(582, 2527),
    "Graviton2": CpuPower(474, 1693),
    "Haswell": CpuPower(1857, 5595),
    "Ice Lake": CpuPower(767, 3758),
    "Ivy Bridge": CpuPower(1707, 5557),
    "Sandy Bridge": CpuPower(2212, 8631),
    "Sapphire Rapids": CpuPower(1036, 4160),
    "Skylake": CpuPower(613, 4104),
}
"""By microarchitecture."""

# The median, because the oldest and the newest server parts of the table lie far from the rest.
TYPICAL_CPU = CpuPower(
    round(median(row.idle_mw for row in CPU_POWER.values())), round(median(row.max_mw for row in CPU_POWER.values()))
)


_FIRST_LINE_BYTES = 512


class CpuModelSensor:
    """The modelled counter of all CPUs of the host, one device. Integers, never falling."""

    name = "cpu_model"

    def __init__(self, clock: Clock, device: Device, power: CpuPower, cpus: int, stat_path: Path) -> None:
        self._clock = clock
        self._device = device
        self._power = power
        self._cpus = cpus
        self._stat_path = stat_path
        self._highest_uj = 0
        self._file = -1

    @property
    def devices(self) -> Sequence[Device]:
        return (self._device,)

    def read(self, uuid: str) -> Reading:
        if uuid != self._device.uuid:
            raise SensorUnusable(f"cpu_model: {uuid} is not open here; it has {self._device.uuid}")
        busy_ns = self._busy_ns()
        at_ns = self._clock.monotonic_ns()
        counter_uj = modelled_uj(self._power, self._cpus, at_ns, busy_ns)
        # The kernel corrects its busy time now and then: a counter must not follow it down.
        self._highest_uj = max(self._highest_uj, counter_uj)
        return CounterReading(at_ns, self._highest_uj)

    def vitals(self, uuid: str) -> Vitals:
        return Vitals()

    def processes(self, uuid: str) -> Sequence[ProcessUse]:
        return ()

    def condition(self, uuid: str) -> Condition:
        return Condition()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _busy_ns(self) -> int:
        try:
            if self._file < 0:
                self._file = os.open(self._stat_path, os.O_RDONLY | os.O_CLOEXEC)
            line = os.pread(self._file, _FIRST_LINE_BYTES, 0).partition(b"\n")[0]
        except OSError as error:
            raise SensorUnusable(f"cpu_model: {self._stat_path} cannot be read: {error.strerror or error}") from error
        return _busy_of(line.decode(), self._stat_path)


def open_cpu_model(clock: Clock, machine: str, boot: str, power: CpuPower, proc_root: Path = PROC_ROOT) -> Opened:
    """Open the model over `proc_root`/stat. Raises SensorUnusable if that cannot be read."""
    stat_path = proc_root / "stat"
    _, cpus = read_busy(stat_path)
    device = Device(
        machine=machine,
        boot=boot,
        uuid=f"cpu-model:{cpus}x{power.idle_mw}-{power.max_mw}mw",
        kind=DeviceKind.CPU,
        name=f"{_model_name(proc_root)} ({cpus} CPUs, modelled)",
        grade=Grade.MODELLED,
    )
    return Opened(CpuModelSensor(clock, device, power, cpus, stat_path))


def modelled_uj(power: CpuPower, cpus: int, uptime_ns: int, busy_ns: int) -> int:
    """The energy of `cpus` CPUs in `uptime_ns` of which they were busy for `busy_ns` CPU nanoseconds, rounded down."""
    idle = power.idle_mw * cpus * uptime_ns
    return (idle + (power.max_mw - power.idle_mw) * busy_ns) // _MW_NS_PER_UJ


def read_busy(stat_path: Path) -> tuple[int, int]:
    """Busy CPU nanoseconds of all CPUs since boot, and how many CPUs are online, from /proc/stat."""
    try:
        lines = [line for line in stat_path.read_text().splitlines() if line.startswith("cpu")]
    except OSError as error:
        raise SensorUnusable(f"cpu_model: {stat_path} cannot be read: {error.strerror or error}") from error
    busy_ns = _busy_of(lines[0] if lines else "", stat_path)
    if len(lines) < 2:
        raise SensorUnusable(f"cpu_model: {stat_path} lists no single CPU (`cpu0 ...`)")
    return busy_ns, len(lines) - 1


def _busy_of(line: str, stat_path: Path) -> int:
    try:
        user, nice, system, _idle, _iowait, irq, softirq = (int(word) for word in line.split()[1:8])
    except ValueError as error:
        raise SensorUnusable(f"cpu_model: {stat_path} must begin with a `cpu` line of >= 7 numbers") from error
    # Guest time is in user already; stolen time was another machine's work.
    return (user + nice + system + irq + softirq) * _tick_ns()


def _tick_ns() -> int:
    return NS_PER_S // os.sysconf("SC_CLK_TCK")


def _model_name(proc_root: Path) -> str:
    try:
        lines = (proc_root / "cpuinfo").read_text().splitlines()
    except OSError:
        return "CPU"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
