"""Blueprints of the built-in architectures: what a job file and a model card say about a network.

Pure configuration; knows nothing of torch (architectures.py builds the modules) nor of training.

    blueprint = Cnn(channels=(16, 32), hidden=64, classes=10)
    blueprint.input_shape, blueprint.output_size      # (1, 8, 8), 10
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Width = Annotated[int, Field(ge=1, le=65_536)]
Activation = Literal["relu", "gelu", "tanh", "silu"]


class _Blueprint(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    input_scale: float = Field(default=1.0, gt=0)
    """Inputs are divided by this inside the network, so that clients send raw values. 1: as they come."""


class Mlp(_Blueprint):
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


class Cnn(_Blueprint):
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


Blueprint = Annotated[Mlp | Cnn, Field(discriminator="architecture")]
