"""Stored layers: every form comes back as what it stood for, at the size that it promises."""

from pathlib import Path

import pytest
import torch
from torch import nn

from app.errors import InvalidInput
from app.models.linear import pack_weight, unpack_weight
from app.models.stored_layers import Form, StoredLayer, form_for, read_forms, restore, store, write_forms


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(50, 32), nn.Conv2d(2, 6, 3, padding=1), nn.Linear(64, 16))


def again(module: nn.Module, forms: dict[str, StoredLayer]) -> tuple[nn.Module, int]:
    """The module as it comes back, and the bytes of its tensors in the file."""
    tensors = store(dict(module.state_dict()), forms)
    with torch.device("meta"):
        empty = layers()
    found = restore(empty, tensors, forms)
    empty.load_state_dict(found, assign=True)
    return empty.eval(), sum(tensor.nbytes for tensor in tensors.values())


def test_zeros_are_left_out_and_come_back() -> None:
    module = layers()
    with torch.no_grad():
        for layer in module:
            layer.weight[torch.rand_like(layer.weight) < 0.75] = 0  # type: ignore[index]
    forms = dict.fromkeys(("0", "1", "2"), StoredLayer(form="sparse"))
    back, size = again(module, forms)
    assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in module.state_dict().items())
    weights = sum(layer.weight.numel() for layer in module)  # type: ignore[misc]
    kept = sum(int((layer.weight != 0).sum()) for layer in module)  # type: ignore[arg-type]
    assert size <= 4 * kept + weights // 8 + 3 + 4 * 22  # values, a bit for each weight, 22 biases


def test_signs_take_a_bit() -> None:
    module = layers()
    with torch.no_grad():
        size = module[2].weight.abs().mean(1, keepdim=True)  # type: ignore[union-attr,operator]
        module[2].weight.copy_(torch.where(module[2].weight > 0, size, -size))  # type: ignore[union-attr,operator]
    forms = {"2": StoredLayer(form="binary")}
    back, _ = again(module, forms)
    torch.testing.assert_close(back[2].weight, module[2].weight)  # type: ignore[index]
    stored = store(dict(module.state_dict()), forms)
    assert (stored["2.weight_signs"].nbytes, stored["2.weight_scale"].shape) == (64 * 16 // 8, (16,))


@pytest.mark.parametrize("form", ["int8", "int4", "int8_dynamic", "int8_static"])
def test_integers_answer_as_what_they_stand_for(form: Form) -> None:
    module = layers().eval()
    forms = {
        name: StoredLayer(form=form_for(layer, form), input_scale=8 / 255, input_zero=128)
        for name, layer in module.named_children()
    }
    back, size = again(module, forms)
    assert size < 0.45 * sum(tensor.nbytes for tensor in module.state_dict().values())
    expected = layers().eval()
    with torch.no_grad():
        for name, layer in expected.named_children():
            bits = 4 if forms[name].form == "int4" else 8
            weight = layer.weight
            whole = unpack_weight(*pack_weight(weight.flatten(1), bits), bits)  # type: ignore[arg-type,union-attr,operator]
            weight.copy_(whole.view(weight.shape))  # type: ignore[union-attr,operator]
    tokens = torch.tensor([[3, 4], [5, 6]])
    image, rows = torch.randn(3, 2, 8, 8).clamp(-4, 4), torch.randn(5, 64).clamp(-4, 4)
    with torch.inference_mode():
        for index, given in enumerate((tokens, image, rows)):
            found, wanted = back[index](given), expected[index](given)  # type: ignore[index]
            # 8 bits of activations are off by half of 8/255 at most, of values that are about 1.
            off = 0.02 if form in ("int8_dynamic", "int8_static") and index else 1e-5
            assert float((found - wanted).norm() / wanted.norm()) < off


def test_int4_needs_whole_groups_and_tables_and_convolutions_take_what_they_can() -> None:
    table, filters, linear = layers()
    assert [form_for(each, "int4") for each in (table, filters, linear)] == ["int8", "int8", "int4"]
    assert [form_for(each, "int8_dynamic") for each in (table, filters, linear)] == ["int8", "int8", "int8_dynamic"]
    assert [form_for(each, "int8_static") for each in (table, filters, linear)] == [
        "int8",
        "int8_static",
        "int8_static",
    ]


def test_forms_are_a_file_where_there_are_any(tmp_path: Path) -> None:
    write_forms(tmp_path, {})
    assert read_forms(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []
    forms = {
        "body.0": StoredLayer(form="int8_static", input_scale=0.5, input_zero=3),
        "body.3": StoredLayer(form="sparse"),
    }
    write_forms(tmp_path, forms)
    assert read_forms(tmp_path) == forms
    (tmp_path / "layers.json").write_text('{"body.0": {"form": "int7"}}')
    with pytest.raises(InvalidInput, match=r"layers\.json is not readable"):
        read_forms(tmp_path)


@pytest.mark.parametrize("name", ["2", "7"])
def test_forms_of_another_network_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"layer '{name}' of form sparse does not fit the network"):
        restore(layers(), {}, {name: StoredLayer(form="sparse")})
