"""Weight-only quantisation of a language model: int8 per output, int4 per group, or bfloat16, in plain safetensors.

Knows nothing of text, cards or repositories. Embeddings, norms and the output layer become bfloat16 in all of them.
Importing this file imports torch and transformers. docs/adr/0013 says why this is not a library's format.

    quantise(Path("pycoder/1"), Path("staged"), Precision.INT8)
    teach_transformers()                              # to know the `quantization_config` in `config.json`
    model = AutoModelForCausalLM.from_pretrained("staged")

Raises InvalidInput for a model that cannot be quantised so.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.quantizers import HfQuantizer
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from app.errors import InvalidInput
from app.models.linear import GROUP, Bits, WeightOnlyLinear, pack_weight
from app.models.precision import Precision

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
_METHOD = "joulekeeper-weight-only"
_BITS: dict[Precision, Bits] = {Precision.INT8: 8, Precision.INT4: 4}


def teach_transformers() -> None:
    """Let `from_pretrained` load what `quantise` wrote, from now on in this process. May be called again."""
    if _METHOD not in AUTO_QUANTIZER_MAPPING:
        register_quantization_config(_METHOD)(_Config)
        register_quantizer(_METHOD)(_Quantizer)


def quantise(source: Path, target: Path, to: Precision) -> None:
    """Write `config.json` and `model.safetensors` of the model in `source` into `target`, quantised."""
    told = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
    if "quantization_config" in told:
        raise InvalidInput("this version is quantised already; quantise the one that it was made from")
    told |= {"dtype": "bfloat16"}
    weights = load_file(source / WEIGHTS_FILE)
    if to is Precision.BF16:
        weights = {name: tensor.bfloat16() for name, tensor in weights.items()}
    else:
        weights = dict(_quantised(weights, _linear_names(source), _BITS[to]))
        told |= {"quantization_config": {"quant_method": _METHOD, "bits": _BITS[to]}}
    save_file(weights, target / WEIGHTS_FILE, metadata={"format": "pt"})
    (target / CONFIG_FILE).write_text(json.dumps(told, indent=2), encoding="utf-8")


def _quantised(weights: dict[str, Tensor], names: list[str], bits: Bits) -> Iterator[tuple[str, Tensor]]:
    linear = {f"{name}.weight" for name in names}
    for name, tensor in weights.items():
        if name not in linear:
            yield name, tensor.bfloat16()
            continue
        if bits == 4 and tensor.shape[1] % GROUP:
            raise InvalidInput(f"{name} has {tensor.shape[1]} inputs; int4 needs a multiple of {GROUP}")
        packed, scale = pack_weight(tensor, bits)
        yield name, packed
        yield f"{name}_scale", scale


def _linear_names(directory: Path) -> list[str]:
    """The layers that are quantised: linear ones without bias, but the one that turns vectors into tokens."""
    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return list(_linears(model))


def _linears(model: Any) -> dict[str, nn.Linear]:
    output = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output and module.bias is None
    }


class _Config(QuantizationConfigMixin):  # type: ignore[misc]
    """What `quantization_config` says."""

    def __init__(self, bits: Bits, **_: Any) -> None:
        self.quant_method: Any = _METHOD
        self.bits = bits


class _Quantizer(HfQuantizer):  # type: ignore[misc]
    """Puts WeightOnlyLinear in the place of linear layers before transformers loads their weights."""

    is_trainable = False

    def is_serializable(self) -> bool:
        return False

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> Any:
        bits = self.quantization_config.bits
        for name, module in _linears(model).items():
            with torch.device("meta"):
                model.set_submodule(name, WeightOnlyLinear(module.in_features, module.out_features, bits))
        return model
