"""Versions that could stand in for another, with their energy relative to the version that all were made from.

Read from the cards of the repository. Knows nothing of Serve, nor of what is chosen.

    candidates_of(repository, "digits", "1")          # digits@1, digits@1-int8, digits-small@1, ...
"""

from collections.abc import Sequence
from typing import Any

from app.errors import NotFound
from app.models.card import ModelCard
from app.models.repository import ModelRepository
from app.policy.advice_serving import Candidate


def candidates_of(repository: ModelRepository, name: str, present: str) -> list[Candidate]:
    """The present version, the one it was made from, and all that were made from that, with their relative energy.

    A version whose tensors are others cannot stand in and is left out. Raises NotFound.
    """
    card = repository.card(name, present)
    base = _base_of(card) or f"{name}@{present}"
    base_card = repository.card(*_split(base))
    found = {base: Candidate(base, 1.0, base_card.metrics)}
    for each in _made_from(repository, base, name):
        if each.inputs == card.inputs and each.outputs == card.outputs:
            label = f"{each.name}@{each.version}"
            found[label] = Candidate(label, _relative(each), each.metrics, _hardware(each))
    if f"{name}@{present}" not in found:
        raise NotFound(f"{name}@{present} is not among what was made from {base}")
    return list(found.values())


def _made_from(repository: ModelRepository, base: str, name: str) -> list[ModelCard]:
    """Cards of versions that were made from `base`: its variants, and what compression published under other names."""
    cards = [repository.card(name, variant) for variant in repository.variants(name)]
    cards += [repository.card(other, repository.latest(other)) for other in repository.names()]
    return [card for card in cards if _base_of(card) == base]


def _base_of(card: ModelCard) -> str:
    """`name@version` that it was made from; empty: from none."""
    if card.compression is not None:
        return card.compression.base
    return f"{card.name}@{card.version.partition('-')[0]}" if card.variant else ""


def _relative(card: ModelCard) -> float | None:
    """Energy over the base's, the worst of what was measured in turns with it."""
    pairs = [(each.uj_per_row, each.base_uj_per_row) for each in (card.compression.costs if card.compression else ())]
    if card.token_cost is not None:
        pairs.append((card.token_cost.uj_per_token, card.token_cost.base_uj_per_token))
    ratios = [own / base for own, base in pairs if own is not None and base]
    return max(ratios, default=None)


def _hardware(card: ModelCard) -> str:
    costs: Sequence[Any] = card.compression.costs if card.compression else ()
    return card.token_cost.hardware if card.token_cost else costs[0].hardware if costs else ""


def _split(label: str) -> tuple[str, str]:
    name, _, version = label.partition("@")
    return name, version
