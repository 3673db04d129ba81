"""Pairs of texts that mean the same, for encoders: where they come from, which are held out, and their digest.

Knows nothing of tokens, torch or Ray. A source is deterministic: on one Python the same pairs come in the same order,
and a pair is held out by its name and the seed alone.

    pairs = load_pairs("builtin:stdlib-docstrings", test_share=0.1, seed=7)
    pairs.train[0].question, pairs.train[0].answer    # what a function's docstring says, and its code without it

Raises InvalidInput when a source is not on this machine.
"""

import ast
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.errors import InvalidInput
from app.models.card import DataCard
from app.training.texts import draw_stdlib, is_held_out

_FEWEST_WORDS = 4
_MOST_LINES = 40
"""Of an encoder's 128 tokens a longer function would show little more than its beginning."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts of which each should find the other."""

    name: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class DrawnPairs:
    """All pairs of a source, in a fixed order, with what is known about them."""

    pairs: tuple[Pair, ...]
    origin: str
    licence: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs divided into those to learn from and those held out."""

    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    card: DataCard


def load_pairs(source: str, *, test_share: float, seed: int) -> Pairs:
    """The pairs of `source`, divided. Raises KeyError for a name not in PAIR_SOURCES (jobs are checked before)."""
    drawn = PAIR_SOURCES[source]()
    held_out = tuple(pair for pair in drawn.pairs if is_held_out(pair.name, test_share, seed))
    train = tuple(pair for pair in drawn.pairs if not is_held_out(pair.name, test_share, seed))
    if not held_out or not train:
        raise InvalidInput(
            f"data.test_share={test_share} of the {len(drawn.pairs)} pairs of {source} leaves nothing to "
            f"{'learn from' if held_out else 'hold out'}; choose another share or seed"
        )
    card = DataCard(
        name=source,
        origin=drawn.origin,
        licence=drawn.licence,
        digest=_digest(drawn.pairs),
        rows=len(drawn.pairs),
        split=f"test_share={test_share}, seed={seed}: {len(held_out)} pairs held out",
        test_share=test_share,
        seed=seed,
    )
    return Pairs(train, held_out, card)


def _digest(pairs: tuple[Pair, ...]) -> str:
    """sha256 over name, question and answer of every pair, each ended by a zero byte, in order."""
    digest = hashlib.sha256()
    for pair in pairs:
        for text in (pair.name, pair.question, pair.answer):
            digest.update(text.encode() + b"\0")
    return f"sha256:{digest.hexdigest()}"


def _draw_docstrings() -> DrawnPairs:
    """Functions of the standard library, each with the first paragraph of its docstring; of equal ones the first."""
    library = draw_stdlib()
    questions: set[str] = set()
    pairs: list[Pair] = []
    for module, text in library.texts.items():
        for pair in _functions(module, text):
            if pair.question not in questions:
                questions.add(pair.question)
                pairs.append(pair)
    return DrawnPairs(
        tuple(pairs),
        f"functions with a docstring of at least {_FEWEST_WORDS} words and at most {_MOST_LINES} lines: the first "
        f"paragraph of the docstring, and the code without it; {library.origin}",
        library.licence,
    )


def _functions(module: str, text: str) -> Iterator[Pair]:
    try:
        tree = ast.parse(text)
    except SyntaxError:  # of templates and bad examples
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (pair := _pair(module, node)):
            yield pair


def _pair(module: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Pair | None:
    told = ast.get_docstring(node)
    question = " ".join(told.partition("\n\n")[0].split()) if told else ""
    if len(question.split()) < _FEWEST_WORDS or len(node.body) < 2:
        return None
    bare = ast.unparse(ast.FunctionDef(**{**vars(node), "body": node.body[1:], "decorator_list": []}))
    if bare.count("\n") >= _MOST_LINES:
        return None
    return Pair(f"{module}:{node.name}:{node.lineno}", question, bare)


PAIR_SOURCES: dict[str, Callable[[], DrawnPairs]] = {"builtin:stdlib-docstrings": _draw_docstrings}
