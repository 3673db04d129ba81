"""Files that only their owner reads: made with mode 0600 whatever the umask, replaced whole or not at all.

Knows nothing of what is in them.
"""

import contextlib
import os
from pathlib import Path

_PRIVATE = 0o600


def make_private_directory(path: Path) -> None:
    """`path` with mode 0700; one that is there is left as it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file that is 0600 from its first moment on; one that was made wider is narrowed."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, _PRIVATE)
    if os.fstat(descriptor).st_mode & 0o077:
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, _PRIVATE)
    return descriptor


def replace_private(path: Path, content: bytes) -> None:
    """Put `content` in the place of `path`: readers see the old or the new, also after a power failure."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    with os.fdopen(open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
