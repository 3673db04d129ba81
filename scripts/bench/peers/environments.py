"""The peers' own virtual environments: made once, versions pinned, kept in a cache folder.

Standard library only. They are kept in `joulekeeper-bench` below BENCH_CACHE, XDG_CACHE_HOME or ~/.cache.
"""

import os
import subprocess
import sys
from pathlib import Path

PINS = {"zeus": "0.16.0", "codecarbon": "3.3.2"}
"""Newest on PyPI on 2026-11-22."""
NVML_PIN = "nvidia-ml-py==13.615.71"


def cache_directory() -> Path:
    """Where environments are kept. Not named JOULEKEEPER_*: the settings refuse variables that they do not know."""
    base = os.environ.get("BENCH_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "joulekeeper-bench"


def peer_python(peer: str) -> Path:
    """The interpreter of the environment of `peer`, made if absent. Raises CalledProcessError, pip's words shown."""
    home = cache_directory() / f"{peer}-{PINS[peer]}"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        print(f"making {home} ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", f"{peer}=={PINS[peer]}", NVML_PIN]
        subprocess.run(install, check=True)
        (home / "complete").touch()
    return python


def shim_directory(directory: Path) -> Path:
    """A folder with an `nvidia-smi` that answers: CodeCarbon looks for GPUs only where there is one."""
    shims = directory / "bin"
    shims.mkdir(exist_ok=True)
    shim = shims / "nvidia-smi"
    shim.write_text("#!/bin/sh\nexit 0\n")
    shim.chmod(0o755)
    return shims
