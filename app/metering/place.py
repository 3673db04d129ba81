"""Where a process of this node keeps its books: identity of the host, and the files below the state directory."""

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


def lease_path(config: Settings) -> Path:
    """Locked by the one meter of these devices."""
    return config.state_dir / "meter.lock"
