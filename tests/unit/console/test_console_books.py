"""The line to the books that mends itself."""

import asyncio
from typing import Any

import pytest

from app.console.books import MendingBooks
from app.errors import NotFound, Unavailable


class OneShotBooks:
    """Books whose prometheus text is scripted."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)

    async def aprometheus(self) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _mending(*connections: Any) -> tuple[MendingBooks, list[Any]]:
    waiting = list(connections)

    async def connect() -> Any:
        found = waiting.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return MendingBooks(connect), waiting


def test_one_connection_serves_many_questions() -> None:
    books, waiting = _mending(OneShotBooks("a", "b"), OneShotBooks())
    assert [asyncio.run(books.aprometheus()) for _ in range(2)] == ["a", "b"]
    assert len(waiting) == 1


def test_a_failed_connection_is_made_anew() -> None:
    books, _ = _mending(Unavailable("none yet"), OneShotBooks("a", Unavailable("died")), OneShotBooks("b"))
    with pytest.raises(Unavailable, match="none yet"):
        asyncio.run(books.aprometheus())
    assert asyncio.run(books.aprometheus()) == "a"
    with pytest.raises(Unavailable, match="died"):
        asyncio.run(books.aprometheus())
    assert asyncio.run(books.aprometheus()) == "b"


def test_what_was_not_found_does_not_cost_the_connection() -> None:
    books, waiting = _mending(OneShotBooks(NotFound("no"), "a"), OneShotBooks())
    with pytest.raises(NotFound):
        asyncio.run(books.aprometheus())
    assert asyncio.run(books.aprometheus()) == "a"
    assert len(waiting) == 1
