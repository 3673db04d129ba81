"""Where and how a process of this node keeps its books: identity of the host, its files, its priority."""

import contextlib
import os
from pathlib import Path

from app.config import Settings
from app.domain.place import Place
from app.sensors.host import boot_id, machine_id


def place(config: Settings) -> Place:
    """Machine, boot and name of this node."""
    return Place(config.machine or machine_id(), boot_id(), config.node)


def rings_directory(config: Settings) -> Path:
    """Rings of the processes of this node."""
    return config.state_dir / "rings"


def board_path(config: Settings) -> Path:
    """What the node's meter shows."""
    return config.state_dir / "board"


def journal_directory(config: Settings) -> Path:
    """The node journal."""
    return config.state_dir / "journal"


def totals_path(config: Settings) -> Path:
    """Running totals of the journal, for the counters that the meter exports."""
    return config.state_dir / "totals"


def lease_path(config: Settings) -> Path:
    """Locked by the one meter of these devices."""
    return config.state_dir / "meter.lock"


def raise_priority() -> None:
    """Ray gives its workers nice 15: under load a meter would sample late. Without the right to it, it stays so.

    Of the threads that there are; those to come inherit it.
    """
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread), 0)
