"""Blueprints: what a job file and a model card say about a network, built in, of the transformers library, or a user's.

Pure configuration; knows nothing of torch (architectures.py builds the modules) nor of training.

    blueprint = Cnn(channels=(16, 32), hidden=64, classes=10)
    blueprint.input_shape, blueprint.output_size      # (1, 8, 8), 10
    Llama(vocabulary=4096, hidden=256, layers=6, heads=4).kv_heads        # 4: as many as there are heads
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Width = Annotated[int, Field(ge=1, le=65_536)]
END_TOKEN = 0
"""Of every language model of ours: it stands before and between texts, and where a model writes it, its text ends."""
Activation = Literal["relu", "gelu", "tanh", "silu"]


class _Blueprint(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(_Blueprint, ABC):
    """Of a network that takes rows of numbers and gives each of them `output_size` values."""

    input_scale: float = Field(default=1.0, gt=0)
    """Inputs are divided by this inside the network, so that clients send raw values. 1: as they come."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Values per row that come out."""


class Mlp(Network):
    """A multi-layer perceptron: fully connected layers with one activation between them."""

    architecture: Literal["mlp"] = "mlp"
    """Which of them it is."""
    sizes: Annotated[tuple[Width, ...], Field(min_length=2, max_length=64)]
    """Units per layer, inputs first, outputs last: [1000, 500, 100, 1]."""
    activation: Activation = "relu"
    """Between two layers."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.sizes[0],)

    @property
    def output_size(self) -> int:
        return self.sizes[-1]


class Cnn(Network):
    """A small convolutional network for square images of one channel."""

    architecture: Literal["cnn"] = "cnn"
    """Which of them it is."""
    image_size: int = Field(default=8, ge=4, le=256)
    """Pixels per side; halved after every convolution, so it bounds how many there can be."""
    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=6)] = (16, 32)
    """Feature maps of each 3x3 convolution."""
    hidden: Annotated[int, Field(ge=0, le=65_536)] = 64
    """Units of the fully connected layer before the output; 0: there is none."""
    classes: Annotated[int, Field(ge=2, le=65_536)] = 10
    """Values per row that come out."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of hidden units silenced while training."""
    activation: Activation = "relu"
    """After every layer but the last."""
    exit_confidence: float = Field(default=0.0, ge=0, le=1)
    """Above 0 there is an exit after every pooling but the last, and a row leaves at the first that gives its likeliest
    class this probability (early_exit.py); made by `models compress --method early-exit`. 0: no exits."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channel, height, width."""
        return (1, self.image_size, self.image_size)

    @property
    def output_size(self) -> int:
        return self.classes

    @property
    def feature_size(self) -> int:
        """Pixels per side after the last pooling; 0 when the image is too small for so many convolutions."""
        return self.image_size >> len(self.channels)


class _Sequence(Network):
    """Of a network that reads the values of a row as a sequence of steps."""

    steps: int = Field(ge=1, le=65_536)
    """Steps of a sequence."""
    features: Width
    """Values of a step: an image of 8 x 8 pixels is read as 8 steps of 8."""
    hidden: Width = 64
    """Width of the hidden state."""
    layers: int = Field(default=1, ge=1, le=64)
    """One above the other."""
    outputs: Width = 10
    """Values per row that come out."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what passes between layers that is silenced while training."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Steps, features."""
        return (self.steps, self.features)

    @property
    def output_size(self) -> int:
        return self.outputs


class Recurrent(_Sequence):
    """A recurrent network; what it says of a row is read from its last hidden state."""

    architecture: Literal["rnn", "gru", "lstm"]
    """Which of them it is."""


class Transformer(_Sequence):
    """An encoder of attention layers, normalised before each; what it says of a row is the mean over the steps."""

    architecture: Literal["transformer"] = "transformer"
    """Which of them it is."""
    heads: int = Field(default=4, ge=1, le=256)
    """Attention heads; each is `hidden / heads` wide."""
    intermediate: int = Field(default=0, ge=0, le=1_000_000)
    """Width of the feed-forward layers. 0: four times `hidden`."""
    activation: Activation = "gelu"
    """Within the feed-forward layers."""

    @property
    def feed_forward(self) -> int:
        """Width of the feed-forward layers."""
        return self.intermediate or 4 * self.hidden

    @model_validator(mode="after")
    def _heads_divide(self) -> "Transformer":
        if self.hidden % self.heads:
            raise ValueError(f"hidden = {self.hidden} must be a multiple of heads = {self.heads}")
        return self


class UserModule(Network):
    """A network that code of the user's builds. Whoever may write a job file may run code, as Ray itself has it."""

    architecture: Literal["module"] = "module"
    """Which of them it is."""
    code: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`package.module:name` of a class or function that gives a torch module; importable on every node."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What it is called with, by name."""
    shape: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
    """Of one row, as the module takes it after the dimension of rows."""
    outputs: Width
    """Values per row that come out."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def output_size(self) -> int:
        return self.outputs


class Pretrained(_Blueprint):
    """A model of the transformers library: weights to go on from, or a configuration to start anew."""

    architecture: Literal["transformers"] = "transformers"
    """Which of them it is."""
    source: str = ""
    """Where configuration, tokenizer and weights are: a directory, `package:NAME`, or `repository:NAME[@VERSION]`."""
    config: dict[str, Any] = Field(default_factory=dict)
    """In place of `source`, what `config.json` would say, `model_type` included: weights are drawn from the seed."""
    context: int = Field(default=128, ge=8, le=1_048_576)
    """Tokens that it reads at once, in training; of longer texts the beginning is learned."""

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "Pretrained":
        if bool(self.source) == bool(self.config):
            raise ValueError("needs one of source and config, and no more")
        if self.config and not isinstance(self.config.get("model_type"), str):
            raise ValueError("config needs model_type, the name of an architecture of the transformers library")
        return self


class Llama(_Blueprint):
    """A decoder of Llama's shape: rotary positions, RMS norms, gated feed-forward layers, no biases."""

    architecture: Literal["llama"] = "llama"
    """Which of them it is."""
    vocabulary: int = Field(ge=257, le=1_000_000)
    """Tokens, special ones included; a byte-level tokenizer needs one for each byte and one that ends a text."""
    hidden: Annotated[int, Field(ge=8, le=65_536)]
    """Width of the hidden state."""
    layers: int = Field(ge=1, le=256)
    """One above the other."""
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


LanguageModel = Llama | Pretrained
"""What reads tokens."""
Blueprint = Annotated[
    Mlp | Cnn | Recurrent | Transformer | UserModule | Llama | Pretrained, Field(discriminator="architecture")
]
