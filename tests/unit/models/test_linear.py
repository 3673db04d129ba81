"""Integer weights: rounded to the nearest, stored as documented, multiplied as what they stand for."""

import pytest
import torch

from app.models.linear import GROUP, Bits, WeightOnlyLinear, pack_weight, unpack_weight


def weight(outputs: int = 64, inputs: int = 96) -> torch.Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))


def layer_of(full: torch.Tensor, bits: Bits) -> WeightOnlyLinear:
    layer = WeightOnlyLinear(full.shape[1], full.shape[0], bits)
    packed, scale = pack_weight(full, bits)
    layer.load_state_dict({"weight": packed, "weight_scale": scale})
    return layer.eval()


def test_int8_is_off_by_half_a_step_of_its_output_at_most() -> None:
    full = weight()
    packed, scale = pack_weight(full, 8)
    assert (packed.dtype, packed.shape, scale.shape) == (torch.int8, (64, 96), (64,))
    torch.testing.assert_close(scale.float(), full.abs().amax(1) / 127, rtol=2**-8, atol=0)
    # Half a step; the largest weight may lie beyond 127 steps by what bfloat16 took off the scale.
    assert ((unpack_weight(packed, scale, 8) - full).abs() <= scale.float()[:, None] * (0.5 + 127 * 2**-8)).all()


def test_int4_is_off_by_half_a_step_of_its_group_at_most() -> None:
    full = weight()
    packed, scale = pack_weight(full, 4)
    assert (packed.dtype, packed.shape, scale.shape) == (torch.uint8, (64, 48), (64, 96 // GROUP))
    steps = scale.float().repeat_interleave(GROUP, dim=1)
    assert ((unpack_weight(packed, scale, 4) - full).abs() <= steps * (0.5 + 7 * 2**-8)).all()


def test_int4_keeps_the_even_input_in_the_low_half() -> None:
    full = torch.zeros(32, GROUP)
    full[0, 0], full[0, 1] = 7.0, -3.0
    packed, scale = pack_weight(full, 4)
    assert scale[0, 0] == 1.0
    assert packed[0, 0] == (7 + 8) | (-3 + 8) << 4
    assert packed[0, 1] == 8 | 8 << 4  # nothing is 8 of 0 to 15


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rows", [1, 5, 80])
def test_a_layer_multiplies_with_what_its_weights_stand_for(
    bits: Bits, rows: int, dtype: torch.dtype, error: float
) -> None:
    full = weight()
    x = torch.randn(2, rows, 96, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = x.float() @ unpack_weight(*pack_weight(full, bits), bits).T
    with torch.inference_mode():
        found = layer_of(full, bits)(x)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert float((found.float() - expected).norm() / expected.norm()) < error


def test_an_output_of_nothing_stays_nothing() -> None:
    full = weight()
    full[3] = 0
    for bits in (8, 4):
        assert not unpack_weight(*pack_weight(full, bits), bits)[3].any()
