"""The page of the job file's keys: written as it is in docs/reference, and nothing in it without a meaning."""

from pathlib import Path

from app.training.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "jobs.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python scripts/gen_reference.py"


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []
