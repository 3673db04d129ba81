"""Tables as data and their two faces."""

import io

from rich.console import Console

from app.cli.grid import Grid, columns, plain_text, rich_table

LONG = "x" * 300
GRID = Grid("Title", columns("name", ">figure"), (("a", "1"), (LONG, "")), total=("total", "10"), notes=("a note",))


def test_plain_text_aligns_and_never_cuts() -> None:
    lines = plain_text(GRID).splitlines()
    assert lines[0] == "Title"
    assert lines[2] == "a".ljust(300) + "       1"
    assert lines[3] == LONG + "       -"
    assert lines[4] == "total".ljust(300) + "      10"
    assert lines[5] == "a note"


def test_an_empty_grid_says_so() -> None:
    assert plain_text(Grid("Title", columns("name"), ())) == "Title\n(nothing)"


def test_cells_are_never_read_as_markup() -> None:
    out = io.StringIO()
    grid = Grid("Title", columns("name"), (("[red]not red[/red]",),))
    Console(file=out, width=80).print(rich_table(grid))
    assert "[red]not red[/red]" in out.getvalue()
