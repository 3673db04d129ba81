"""Who this host is: an id that outlives boots, and the id of the present boot.

Knows nothing of devices. Both go into the identity of every device, so that no two meters book it twice.
"""

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path

from app.errors import SensorUnusable

MACHINE_ID_PATH = Path("/etc/machine-id")
BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


def machine_id(path: Path = MACHINE_ID_PATH, hostname: Callable[[], str] = socket.gethostname) -> str:
    """The content of /etc/machine-id; where there is none, 32 hex digits made from the host name."""
    written = _first_word(path)
    # systemd writes "uninitialized" while the first boot is not over.
    if written and written != "uninitialized":
        return written
    return hashlib.sha256(f"joulekeeper:{hostname()}".encode()).hexdigest()[:32]


def boot_id(path: Path = BOOT_ID_PATH) -> str:
    """The kernel's id of this boot. Raises SensorUnusable where it cannot be read: counters begin anew with it."""
    written = _first_word(path)
    if not written:
        raise SensorUnusable(f"{path} must hold the id of this boot and cannot be read; metering needs a Linux /proc")
    return written


def _first_word(path: Path) -> str:
    try:
        return (path.read_text().split() or [""])[0]
    except (OSError, UnicodeDecodeError):
        return ""
