"""Model cards: what a published version is, where it came from and what it cost.

Knows nothing of directories (repository.py keeps them) nor of torch. A card is `card.yaml` beside the
weights. The digests in it say that the files are those which were published; they do not say that the
publisher is to be trusted, and the card itself is not signed.
"""

from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.tensor import TensorSpec
from app.errors import InvalidInput
from app.models.blueprint import Blueprint

RunnerKind = Literal["encoder", "builtin", "exported", "python", "generator"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataCard(_Part):
    """One data set that went into a model."""

    name: str
    origin: str
    """Where it can be had, for people: a citation or the generator's description."""
    licence: str
    digest: str
    """`sha256:<hex>` over the values and labels, in a documented order."""
    rows: int = Field(ge=0)
    split: str = ""
    """How rows were held out, so that the same ones can be held out again."""
    test_share: float | None = None
    seed: int | None = None
    """The same as values, of sources that can be asked for the same rows again."""


class EnergyCard(_Part):
    """What making this version cost. All zero with grade `none`: nothing was metered."""

    energy_uj: int = Field(ge=0)
    carbon_ugco2e: int = Field(ge=0)
    grade: str
    source: Literal["ledger", "slices", "none"]
    """`ledger`: settled on the books. `slices`: summed by the workers, without an accountant."""
    by_phase_uj: dict[str, int] = Field(default_factory=dict)
    """Energy of the workers' slices by phase: setup, step, evaluate, checkpoint."""


class TokenCost(_Part):
    """What a language model's tokens cost when it was measured: prompts continued as a server does, greedily.

    All energy of the runs, reading the prompts included, over the tokens that were generated.
    """

    uj_per_token: float = Field(ge=0)
    base_uj_per_token: float = Field(ge=0)
    """Of the version that a variant was made from, in turns with it; its own where it is no variant."""
    tokens: int = Field(ge=1)
    """Generated, by each of the two."""
    sequences: int = Field(ge=1)
    """At once."""
    grade: str
    hardware: str
    """Where: figures of different hardware do not compare."""


class InferenceCost(_Part):
    """What a row costs to answer, measured in turns with the version that it was compressed from."""

    rows: int = Field(ge=1)
    """Of one request."""
    p50_ms: float = Field(ge=0)
    base_p50_ms: float = Field(ge=0)
    """Of a request: the median of all of them."""
    uj_per_row: float | None = None
    base_uj_per_row: float | None = None
    """All energy of the runs over the rows answered; None: no meter was there."""
    grade: str = "none"
    hardware: str
    """Where: figures of different hardware do not compare."""


class CompressionCard(_Part):
    """How a version was made smaller, and what it is beside the one that it was made from."""

    base: str
    """`name@version`."""
    steps: tuple[str, ...]
    """What was done, in turn: `prune-channels rate=0.5 epochs=8`."""
    weights_bytes: int = Field(ge=0)
    base_weights_bytes: int = Field(ge=0)
    """Of the files with weights, what says how to read them included."""
    base_metrics: dict[str, float]
    """Measured with the version's own, on the same rows or texts."""
    costs: tuple[InferenceCost, ...] = ()

    @property
    def compression_ratio(self) -> float:
        """(before - after) / before, of the bytes."""
        return (self.base_weights_bytes - self.weights_bytes) / max(1, self.base_weights_bytes)


class ModelCard(_Part):
    """One version of one model."""

    name: str
    version: str = ""
    """Filled in by the repository."""
    variant: str = ""
    """How it differs from the version that it was made from, `int8`; empty: it is no variant."""
    created: str
    """ISO 8601 with time zone."""
    runner: RunnerKind
    architecture: Blueprint | None = None
    """Of a built-in network; None for the other runners."""
    code: str = ""
    """Of runner `python`: `package.module:Class`, whose constructor takes the `directory` of the version's files."""
    inputs: tuple[TensorSpec, ...]
    """What it takes; empty where the class says so itself."""
    outputs: tuple[TensorSpec, ...]
    max_rows: int = Field(default=4096, ge=1)
    """Rows of one request that the runner accepts."""
    metrics: dict[str, float] = Field(default_factory=dict)
    data: tuple[DataCard, ...] = ()
    energy: EnergyCard | None = None
    token_cost: TokenCost | None = None
    """Of a language model, where it was measured."""
    compression: CompressionCard | None = None
    """Of a version that was made from another one, a language model's variants excepted."""
    code_version: str = ""
    framework: dict[str, str] = Field(default_factory=dict)
    """Package to version, of what made the weights."""
    job: str = ""
    """The run that made it, as the ledger knows it."""
    origin: str = ""
    """Where it was imported from: a path, or `hf:org/name@<commit>`."""
    encryption: Literal["", "age"] = ""
    """How its files are encrypted; `files` then are the encrypted ones. Filled in by the repository."""
    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)
    """Path below the version's directory to sha256. Filled in by the repository."""


def to_yaml(card: ModelCard) -> str:
    """The card as YAML, keys in the order of the class."""
    return yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def from_yaml(text: str, where: str) -> ModelCard:
    """The card in `text`. Raises InvalidInput naming `where` and every fault."""
    try:
        return ModelCard.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InvalidInput(f"{where} is not YAML: {error}; publish the version again") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        raise InvalidInput(f"{where} is not a model card: {faults}; publish the version again") from error
