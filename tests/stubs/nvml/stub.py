"""The Python side of the NVML stand-in: compiles it, writes its script, and knows the exact counter it must show.

Knows nothing of pytest or of the house; the C file beside this one documents the script's language.

    script = StubScript(devices=[StubDevice(phases=[(start_ns, 300_000), (end_ns, 0)])])
    stub = NvmlStub.compile(directory)
    stub.write(script)
    subprocess.run(command, env={**os.environ, **stub.env()})
    assert counter == script.counter_mj(0, at_ns)
"""

import os
import subprocess
from bisect import bisect_right
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path

SOURCE = Path(__file__).with_name("libnvidia-ml.c")
LIBRARY_NAME = "libnvidia-ml.so.1"
NS_PER_S = 1_000_000_000
PJ_PER_MJ = 1_000_000_000  # 1 mW during 1 ns is 1 pJ

GPU_IS_LOST = 15
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9


@dataclass(frozen=True)
class StubProcess:
    """A process on a device; `sm_percent` None: the driver has no sample of it."""

    pid: int
    memory_bytes: int = 0
    sm_percent: int | None = None
    graphics: bool = False
    instance: int | None = None
    """Which of the device's instances it runs on."""


@dataclass(frozen=True)
class StubInstance:
    """A MIG instance; `slices` of the device's compute slots."""

    uuid: str
    slices: int = 1
    gpu_instance: int = 1
    compute_instance: int = 0
    memory_used_bytes: int = 0
    memory_total_bytes: int = 10 << 30


@dataclass(frozen=True)
class StubError:
    """`call` (without its _v2) answers NVML's `code` on `device` (None: all) from `from_ns` until `until_ns`."""

    call: str
    code: int
    device: int | None = None
    from_ns: int = 0
    until_ns: int | None = None


@dataclass(frozen=True)
class StubDevice:
    """One GPU. The counter is `counter_mj` if given, else the integral of `phases`: (monotonic ns, mW from then on)."""

    uuid: str = ""
    name: str = "NVIDIA H100 80GB HBM3"
    counter_mj: int | None = None
    phases: tuple[tuple[int, int], ...] = ()
    offset_mj: int = 0
    resets_ns: tuple[int, ...] = ()
    power_mw: int | None = None
    utilization_percent: int = 0
    memory_used_bytes: int = 0
    memory_total_bytes: int = 80 << 30
    temperature_c: int = 40
    limit_mw: int = 700_000
    processes: tuple[StubProcess, ...] = ()
    phase_ms: float = 0
    """Its ticks come so much after multiples of the tick."""
    gain_ppm: int = 1_000_000
    """The counter moves by so many millionths of the energy."""
    stuck_ns: tuple[tuple[int, int], ...] = ()
    """The counter stands still from, until, and goes on from there."""
    glitches_ns: tuple[tuple[int, int, int], ...] = ()
    """From, until: the counter answers so many mJ."""
    scopes: str = "both"
    """Of the instant power field: gpu, module, both or none."""
    module_power_mw: int | None = None
    mig_slots: int = 0
    """MIG is enabled if > 0: so many instances at most."""
    instances: tuple[StubInstance, ...] = ()


