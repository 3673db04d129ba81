"""`probe`: what can be read on this host, by which backend, at which grade, and why the rest cannot.

Needs no cluster. Reading is app.sensors.probe's; here is the order of things and what a person sees of it.
"""

import time
from typing import Annotated

import typer

from app.cli import terminal
from app.cli.grid import Grid, columns
from app.engine.views import View
from app.sensors.probe import BackendProbe, DeviceProbe, ProbeResult
from app.sensors.probe import probe as probe_sensors
from app.units import NS_PER_MS

_BETWEEN_READINGS_S = 0.5


class HostProbe(View):
    """What discovery found, and on which host."""

    machine: str
    boot: str
    backends: tuple[BackendProbe, ...]

    @property
    def usable(self) -> bool:
        """True if at least one device could be read."""
        return any(not device.failure for backend in self.backends for device in backend.devices)


def probe(as_json: Annotated[bool, typer.Option("--json", help="JSON, for scripts.")] = False) -> None:
    """The sensors of this host: devices, grades, power, and every backend's reason for being unusable."""
    result = probe_host()
    if as_json:
        terminal.show_json(result)
    else:
        terminal.show(*probe_grids(result))
    if not result.usable:
        terminal.fault("error: no energy can be read on this host; the reasons are listed above")
        raise typer.Exit(terminal.FAULT_FOUND)


def probe_host() -> HostProbe:
    """Discover and read the sensors that the settings name; tests put a fake in its place."""
    from app.clock import SystemClock
    from app.config import settings
    from app.sensors.discovery import discover, sensor_settings
    from app.sensors.host import boot_id, machine_id

    wanted = sensor_settings(backends=settings().sensors)
    machine, boot = settings().machine or machine_id(), boot_id()
    found = discover(wanted, SystemClock(), machine, boot)
    try:
        result: ProbeResult = probe_sensors(wanted, found, lambda: time.sleep(_BETWEEN_READINGS_S))
    finally:
        found.close()
    return HostProbe(machine=machine, boot=boot, backends=result.backends)


def probe_grids(result: HostProbe) -> tuple[Grid, ...]:
    """Backends with their reasons, and below them their devices."""
    notes = [(device.uuid, note) for backend in result.backends for device in backend.devices for note in device.notes]
    grids = (_backends_grid(result), _devices_grid(result))
    return (*grids, Grid("Notes", columns("device", "note"), tuple(notes))) if notes else grids


def _backends_grid(result: HostProbe) -> Grid:
    rows = []
    for backend in result.backends:
        state = f"{len(backend.devices)} device(s)" if backend.usable else "unusable"
        rows.append((backend.name, state, backend.reason.removeprefix(f"{backend.name}: ")))
        rows += [(backend.name, f"not {uuid}", why) for uuid, why in backend.unusable_devices.items()]
    return Grid("Backends", columns("backend", "state", "reason"), tuple(rows))


def _devices_grid(result: HostProbe) -> Grid:
    titles = ("backend", "device", "kind", "name", "grade", ">power", ">counter uJ", ">update", ">to power", ">busy")
    rows = (_device_row(backend, device) for backend in result.backends for device in backend.devices)
    return Grid(f"Devices of machine {result.machine}, boot {result.boot}", columns(*titles, "failure"), tuple(rows))


def _device_row(backend: BackendProbe, device: DeviceProbe) -> tuple[str, ...]:
    return (
        backend.name,
        device.uuid,
        device.kind,
        device.name,
        "disputed" if device.disputed else device.grade,
        f"{device.power_mw / 1000:.2f} W" if device.power_mw is not None else "",
        str(device.counter_uj) if device.counter_uj is not None else "",
        f"{device.update_period_ns / NS_PER_MS:.1f} ms" if device.update_period_ns is not None else "",
        f"{device.counter_to_power:.2f}" if device.counter_to_power is not None else "",
        f"{device.utilization:.0%}" if device.utilization is not None else "",
        device.failure,
    )
