"""A source of texts so small that a language model learns from it in a second."""

import pytest

from app.training import texts
from app.training.texts import NamedTexts


def draw_small_texts() -> NamedTexts:
    """Forty functions that differ in a name and two numbers."""
    named = {
        f"module_{number:02}.py": "".join(
            f"def add_{number}_{other}(value):\n    return value + {number * other}\n\n\n" for other in range(12)
        )
        for number in range(40)
    }
    return NamedTexts(named, "generated", "CC0-1.0")


@pytest.fixture
def small_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard library's source, for once, is what draw_small_texts gives."""
    monkeypatch.setitem(texts.TEXT_SOURCES, "builtin:stdlib-source", draw_small_texts)