@dataclass(frozen=True)
class StubScript:
    """Everything the library answers. `tick_ms`: the counter moves at multiples of it; 0: always."""

    devices: tuple[StubDevice, ...] = (StubDevice(),)
    tick_ms: float = 20
    errors: tuple[StubError, ...] = ()
    driver: str = "570.86.15"
    jitter_ms: float = 0
    """Each tick is late by 0 to so much, the same in every process."""

    def uuid(self, device: int) -> str:
        """The UUID of `device`, with the library's default resolved."""
        return self.devices[device].uuid or f"GPU-00000000-0000-0000-0000-{device:012d}"

    def with_device(self, device: int, **changes: object) -> "StubScript":
        """This script with fields of one device changed."""
        devices = list(self.devices)
        devices[device] = replace(devices[device], **changes)  # type: ignore[arg-type]
        return replace(self, devices=tuple(devices))

    def counter_mj(self, device: int, at_ns: int) -> int:
        """Exactly what the energy counter of `device` shows at `at_ns` (monotonic), in mJ."""
        spec = self.devices[device]
        glitch = next((mj for start, end, mj in spec.glitches_ns if start <= at_ns < end), None)
        if glitch is not None or spec.counter_mj is not None:
            return spec.counter_mj if glitch is None else glitch  # type: ignore[return-value]
        shown_ns = self.updated_ns(device, at_ns)
        since = max((reset for reset in spec.resets_ns if reset <= shown_ns), default=None)
        counted_pj = _counted_pj(spec, shown_ns) - (0 if since is None else _counted_pj(spec, since))
        return (spec.offset_mj if since is None else 0) + counted_pj * spec.gain_ppm // (PJ_PER_MJ * 1_000_000)

    def updated_ns(self, device: int, at_ns: int) -> int:
        """The last tick of `device` at `at_ns`: the instant whose value its counter shows then."""
        tick_ns, phase_ns = round(self.tick_ms * 1_000_000), round(self.devices[device].phase_ms * 1_000_000)
        if not tick_ns:
            return at_ns
        number = (at_ns - phase_ns) // tick_ns
        updated_ns = phase_ns + number * tick_ns + self._lateness_ns(number)
        return updated_ns if updated_ns <= at_ns else phase_ns + (number - 1) * tick_ns + self._lateness_ns(number - 1)

    def _lateness_ns(self, number: int) -> int:
        jitter_ns, mask = round(self.jitter_ms * 1_000_000), (1 << 64) - 1
        z = (number + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return (z ^ (z >> 31)) % jitter_ns if jitter_ns else 0

    def text(self) -> str:
        """The script in the library's language."""
        lines = [f"driver {self.driver}", f"devices {len(self.devices)}", f"tick_ms {self.tick_ms}"]
        lines += [f"jitter_ms {self.jitter_ms}"] if self.jitter_ms else []
        for index, device in enumerate(self.devices):
            lines += [f"device {index} {statement}" for statement in _statements(device)]
        lines += [_error_line(error) for error in self.errors]
        return "\n".join(lines) + "\n"


def energy_pj(phases: tuple[tuple[int, int], ...], at_ns: int) -> int:
    """Integral of piecewise constant mW from the first phase to `at_ns`, in picojoules, exact."""
    begun = phases[: bisect_right(phases, at_ns, key=lambda phase: phase[0])]
    whole = sum((later[0] - earlier[0]) * earlier[1] for earlier, later in pairwise(begun))
    return whole + (at_ns - begun[-1][0]) * begun[-1][1] if begun else 0


def _counted_pj(spec: StubDevice, at_ns: int) -> int:
    """All energy until `at_ns` but that of the time in which the counter stood still."""
    missed = sum(
        energy_pj(spec.phases, min(at_ns, until)) - energy_pj(spec.phases, start)
        for start, until in spec.stuck_ns
        if min(at_ns, until) > start
    )
    return energy_pj(spec.phases, at_ns) - missed


def read_truth(text: str) -> StubScript:
    """The script of a truth file: `devices tick_ms`, then lines `device monotonic_seconds watts`."""
    lines = [line.split() for line in text.splitlines() if line.split("#")[0].strip()]
    count, tick_ms = int(lines[0][0]), float(lines[0][1])
    phases: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for device, seconds, watts in lines[1:]:
        phases[int(device)].append((_scaled(seconds, NS_PER_S), _scaled(watts, 1000)))
    return StubScript(tuple(StubDevice(phases=tuple(own)) for own in phases), tick_ms)


def write_truth(script: StubScript) -> str:
    """The truth file of `script`; what is not power over time is left out."""
    rows = sorted((at_ns, n, mw) for n, device in enumerate(script.devices) for at_ns, mw in device.phases)
    lines = [f"{len(script.devices)} {script.tick_ms:g}"]
    return "\n".join(lines + [f"{n} {_seconds(at_ns)} {mw / 1000:.3f}" for at_ns, n, mw in rows]) + "\n"


@dataclass(frozen=True)
class NvmlStub:
    """A compiled library and the script file it reads."""

    library: Path
    script_path: Path

    @classmethod
    def compile(cls, directory: Path) -> "NvmlStub":
        """Compile into `directory`, script beside it. Raises CalledProcessError with the compiler's words."""
        library = directory / LIBRARY_NAME
        command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE), "-lpthread"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return cls(library, directory / "nvml.script")

    def with_script(self, script_path: Path) -> "NvmlStub":
        """The same library with a script of its own, e.g. for another node."""
        return replace(self, script_path=script_path)

    def env(self) -> dict[str, str]:
        """What a process needs in its environment, from its start, to load this library as NVML."""
        inherited = os.environ.get("LD_LIBRARY_PATH", "")
        path = f"{self.library.parent}:{inherited}" if inherited else str(self.library.parent)
        return {"LD_LIBRARY_PATH": path, "NVML_STUB_SCRIPT": str(self.script_path)}

    def write(self, script: StubScript | str) -> None:
        """Replace the script at once; running processes see it at their next call."""
        text = script if isinstance(script, str) else script.text()
        draft = self.script_path.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self.script_path)


