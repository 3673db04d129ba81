"""Runner of the built-in networks: architecture from the card, weights from `model.safetensors`.

Knows nothing of wires or of how the weights came to be. Importing this file imports torch.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from app.domain.tensor import Datatype
from app.errors import InvalidInput
from app.models.architectures import build_empty
from app.models.blueprint import Network, UserModule
from app.models.card import ModelCard
from app.models.runners.base import Array, Arrays, check_inputs, held_bytes
from app.models.stored_layers import read_forms, restore

WEIGHTS_FILE = "model.safetensors"


class BuiltinRunner:
    """One FP32 input, flattened or in the network's shape; INT64 outputs are the index of the largest."""

    batch = True

    def __init__(self, card: ModelCard, directory: Path, *, device: str = "cpu") -> None:
        """Load the weights. Raises InvalidInput when card and weights do not fit."""
        network = card.architecture
        # A card is data: code that it names is not run for it.
        if not isinstance(network, Network) or isinstance(network, UserModule) or WEIGHTS_FILE not in card.files:
            raise InvalidInput(
                f"the card of {card.name}@{card.version} lacks a built-in network's architecture or {WEIGHTS_FILE}"
            )
        self.name, self.version, self.max_rows = card.name, card.version, card.max_rows
        self.inputs, self.outputs = card.inputs, card.outputs
        self._shape = network.input_shape
        self._device = torch.device(device)
        self._module = build_empty(network)
        weights = restore(self._module, load_file(directory / WEIGHTS_FILE, device=device), read_forms(directory))
        try:
            self._module.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise InvalidInput(f"weights of {card.name}@{card.version} do not fit its card: {error}") from error
        self._module.eval().requires_grad_(False)
        self.memory_bytes = held_bytes(self._module.state_dict().values())

    def weight(self, inputs: Arrays) -> float:
        """Rows."""
        return float(max(1, check_inputs(inputs, self.inputs, self.max_rows)))

    def run(self, inputs: Arrays) -> dict[str, Array]:
        rows = check_inputs(inputs, self.inputs, self.max_rows)
        values = torch.from_numpy(inputs[self.inputs[0].name].reshape(rows, *self._shape))
        with torch.inference_mode():
            raw: Array = self._module(values.to(self._device)).cpu().numpy()
        return {spec.name: raw.argmax(1) if spec.datatype is Datatype.INT64 else raw for spec in self.outputs}
