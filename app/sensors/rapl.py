"""CPU packages and DRAM through RAPL, as the kernel's powercap tree shows it (Intel, and AMD under the same names).

Knows nothing of what runs on the CPU. Core and uncore domains lie inside their package and are left out, and so is
psys, which holds the packages. Counters wrap at `max_energy_range_uj`; whoever makes deltas resolves that.
Raises SensorUnusable only, naming the file.

    opened = open_rapl(clock, machine, boot, Path("/sys/class/powercap"))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.clock import Clock
from app.domain.reading import Condition, CounterReading, Device, DeviceKind, Grade, ProcessUse, Reading, Vitals
from app.errors import SensorUnusable
from app.sensors.base import Opened

POWERCAP_ROOT = Path("/sys/class/powercap")

_RULE = (
    "allow it once with `chmod a+r FILE`, or for good with the udev rule "
    'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"'
)


@dataclass(frozen=True, slots=True)
class _Domain:
    uuid: str
    kind: DeviceKind
    name: str
    directory: Path

    @property
    def counter_path(self) -> Path:
        return self.directory / "energy_uj"


class RaplSensor:
    """Opened RAPL domains. A counter is read with one open, read and close of its file."""

    name = "rapl"

    def __init__(self, clock: Clock, domains: Sequence[tuple[Device, Path]]) -> None:
        self._clock = clock
        self._devices = tuple(device for device, _ in domains)
        self._paths = {device.uuid: path for device, path in domains}

    @property
    def devices(self) -> Sequence[Device]:
        return self._devices

    def read(self, uuid: str) -> Reading:
        path = self._paths.get(uuid)
        if path is None:
            raise SensorUnusable(f"rapl: {uuid} is not open here; it has {', '.join(self._paths)}")
        before_ns = self._clock.monotonic_ns()
        counter_uj = _read_number(path)
        return CounterReading((before_ns + self._clock.monotonic_ns()) // 2, counter_uj)

    def vitals(self, uuid: str) -> Vitals:
        return Vitals()

    def processes(self, uuid: str) -> Sequence[ProcessUse]:
        return ()

    def condition(self, uuid: str) -> Condition:
        return Condition()

    def close(self) -> None:
        return None


def open_rapl(clock: Clock, machine: str, boot: str, root: Path = POWERCAP_ROOT) -> Opened:
    """Open every readable package and DRAM domain below `root`. Raises SensorUnusable without a readable package."""
    domains = _find_domains(root)
    if not domains:
        raise SensorUnusable(
            f"rapl: {root} holds no intel-rapl:* package; the CPU has no RAPL, the module intel_rapl_common is not "
            "loaded, or a virtual machine hides it"
        )
    opened: list[tuple[Device, Path]] = []
    unusable: dict[str, str] = {}
    for domain in domains:
        try:
            opened.append((_open_domain(domain, machine, boot), domain.counter_path))
        except SensorUnusable as error:
            unusable[f"rapl/{domain.uuid}"] = str(error)
    # DRAM alone would keep the modelled CPU away and leave the packages off the books.
    if not any(device.kind is DeviceKind.CPU for device, _ in opened):
        raise SensorUnusable("; ".join(unusable.values()))
    return Opened(RaplSensor(clock, opened), unusable)


def _find_domains(root: Path) -> list[_Domain]:
    domains: list[_Domain] = []
    for package in sorted(root.glob("intel-rapl:*")):
        name = _read_name(package)
        if package.name.count(":") != 1 or not name.startswith("package"):
            continue
        uuid = f"rapl:{name}"
        if any(domain.uuid == uuid for domain in domains):
            uuid = f"rapl:{name}@{package.name}"
        domains.append(_Domain(uuid, DeviceKind.CPU, f"CPU {name}", package))
        domains += [
            _Domain(f"{uuid}:dram", DeviceKind.DRAM, f"DRAM of {name}", inner)
            for inner in sorted(root.glob(f"{package.name}:*"))
            if _read_name(inner) == "dram"
        ]
    return domains


def _read_name(directory: Path) -> str:
    try:
        return (directory / "name").read_text().strip()
    except OSError:
        return ""


def _open_domain(domain: _Domain, machine: str, boot: str) -> Device:
    _read_number(domain.counter_path)
    range_path = domain.directory / "max_energy_range_uj"
    wraps_at_uj = _read_number(range_path)
    if wraps_at_uj == 0:
        raise SensorUnusable(f"rapl: {range_path} must be > 0 uJ, got 0; without it a wrap cannot be resolved")
    return Device(
        machine=machine,
        boot=boot,
        uuid=domain.uuid,
        kind=domain.kind,
        name=domain.name,
        grade=Grade.COUNTER,
        wraps_at_uj=wraps_at_uj,
    )


def _read_number(path: Path) -> int:
    """The non-negative integer in `path`; a failure is never a zero."""
    try:
        text = path.read_text().strip()
    except PermissionError as error:
        raise SensorUnusable(f"rapl: no permission to read {path}; {_RULE.replace('FILE', str(path))}") from error
    except OSError as error:
        raise SensorUnusable(f"rapl: {path} cannot be read: {error.strerror or error}") from error
    if not text.isascii() or not text.isdigit():
        raise SensorUnusable(f"rapl: {path} must hold a whole number of microjoules, got {text[:40]!r}")
    return int(text)
