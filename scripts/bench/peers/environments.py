"""The peers' own virtual environments: made once, versions pinned, kept in a cache folder.

Standard library only. They are kept in `joulekeeper-bench` below BENCH_CACHE, XDG_CACHE_HOME or ~/.cache.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

PINS = {"zeus": "0.16.0", "codecarbon": "3.3.2", "litserve": "0.2.19", "mlserver": "1.7.1", "moto": "5.2.5"}
"""Newest on PyPI on 2026-11-22."""
_NAMES = {"moto": "moto[server]"}
NVML_PIN = "nvidia-ml-py==13.615.71"
_BESIDE = {
    "zeus": [NVML_PIN],
    "codecarbon": [NVML_PIN],
    "litserve": ["orjson==3.13.0"],
    "mlserver": ["orjson==3.13.0", "httptools==0.9.0"],  # uvicorn takes httptools where there is one
}


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
        install = [str(python), "-m", "pip", "install", "--quiet", f"{_NAMES.get(peer, peer)}=={PINS[peer]}"]
        install += _BESIDE.get(peer, [])
        subprocess.run(install, check=True)
        (home / "complete").touch()
    return python


def serving_python(peer: str) -> Path:
    """As `peer_python`; what the peer does not have itself, torch first, it takes from the product's environment."""
    python = peer_python(peer)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = python.parents[1] / "lib" / version / "site-packages"
    (own / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def shim_directory(directory: Path) -> Path:
    """A folder with an `nvidia-smi` that answers: CodeCarbon looks for GPUs only where there is one."""
    shims = directory / "bin"
    shims.mkdir(exist_ok=True)
    shim = shims / "nvidia-smi"
    shim.write_text("#!/bin/sh\nexit 0\n")
    shim.chmod(0o755)
    return shims
