"""Checkpoints of a run: what the workers write into directories of their own, and how it becomes their state again.

Knows nothing of Ray or of where a checkpoint goes (run_files.py). Weights that every worker holds whole are written by
the first, as safetensors, so that they can be published as they are; the rest beside them, read with `weights_only`.
State that is divided stays divided (shards.py), and another number of workers can go on with it. The manifest says
which, and what every file must be. Random numbers need no place: every step is seeded from its own place in the run.

    save(directory, state, task.files, fabric)        # all workers, each a directory of its own; they belong together
    restore(directory, state, fabric)                 # all workers, the directory with the files of all
    copy_weights(directory, target)                   # one process: model.safetensors, whichever way it was written
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.distributed.tensor import DTensor, distribute_tensor

from app.models.weights import save_weights
from app.training.fabric import Fabric
from app.training.manifest import FileDigest, Manifest, digests_of, read_manifest, write_manifest
from app.training.shards import read_shards, whole_tensors, write_shards
from app.training.state import TrainState

WEIGHTS_FILE = "model.safetensors"
_REST_FILE = "rest.pt"


def save(directory: Path, state: TrainState, files: Mapping[str, str], fabric: Fabric) -> None:
    """Write this worker's part of `state` and, on the first, `files` (texts by name) and the manifest of all."""
    found = state.state_dict()
    divided = _is_divided(found)
    if divided:
        write_shards(directory, found, alone=not distributed.is_initialized())
    elif fabric.rank == 0:
        save_weights(directory / WEIGHTS_FILE, state.module)
        torch.save({name: part for name, part in found.items() if name != "module"}, directory / _REST_FILE)
    if fabric.rank == 0:
        for name, text in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)  # as 1_Pooling/config.json
            (directory / name).write_text(text, encoding="utf-8")
    parts: list[dict[str, FileDigest]] = fabric.gather(digests_of(directory))
    if fabric.rank == 0:
        digests = {name: digest for part in parts for name, digest in part.items()}
        layout = "shards" if divided else "whole"
        write_manifest(directory, Manifest(layout=layout, world=fabric.world, facts=state.facts(), files=digests))


def restore(directory: Path | None, state: TrainState, fabric: Fabric) -> None:
    """Put what lies in `directory` into `state`; nothing without one. RuntimeError: it is another model's."""
    if directory is None:
        return
    manifest = read_manifest(directory)
    found: dict[str, Any] = state.state_dict()
    if manifest.layout == "shards":
        read_shards(directory, found, alone=not distributed.is_initialized())
    else:
        rest = torch.load(directory / _REST_FILE, map_location="cpu", weights_only=True)
        found = _divided_as(found, {"module": load_file(directory / WEIGHTS_FILE), **rest})
    state.load_state_dict(found)
    state.take_facts(dict(manifest.facts))


def copy_weights(directory: Path, target: Path) -> None:
    """Write the weights of the checkpoint in `directory` to the file `target`, as safetensors."""
    if (directory / WEIGHTS_FILE).exists():
        shutil.copyfile(directory / WEIGHTS_FILE, target)
    else:
        save_file(whole_tensors(directory, "module."), target, metadata={"format": "pt"})


def _divided_as(found: Any, whole: Any, name: str = "the state") -> Any:
    """The values of `whole`, tensors divided as those of `found` are; every worker has all of `whole`."""
    if isinstance(found, Mapping):
        unknown = whole.keys() - found.keys()
        if unknown:
            raise RuntimeError(f"the checkpoint is another model's: {name} has no {', '.join(sorted(unknown)[:3])}")
        # Tied weights lie in the file once, and under one of their names.
        return {key: _divided_as(each, whole[key], key) if key in whole else each for key, each in found.items()}
    if isinstance(found, list):
        return [_divided_as(each, part, name) for each, part in zip(found, whole, strict=True)]
    if isinstance(found, DTensor):
        return distribute_tensor(whole.to(found.device), found.device_mesh, found.placements, src_data_rank=None)
    return whole


def _is_divided(state: dict[str, Any]) -> bool:
    """Asked of the state, not of the module: between two passes that may hold the weights gathered."""
    return any(isinstance(each, DTensor) for each in state["module"].values())
