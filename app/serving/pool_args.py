"""The arguments of a pool: one replica that serves many variants of a model, in memory only those that are asked for.

Knows nothing of replicas. A variant is a version of the model: clients ask for `/v2/models/<pool>/versions/<variant>`,
by gRPC for `model_version`.

    args: {name: digits, source: "repository:digits", versions: all, max_memory_mb: 500}
    args: {name: tone, variants: {warm: "repository:warm@3", cold: "python:my.models:Cold"}, max_memory_mb: 500}
"""

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from app.engine.spending_words import Offered, check_offered
from app.errors import InvalidInput, NotFound
from app.models.version_policy import VersionPolicy, select_versions
from app.serving.args import ModelArgs, pinned
from app.serving.traffic import Version
from app.units import UJ_PER_J

if TYPE_CHECKING:
    from app.models.repository import RepositorySettings


class PoolArgs(ModelArgs):
    """What every variant has in common, and which there are. Frozen; unknown keys are errors."""

    source: str = ""
    """`repository:NAME`, whose `versions` are the variants; empty where `variants` are named."""
    versions: VersionPolicy = "all"
    """Of `source`: `latest`, `all`, `{latest: N}` or `{specific: [...]}`, fixed when the application is built."""
    variants: dict[Version, str] = Field(default_factory=dict)
    """Variant to its source, as in `source` of a model."""
    default: str = ""
    """Variant that answers calls that name none. Empty: the last one."""
    quality_metric: str = ""
    """With `spending`: the metric of the variants' cards that says what an answer is worth: `accuracy`."""
    quality: dict[Version, float] = Field(default_factory=dict)
    """The same by variant, where no card says it; goes before the cards."""
    answer_j: dict[Version, float] = Field(default_factory=dict)
    """J of an answer of each variant, until it is measured here. Unset: as its card has it, for one row."""
    max_memory_mb: float = Field(gt=0)
    """Megabytes (10^6 bytes) that loaded variants may hold together, by what their runners say. The one that was not
    asked for longest leaves first. While a variant whose size is not known yet is loaded, it comes on top."""
    idle_timeout_s: float = Field(default=300.0, gt=0)
    """A variant that nobody asked for so long leaves memory."""

    @model_validator(mode="after")
    def _variants_are_said_once(self) -> Self:
        if bool(self.source) == bool(self.variants):
            raise ValueError("give source or variants: the versions of one repository model, or sources by name")
        if self.source and (not self.source.startswith("repository:") or "@" in self.source):
            raise ValueError(f"source of a pool must be repository:NAME, got {self.source!r}; or name variants")
        if self.version:
            raise ValueError("a pool has no version of its own; remove it, or set default")
        return self


def variants_of(args: PoolArgs, repository: "RepositorySettings") -> PoolArgs:
    """`args` with every variant's source spelt out and `default` filled in. Raises NotFound, InvalidInput."""
    sources = dict(args.variants) or _versions(args, repository)
    fixed = {
        variant: pinned(ModelArgs(name=args.name, source=source), repository).source
        for variant, source in sources.items()
    }
    default = args.default or list(fixed)[-1]
    if default not in fixed:
        raise NotFound(f"default {default!r} is no variant of {args.name}; there are {', '.join(fixed)}")
    fixed_args = args.model_copy(update={"source": "", "variants": fixed, "default": default})
    return _with_worth(fixed_args, repository) if args.spending else fixed_args


def args_of(args: PoolArgs, variant: str) -> ModelArgs:
    """One variant as a model of its own."""
    shared: dict[str, Any] = {name: getattr(args, name) for name in ModelArgs.model_fields}
    source_args = args.source_args if args.variants[variant].startswith("python:") else {}
    return ModelArgs(**shared | {"source": args.variants[variant], "version": variant, "source_args": source_args})


def offered_of(args: PoolArgs) -> tuple[Offered, ...]:
    """The variants as the budget knows them."""
    return tuple(Offered(each, args.quality.get(each), args.answer_j.get(each)) for each in args.variants)


def _with_worth(args: PoolArgs, repository: "RepositorySettings") -> PoolArgs:
    """`args` with what cards say of quality and joules, where `args` do not. Raises InvalidInput."""
    from app.models.repository import open_repository

    quality, answer_j = dict(args.quality), dict(args.answer_j)
    for variant, source in args.variants.items():
        kind, _, reference = source.partition(":")
        if kind != "repository":
            continue
        name, _, version = reference.partition("@")
        card = open_repository(repository).card(name, version)
        if args.quality_metric in card.metrics:
            quality.setdefault(variant, card.metrics[args.quality_metric])
        costs = card.compression.costs if card.compression else ()
        single = next((cost.uj_per_row for cost in costs if cost.rows == 1), None)
        if single is not None:
            answer_j.setdefault(variant, single / UJ_PER_J)
    worth = args.model_copy(update={"quality": quality, "answer_j": answer_j})
    assert args.spending is not None, "asked before"  # noqa: S101
    check_offered(offered_of(worth), args.spending)
    return worth


def _versions(args: PoolArgs, repository: "RepositorySettings") -> dict[str, str]:
    from app.models.repository import open_repository

    name = args.source.partition(":")[2]
    if not name:
        raise InvalidInput("source of a pool names no model; write repository:NAME")
    found = select_versions(args.versions, open_repository(repository).versions(name))
    return {version: f"repository:{name}@{version}" for version in found}
