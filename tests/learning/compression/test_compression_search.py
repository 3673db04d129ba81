"""What a search tries, where it gives up, and which results are compromises worth keeping."""

from dataclasses import dataclass

from app.compression.search import explore, families_for, pareto, word_of
from tests.learning.compression.conftest import BLUEPRINT, Version


@dataclass(frozen=True)
class Thing:
    word: str
    accuracy: float
    size: float


def test_a_family_ends_where_a_result_is_not_good_enough(trained: Version) -> None:
    tried: list[str] = []

    def make(chain: tuple[object, ...], word: str) -> Thing:
        tried.append(word)
        return Thing(word, 0.5 if word == "pruneglobal75" else 0.99, 1.0)

    found = explore(families_for(trained[0], {"epochs": 1}), make, lambda thing: thing.accuracy > 0.9)
    assert "pruneglobal75" in tried
    assert "pruneglobal88" not in tried
    assert {each.word for each in found} == set(tried) - {"pruneglobal75"}
    assert "earlyexit" in tried
    assert "prunechannels50int8" in tried
    assert len(set(tried)) == len(tried)
    assert all(len(word) <= 32 for word in tried)


def test_what_another_beats_in_nothing_stays() -> None:
    small, right, worse, same = (
        Thing("small", 0.95, 10),
        Thing("right", 0.99, 40),
        Thing("worse", 0.94, 20),
        Thing("same", 0.99, 40),
    )
    kept = pareto([small, right, worse, same], lambda thing: (-thing.accuracy, thing.size))
    assert [thing.word for thing in kept] == ["small", "right", "same"]


def test_words_tell_the_degree() -> None:
    assert BLUEPRINT.channels == (8, 16)
    chain = families_for_names()
    assert {"int8", "int4", "prunechannels25", "distillogits50int8"} <= chain


def families_for_names() -> set[str]:
    from app.models.card import ModelCard

    card = ModelCard(name="m", created="", runner="builtin", architecture=BLUEPRINT, inputs=(), outputs=())
    return {word_of(chain) for family in families_for(card, {}) for chain in family}
