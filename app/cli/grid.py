"""A table as data, and its two faces: a rich table for a terminal, aligned text for everything else.

Knows nothing of what the cells mean. Text is never wrapped or cut: an id in a pipe stays whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

EMPTY = "-"
"""Stands for an empty cell in plain text, so that columns can be counted."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `right`: figures, aligned at their end."""

    title: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table with a title, an optional totals row, and sentences below it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def columns(*titles: str) -> tuple[Column, ...]:
    """Columns from their titles; one that begins with `>` is aligned right."""
    return tuple(Column(title.removeprefix(">"), title.startswith(">")) for title in titles)


def rich_table(grid: Grid) -> Table:
    """The grid for a terminal; cells are shown as they are, never read as markup."""
    table = Table(
        title=escape(grid.title), title_justify="left", caption=escape("\n".join(grid.notes)), caption_justify="left"
    )
    for i, column in enumerate(grid.columns):
        footer = grid.total[i] if grid.total else ""
        table.add_column(
            column.title, footer=escape(footer), justify="right" if column.right else "left", overflow="fold"
        )
    table.show_footer = grid.total is not None
    for row in grid.rows:
        table.add_row(*map(escape, row))
    return table


def plain_text(grid: Grid) -> str:
    """The grid as text: title, header, rows, totals, notes; cells two spaces apart."""
    lines = [tuple(column.title for column in grid.columns), *grid.rows]
    if grid.total:
        lines.append(grid.total)
    body = list(_aligned(lines, grid.columns)) if grid.rows else ["(nothing)"]
    return "\n".join([grid.title, *body, *grid.notes])


def _aligned(lines: Sequence[tuple[str, ...]], layout: Sequence[Column]) -> Iterator[str]:
    cells = [[cell or EMPTY for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, layout, strict=True)
        )
        yield "  ".join(padded).rstrip()
