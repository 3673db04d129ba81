"""Blueprints of the built-in architectures: what a job file and a model card say about a network.

Pure configuration; knows nothing of torch (architectures.py builds the modules) nor of training.

    blueprint = Cnn(channels=(16, 32), hidden=64, classes=10)
    blueprint.input_shape, blueprint.output_size      # (1, 8, 8), 10
    Llama(vocabulary=4096, hidden=256, layers=6, heads=4).kv_heads        # 4: as many as there are heads
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Width = Annotated[int, Field(ge=1, le=65_536)]
END_TOKEN = 0
"""Of every language model of ours: it stands before and between texts, and where a model writes it, its text ends."""
Activation = Literal["relu", "gelu", "tanh", "silu"]


class _Blueprint(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Network(_Blueprint):
    """Of a network that takes rows of numbers."""

    input_scale: float = Field(default=1.0, gt=0)
    """Inputs are divided by this inside the network, so that clients send raw values. 1: as they come."""


class Mlp(_Network):
    """A multi-layer perceptron: fully connected layers with one activation between them."""

    architecture: Literal["mlp"] = "mlp"
    sizes: Annotated[tuple[Width, ...], Field(min_length=2, max_length=64)]
    """Units per layer, inputs first, outputs last: [1000, 500, 100, 1]."""
    activation: Activation = "relu"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return (self.sizes[0],)

    @property
    def output_size(self) -> int:
        """Values per row that come out."""
        return self.sizes[-1]


class Cnn(_Network):
    """A small convolutional network for square images of one channel."""

    architecture: Literal["cnn"] = "cnn"
    image_size: int = Field(default=8, ge=4, le=256)
    """Pixels per side; halved after every convolution, so it bounds how many there can be."""
    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=6)] = (16, 32)
    """Feature maps of each 3x3 convolution."""
    hidden: Width = 64
    """Units of the fully connected layer before the output."""
    classes: Annotated[int, Field(ge=2, le=65_536)] = 10
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of hidden units silenced while training."""
    activation: Activation = "relu"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row: channel, height, width."""
        return (1, self.image_size, self.image_size)

    @property
    def output_size(self) -> int:
        """Values per row that come out."""
        return self.classes

    @property
    def feature_size(self) -> int:
        """Pixels per side after the last pooling; 0 when the image is too small for so many convolutions."""
        return self.image_size >> len(self.channels)


class Llama(_Blueprint):
    """A decoder of Llama's shape: rotary positions, RMS norms, gated feed-forward layers, no biases."""

    architecture: Literal["llama"] = "llama"
    vocabulary: int = Field(ge=257, le=1_000_000)
    """Tokens, special ones included; a byte-level tokenizer needs one for each byte and one that ends a text."""
    hidden: Annotated[int, Field(ge=8, le=65_536)]
    """Width of the hidden state."""
    layers: int = Field(ge=1, le=256)
    heads: int = Field(ge=1, le=256)
    """Attention heads; each is `hidden / heads` wide."""
    kv_heads: int = Field(default=0, ge=0, le=256)
    """Heads of keys and values, which groups of attention heads share. 0: as many as `heads`."""
    intermediate: int = Field(default=0, ge=0, le=1_000_000)
    """Width of the feed-forward layers. 0: 8/3 of `hidden`, rounded up to a multiple of 32."""
    context: int = Field(default=512, ge=8, le=1_048_576)
    """Tokens that it reads at once, in training and when served."""
    tied_embeddings: bool = True
    """Whether one matrix turns tokens into vectors and vectors into tokens."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary positions."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        filled = dict(given)
        if not filled.get("kv_heads") and isinstance(filled.get("heads"), int):
            filled["kv_heads"] = filled["heads"]
        if not filled.get("intermediate") and isinstance(filled.get("hidden"), int):
            filled["intermediate"] = -(-8 * filled["hidden"] // 96) * 32
        return filled

    @model_validator(mode="after")
    def _heads_divide(self) -> "Llama":
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden = {self.hidden} must be a multiple of 2 x heads = {2 * self.heads}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads = {self.heads} must be a multiple of kv_heads = {self.kv_heads}")
        return self


Blueprint = Annotated[Mlp | Cnn | Llama, Field(discriminator="architecture")]
