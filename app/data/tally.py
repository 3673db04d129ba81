"""What the tasks of a preparation did, by stage: records and seconds.

Knows nothing of Ray or of energy; stages.py makes an actor of it.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, get_args

Stage = Literal["read", "clean", "validate", "exact", "near", "write"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In their order; the part of a slice is the number of its stage, from 1."""


@dataclass(slots=True)
class Done:
    """What a stage did to one block; `rows` that came out of it."""

    rows: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Done") -> "Done":
        return Done(self.rows + other.rows, self.seconds + other.seconds)


class Tally:
    """What all tasks of a run did, by stage."""

    def __init__(self) -> None:
        self._done: dict[Stage, dict[str, Done]] = defaultdict(dict)

    def add(self, stage: Stage, block: str, done: Done) -> None:
        """Of a block that comes again, the last counts."""
        self._done[stage][block] = done

    def sums(self) -> dict[Stage, Done]:
        """Of every stage that did anything."""
        return {stage: sum(blocks.values(), Done()) for stage, blocks in self._done.items()}
