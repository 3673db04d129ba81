"""A linear layer whose weights are integers: how they are rounded, stored and multiplied.

Knows nothing of models or files. Symmetric rounding to nearest: w ~ q x scale, with q in [-127, 127] and a scale for
each output (int8), or q in [-7, 7] and a scale for each group of GROUP inputs of an output (int4, two to a byte, the
even input in the low half). Scales are bfloat16. Importing this file imports torch.

    packed, scale = pack_weight(weight, bits=4)       # UINT8 [outputs, inputs / 2], BF16 [outputs, inputs / GROUP]

On a CPU, with bfloat16 activations, the products are torch's own kernels for such weights; anywhere else the weights
are expanded when they are first used, and nothing but the file is small.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Bits = Literal[8, 4]
Product = Callable[[Tensor], Tensor]

GROUP = 32
"""Inputs that share a scale in int4: finer is more exact, and costs 16 bits of scale for 32 weights of 4."""
_FEW_ROWS = 16
"""Up to so many rows torch's int8 kernel is no slower than expanding the weights for a product of bfloat16, for
256 x 704 and 2048 x 2048 (torch 2.13, AVX-512 with BF16, one thread, 2026-11-22)."""
_ALIGNMENT = 32
"""Bytes, of activations; weights need 16."""


def pack_weight(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Integers and scales of a weight [outputs, inputs]; for int4 inputs must be a multiple of GROUP."""
    if bits == 8:
        scale = _scale(weight.float().abs().amax(1), 127)
        return (weight.float() / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale.bfloat16()
    groups = weight.float().view(len(weight), -1, GROUP)
    scale = _scale(groups.abs().amax(2), 7)
    whole = ((groups / scale[:, :, None]).round().clamp(-7, 7) + 8).to(torch.uint8).flatten(1)
    return whole[:, 0::2] | whole[:, 1::2] << 4, scale.bfloat16()


def unpack_weight(packed: Tensor, scale: Tensor, bits: Bits) -> Tensor:
    """The weight [outputs, inputs] that integers and scales stand for, FP32."""
    if bits == 8:
        return packed.float() * scale.float()[:, None]
    groups = _nibbles(packed).view(len(packed), -1, GROUP).float() - 8
    return (groups * scale.float()[:, :, None]).flatten(1)


def _scale(largest: Tensor, top: int) -> Tensor:
    """The step between neighbouring integers, rounded to bfloat16; 1 where all weights are nothing."""
    return torch.where(largest > 0, largest / top, torch.ones_like(largest)).bfloat16().float()


def _nibbles(packed: Tensor) -> Tensor:
    return torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)


class WeightOnlyLinear(nn.Module):
    """`nn.Linear` over integer weights; what comes in and goes out is floating point."""

    def __init__(self, in_features: int, out_features: int, bits: Bits, *, bias: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bits = in_features, out_features, bits
        stored = torch.empty(out_features, in_features * bits // 8, dtype=torch.int8 if bits == 8 else torch.uint8)
        scales = (out_features,) if bits == 8 else (out_features, in_features // GROUP)
        self.weight = nn.Parameter(stored, requires_grad=False)
        self.weight_scale = nn.Parameter(torch.empty(scales, dtype=torch.bfloat16), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(out_features), requires_grad=False) if bias else None
        self._product: Product | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._product is None:
            self._product = self._product_for(x)
        rows = self._product(x.reshape(-1, self.in_features))
        if self.bias is not None:
            rows = rows + self.bias
        return rows.view(*x.shape[:-1], self.out_features)

    def _product_for(self, x: Tensor) -> Product:
        weight, scale = self.weight.detach(), self.weight_scale.detach().bfloat16()
        by_sixteens = self.in_features % 16 == 0 and self.out_features % 16 == 0  # as the kernels read
        if x.device.type != "cpu" or x.dtype != torch.bfloat16 or not by_sixteens:
            whole = unpack_weight(weight, scale, self.bits).to(x.dtype)
            return lambda rows: functional.linear(rows, whole)
        if self.bits == 8:
            aligned = weight.clone()  # what comes out of a file lies anywhere
            return lambda rows: _int8_product(rows, aligned, scale)
        packed = torch._convert_weight_to_int4pack_for_cpu(_nibbles(weight).int(), 1)
        # The kernel computes (q - 8) x scale + zero.
        scales = torch.stack([scale.T, torch.zeros_like(scale.T)], dim=2).contiguous()
        return lambda rows: torch._weight_int4pack_mm_for_cpu(rows, packed, GROUP, scales)


def _int8_product(rows: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    if len(rows) <= _FEW_ROWS:
        # The kernel reads 32 bytes at a time, and faults where they are not aligned (torch 2.13).
        aligned = rows.contiguous() if rows.data_ptr() % _ALIGNMENT == 0 else rows.clone()
        return torch._weight_int8pack_mm(aligned, weight, scale)
    # The scale is of the output, so it can be applied after the product.
    return functional.linear(rows, weight.bfloat16()) * scale
