"""Weights of a module in a safetensors file, which holds a tensor that has two names, as tied embeddings have, once.

Knows nothing of what the module is. Importing this file imports torch.
"""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, device, nn


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Weights and saved buffers by name; of those that are one and the same, the first."""
    by_identity = {id(tensor): (name, tensor) for name, tensor in reversed(_named(module))}
    return {name: tensor for name, tensor in _named(module) if by_identity[id(tensor)][0] == name}


def save_weights(path: Path, module: nn.Module) -> None:
    """Write them as they are, in the format that transformers reads, too."""
    weights = {name: tensor.detach().contiguous().cpu() for name, tensor in own_tensors(module).items()}
    save_file(weights, path, metadata={"format": "pt"})


def load_weights(path: Path, module: nn.Module, to: device) -> None:
    """Copy the weights in a file into `module`. Raises RuntimeError where they do not fit."""
    missing, unknown = module.load_state_dict(load_file(path, device=str(to)), strict=False)
    missing = [name for name in missing if name in own_tensors(module)]
    if missing or unknown:
        raise RuntimeError(f"{path.name} does not fit: it lacks {missing}, and {unknown} are unknown")


def _named(module: nn.Module) -> list[tuple[str, Tensor]]:
    return list(module.state_dict(keep_vars=True).items())
