"""The report of a compression: every result beside the version that it was made from.

Pure: cards in, lines out. A result that costs more joules than its base says so.
"""

from collections.abc import Sequence

from app.models.card import InferenceCost, ModelCard
from app.units import format_energy

_TITLES = ("version", "{metric}", "bytes", "smaller", "rows", "p50 ms", "base", "energy/row", "base", "energy")


def lines(cards: Sequence[ModelCard], metric: str) -> list[str]:
    """A table of results, each with what its base had in the same run."""
    rows = [
        tuple(title.format(metric=metric) for title in _TITLES),
        *(row for card in cards for row in _rows(card, metric)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _rows(card: ModelCard, metric: str) -> list[tuple[str, ...]]:
    told = card.compression
    if told is None:
        return []
    head = (
        card.variant,
        f"{card.metrics[metric]:.4f} ({100 * (card.metrics[metric] - told.base_metrics[metric]):+.1f})",
        f"{told.weights_bytes:,}",
        f"{told.base_weights_bytes / told.weights_bytes:.1f} x",
    )
    found = [(*head, *_cost(cost)) for cost in told.costs]
    return found or [(*head, *[""] * (len(_TITLES) - len(head)))]


def _cost(cost: InferenceCost) -> tuple[str, ...]:
    times = (str(cost.rows), f"{cost.p50_ms:.3f}", f"{cost.base_p50_ms:.3f}")
    if cost.uj_per_row is None or cost.base_uj_per_row is None:
        return (*times, "unknown", "", "")
    change = cost.uj_per_row / cost.base_uj_per_row - 1 if cost.base_uj_per_row else 0.0
    verdict = f"{change:+.0%}" + (" COSTS MORE" if change > 0.02 else "")
    return (*times, format_energy(round(cost.uj_per_row)), format_energy(round(cost.base_uj_per_row)), verdict)
