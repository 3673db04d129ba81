"""Checkpoints of a training worker: weights, optimiser, how far it came, and what the task puts beside them.

Knows nothing of Ray. Weights are safetensors, so that a checkpoint can be published as it is; the
optimiser's state is written by torch.save and read with `weights_only`. Random numbers need no place in it:
every epoch is seeded from the job's seed, its number and the rank, so a resumed epoch draws what it would
have drawn.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from app.models.weights import load_weights, save_weights

WEIGHTS_FILE = "model.safetensors"
_OPTIMISER_FILE, _PROGRESS_FILE = "optimiser.pt", "progress.json"


def save(directory: Path, module: nn.Module, optimiser: Optimizer, epochs_done: int, files: Mapping[str, str]) -> None:
    """Write the state after `epochs_done` epochs; `files` are texts by name."""
    save_weights(directory / WEIGHTS_FILE, module)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    torch.save(optimiser.state_dict(), directory / _OPTIMISER_FILE)
    (directory / _PROGRESS_FILE).write_text(json.dumps({"epochs_done": epochs_done}), encoding="utf-8")


def restore(directory: Path | None, module: nn.Module, optimiser: Optimizer, device: torch.device) -> int:
    """Put the state of `directory` into `module` and `optimiser`; returns the epochs done, 0 without one."""
    if directory is None:
        return 0
    load_weights(directory / WEIGHTS_FILE, module, device)
    optimiser.load_state_dict(torch.load(directory / _OPTIMISER_FILE, map_location=device, weights_only=True))
    return int(json.loads((directory / _PROGRESS_FILE).read_text(encoding="utf-8"))["epochs_done"])
