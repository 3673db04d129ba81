"""Layers whose products are of integers: int8 weights, and activations rounded to 8 bits on the way in.

Knows nothing of models or files. Weights are symmetric, a scale for each output (linear.py); activations are
asymmetric, x ~ (q - zero) x scale with q in [0, 255], one scale for all of a tensor: `Dynamic` layers take it from the
very tensor, `Static` ones were told it once. On a CPU products are the oneDNN kernels that torch's own compiler uses
for such operands, not its public interface: scripts/constraints.txt pins the torch that was tried, docs/adr/0014 says
what they bring. Anywhere else weights are expanded when they are first used, and activations stay as they are.
Importing this file imports torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.models.linear import unpack_weight

Product = Callable[[Tensor], Tensor]
Range = tuple[float, int]
"""Scale and zero of 8 bits."""
_PLAIN_OUTPUT: tuple[object, ...] = (1.0, 0, torch.float32, "none", [], "")
"""Of the kernels: the output in float32, nothing done to it afterwards."""


def activation_range(lowest: float, highest: float) -> Range:
    """Scale and zero of 8 bits for values from `lowest` to `highest`; nothing itself is always exact."""
    low, high = min(0.0, lowest), max(0.0, highest)
    scale = (high - low) / 255 or 1.0
    return scale, round(-low / scale)


class IntegerEmbedding(nn.Module):
    """`nn.Embedding` over int8 rows, each with a scale; only the rows that are asked for are expanded."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width, dtype=torch.int8), requires_grad=False)
        self.weight_scale = nn.Parameter(torch.empty(rows, dtype=torch.bfloat16), requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.weight[tokens].float() * self.weight_scale[tokens].float()[..., None]


class _Int8Layer(nn.Module, ABC):
    """Weight, scale and bias, and a product that is made at the first use."""

    def __init__(self, weight: tuple[int, ...], bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(weight, dtype=torch.int8), requires_grad=False)
        self.weight_scale = nn.Parameter(torch.empty(weight[0], dtype=torch.bfloat16), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(weight[0]), requires_grad=False) if bias else None
        self._product: Product | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._product is None:
            by_integers = x.device.type == "cpu" and "onednn" in torch.backends.quantized.supported_engines
            self._product = self._integer_product() if by_integers else self._expanded()
        return self._product(x)

    @abstractmethod
    def _integer_product(self) -> Product: ...

    @abstractmethod
    def _expanded(self) -> Product: ...

    def _whole(self) -> Tensor:
        return unpack_weight(self.weight.flatten(1), self.weight_scale, 8).view(self.weight.shape)

    def _scales(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scales and zeros of the weights, and the bias, as the kernels take them."""
        zeros = torch.zeros(len(self.weight), dtype=torch.int32)
        return self.weight_scale.detach().float(), zeros, self.bias


class _Int8Linear(_Int8Layer):
    """`nn.Linear` of int8 by 8 bits."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__((out_features, in_features), bias)

    @abstractmethod
    def _range(self, x: Tensor) -> Range: ...

    def _integer_product(self) -> Product:
        packed = torch.ops.onednn.qlinear_prepack(self.weight.detach(), None)
        kernel, scales = torch.ops.onednn.qlinear_pointwise.default, self._scales()

        def product(x: Tensor) -> Tensor:
            rows = x.reshape(-1, x.shape[-1])
            if not len(rows):
                return x.new_zeros(*x.shape[:-1], len(self.weight))
            scale, zero = self._range(rows)
            found: Tensor = kernel(_rounded(rows, scale, zero), scale, zero, packed, *scales, *_PLAIN_OUTPUT)
            return found.view(*x.shape[:-1], -1)

        return product

    def _expanded(self) -> Product:
        weight, bias = self._whole(), self.bias
        return lambda x: functional.linear(x, weight, bias)


class DynamicInt8Linear(_Int8Linear):
    """Its activations are scaled by their own range."""

    def _range(self, x: Tensor) -> Range:
        lowest, highest = x.aminmax()
        return activation_range(float(lowest), float(highest))


class StaticInt8Linear(_Int8Linear):
    """Its activations have the range that calibration found; what lies outside is cut."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool, told: Range) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self._told = told

    def _range(self, x: Tensor) -> Range:
        return self._told


class StaticInt8Conv2d(_Int8Layer):
    """`nn.Conv2d` of int8 by 8 bits, its padding zeros, its activations in the range that calibration found."""

    def __init__(self, like: nn.Conv2d, *, told: Range) -> None:
        super().__init__(tuple(like.weight.shape), like.bias is not None)
        self._told = told
        self._shape = (list(like.stride), [int(side) for side in like.padding], list(like.dilation), like.groups)

    def _integer_product(self) -> Product:
        kernel, scales = torch.ops.onednn.qconv_pointwise.default, self._scales()
        packed = torch.ops.onednn.qconv_prepack(self.weight.detach(), scales[0], *self._told, *self._shape, None)

        def product(x: Tensor) -> Tensor:
            rounded = _rounded(x, *self._told)
            found: Tensor = kernel(rounded, *self._told, packed, *scales, *self._shape, *_PLAIN_OUTPUT)
            return found

        return product

    def _expanded(self) -> Product:
        weight, bias, (stride, padding, dilation, groups) = self._whole(), self.bias, self._shape
        return lambda x: functional.conv2d(x, weight, bias, stride, padding, dilation, groups)


def _rounded(x: Tensor, scale: float, zero: int) -> Tensor:
    """To the nearest of 8 bits; the cut to bytes takes what is below the point away."""
    return torch.add(torch.tensor(zero + 0.5), x, alpha=1 / scale).clamp_(0, 255).to(torch.uint8)
