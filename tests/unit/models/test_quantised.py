"""Quantised language models: plain safetensors that transformers loads, close to what they were made from."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from app.errors import InvalidInput
from app.models.blueprint import Llama
from app.models.linear import WeightOnlyLinear
from app.models.llama import build_llama, write_configs
from app.models.precision import Precision
from app.models.quantised import quantise, teach_transformers
from app.models.weights import save_weights

teach_transformers()

BLUEPRINT = Llama(vocabulary=300, hidden=32, layers=2, heads=2, kv_heads=1, context=64)
TOKENS = torch.arange(40).reshape(2, 20)


def base(directory: Path, blueprint: Llama = BLUEPRINT) -> Path:
    directory.mkdir()
    torch.manual_seed(0)
    save_weights(directory / "model.safetensors", build_llama(blueprint))
    write_configs(blueprint, directory)
    return directory


def logits(directory: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(directory)
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=TOKENS).logits
    return found.float()


@pytest.mark.parametrize(("to", "error"), [(Precision.INT8, 0.02), (Precision.BF16, 0.03), (Precision.INT4, 0.3)])
def test_a_variant_answers_almost_like_its_base(tmp_path: Path, to: Precision, error: float) -> None:
    source, target = base(tmp_path / "base"), tmp_path / "variant"
    target.mkdir()
    quantise(source, target, to)
    expected, found = logits(source), logits(target)
    assert 0 < float((found - expected).norm() / expected.norm()) < error


@pytest.mark.parametrize(("to", "bits"), [(Precision.INT8, 8), (Precision.INT4, 4)])
def test_linear_layers_alone_are_quantised(tmp_path: Path, to: Precision, bits: int) -> None:
    source, target = base(tmp_path / "base"), tmp_path / "variant"
    target.mkdir()
    quantise(source, target, to)
    model = AutoModelForCausalLM.from_pretrained(target)
    changed = [name for name, module in model.named_modules() if isinstance(module, WeightOnlyLinear)]
    assert len(changed) == 2 * 7  # two layers of query, key, value, output, gate, up and down
    assert {module.bits for module in model.modules() if isinstance(module, WeightOnlyLinear)} == {bits}
    before, after = load_file(source / "model.safetensors"), load_file(target / "model.safetensors")
    assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"].bfloat16())
    name = f"{changed[0]}.weight"
    assert after[name].nbytes * 32 == before[name].nbytes * bits


def test_bf16_halves_every_weight(tmp_path: Path) -> None:
    source, target = base(tmp_path / "base"), tmp_path / "variant"
    target.mkdir()
    quantise(source, target, Precision.BF16)
    assert {tensor.dtype for tensor in load_file(target / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((target / "config.json").read_text())["dtype"] == "bfloat16"


def test_what_is_quantised_is_not_quantised_again(tmp_path: Path) -> None:
    source, target = base(tmp_path / "base"), tmp_path / "variant"
    target.mkdir()
    quantise(source, target, Precision.INT8)
    with pytest.raises(InvalidInput, match="quantised already"):
        quantise(target, tmp_path, Precision.INT4)


def test_sizes_that_groups_do_not_divide_are_refused(tmp_path: Path) -> None:
    source = base(tmp_path / "base", Llama(vocabulary=300, hidden=40, layers=1, heads=2, intermediate=64))
    with pytest.raises(InvalidInput, match="multiple of 32"):
        quantise(source, tmp_path, Precision.INT4)
