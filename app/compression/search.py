"""Which chains of steps are worth trying, and which results are the best compromises.

Pure but for whoever makes and scores a chain, which is an argument. Nothing is known of torch.

    made = explore(chains_for(card), shop.make, metric="accuracy", at_least=0.96)
    [each.word for each in pareto(made, figures)]
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter

from app.compression.job import Step
from app.errors import InvalidInput
from app.models.blueprint import Cnn
from app.models.card import ModelCard

Chain = tuple[Any, ...]
Family = tuple[Chain, ...]
"""Chains that go further and further: where one is not good enough, those after it are not tried."""
Thing = TypeVar("Thing")
_STEP: TypeAdapter[Any] = TypeAdapter(Step)
_RATES = (0.25, 0.5, 0.75, 0.875)


class Scored(Protocol):
    """What is used of a result."""

    @property
    def card(self) -> ModelCard: ...


def families_for(card: ModelCard, tuning: dict[str, Any]) -> list[Family]:
    """What is tried on a version; `tuning` are fields of the steps that train, as epochs."""
    families = [
        (_chain("int8"), _chain("int4")),
        (_chain("int8-dynamic"),),
        (_chain("int8-static"),),
        tuple(_chain({"method": "prune-global", "rate": rate, **tuning}) for rate in _RATES),
        tuple(_chain({"method": "prune-channels", "rate": rate, **tuning}, "int8") for rate in _RATES),
        tuple(_chain({"method": "prune-channels", "rate": rate, **tuning}) for rate in _RATES),
    ]
    students = (
        [{"layers": layers} for layers in (4, 3, 2)]
        if card.runner == "encoder"
        else [{"width": width} for width in (0.5, 0.25, 0.125)]
    )
    families.append(tuple(_chain({"method": "distil-logits", **student, **tuning}, "int8") for student in students))
    if isinstance(card.architecture, Cnn) and len(card.architecture.channels) > 1:
        families.append((_chain({"method": "early-exit", **tuning}),))
    return families


def _chain(*steps: str | dict[str, Any]) -> Chain:
    return tuple(_STEP.validate_python({"method": step} if isinstance(step, str) else step) for step in steps)


def word_of(chain: Chain) -> str:
    """A name for a result of a search: the methods in short, with their rate, width or layers."""
    parts = []
    for step in chain:
        degree = getattr(step, "rate", None) or getattr(step, "layers", None) or getattr(step, "width", None)
        percent = "" if degree is None else str(degree if degree >= 1 else round(100 * degree))
        parts.append(step.method.replace("-", "") + percent)
    return "".join(parts)


def explore(
    families: Iterable[Family], make: Callable[[Chain, str], Thing], good_enough: Callable[[Thing], bool]
) -> list[Thing]:
    """Make every chain of every family until one of it does not fit or is not good enough; gives those that are."""
    found = []
    for family in families:
        for chain in family:
            try:
                made = make(chain, word_of(chain))
            except InvalidInput:
                break  # nothing that goes further fits this version either
            if not good_enough(made):
                break
            found.append(made)
    return found


def pareto(things: Sequence[Thing], losses: Callable[[Thing], Sequence[float]]) -> list[Thing]:
    """Those to which no other is better in one of `losses` (less is better) and at least as good in all others."""
    told = [tuple(losses(each)) for each in things]
    return [
        each
        for each, mine in zip(things, told, strict=True)
        if not any(other != mine and all(o <= m for o, m in zip(other, mine, strict=True)) for other in told)
    ]


def losses_of(card: ModelCard, metric: str) -> tuple[float, ...]:
    """What a result is judged by: accuracy lost, bytes, milliseconds and, where metered, joules of single requests."""
    assert card.compression is not None  # noqa: S101
    costs = card.compression.costs[:1]
    figures = [(cost.p50_ms, cost.uj_per_row or 0.0) for cost in costs]
    return (-card.metrics[metric], float(card.compression.weights_bytes), *(each for pair in figures for each in pair))