def _statements(device: StubDevice) -> list[str]:
    lines = [f"uuid {device.uuid}"] if device.uuid else []
    lines += [f"name {device.name}", f"offset {device.offset_mj}", f"limit {device.limit_mw}"]
    lines += [f"utilization {device.utilization_percent}", f"temperature {device.temperature_c}"]
    lines += [f"memory {device.memory_used_bytes} {device.memory_total_bytes}"]
    lines += [f"counter {device.counter_mj}"] if device.counter_mj is not None else []
    lines += [f"power {device.power_mw}"] if device.power_mw is not None else []
    lines += [f"watts {_seconds(at_ns)} {mw // 1000}.{mw % 1000:03d}" for at_ns, mw in device.phases]
    lines += [f"reset {_seconds(at_ns)}" for at_ns in device.resets_ns]
    lines += [f"phase {device.phase_ms}"] if device.phase_ms else []
    lines += [f"gain {device.gain_ppm / 1_000_000:.6f}"] if device.gain_ppm != 1_000_000 else []
    lines += [f"stuck {_seconds(start)} {_seconds(until)}" for start, until in device.stuck_ns]
    lines += [f"glitch {_seconds(start)} {_seconds(until)} {mj}" for start, until, mj in device.glitches_ns]
    lines += [f"scopes {device.scopes}"] if device.scopes != "both" else []
    lines += [f"module_power {device.module_power_mw}"] if device.module_power_mw is not None else []
    lines += [f"mig {device.mig_slots}"] if device.mig_slots else []
    lines += [_instance_line(instance) for instance in device.instances]
    return lines + [_process_line(process) for process in device.processes]


def _process_line(process: StubProcess) -> str:
    kind = "graphics" if process.graphics else "process"
    use = "-" if process.sm_percent is None else process.sm_percent
    instance = "" if process.instance is None else f" {process.instance}"
    return f"{kind} {process.pid} {process.memory_bytes} {use}{instance}"


def _instance_line(instance: StubInstance) -> str:
    place = f"{instance.gpu_instance} {instance.compute_instance} {instance.slices}"
    return f"instance {instance.uuid} {place} {instance.memory_used_bytes} {instance.memory_total_bytes}"


def _error_line(error: StubError) -> str:
    device = "*" if error.device is None else error.device
    until = "" if error.until_ns is None else f" {_seconds(error.until_ns)}"
    return f"error {error.call} {device} {error.code} {_seconds(error.from_ns)}{until}"


def _seconds(at_ns: int) -> str:
    return f"{at_ns // NS_PER_S}.{at_ns % NS_PER_S:09d}"


def _scaled(text: str, factor: int) -> int:
    return int((Decimal(text) * factor).to_integral_value(ROUND_HALF_UP))
