"""The settings page and the docstrings it is made of."""

import gen_reference
import pytest


class Documented:
    """A class as Settings is written."""

    size_bytes: int = 3
    """Bytes of something,
    over two lines."""
    name: str = ""
    """Its name."""


class HalfDocumented:
    """One field says nothing."""

    told: int = 1
    """Told."""
    untold: int = 2


def test_field_docs_are_the_docstrings_below_the_fields_in_one_line() -> None:
    assert gen_reference.field_docs(Documented) == {
        "size_bytes": "Bytes of something, over two lines.",
        "name": "Its name.",
    }


def test_a_field_without_a_docstring_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="HalfDocumented: no docstring under untold"):
        gen_reference.field_docs(HalfDocumented)


def test_the_configuration_page_is_current() -> None:
    written = (gen_reference.TARGET / "configuration.md").read_text()
    assert written == gen_reference.configuration(), "run: python scripts/gen_reference.py"
