"""Where decisions are kept: numbered files in one directory, never altered, never two under one number.

Knows nothing of what is decided. What a run decides lies beside its checkpoints (app/training/decisions.py); what is
decided about a deployment lies here, on the host that keeps the books.

    number = keep_choice(directory_of(settings().state_dir, "digits"), choice)
    for number, choice in choices_in(directory): ...

Raises InvalidInput for a subject that is no name, Unavailable where the disk does not take or give.
"""

import re
from pathlib import Path

from pydantic import ValidationError

from app.domain.decision import Choice
from app.errors import InvalidInput, Unavailable

_DIRECTORY = "decisions"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_KEEP = 1000
"""Of one subject; the oldest leave first."""


def directory_of(state_dir: Path, subject: str) -> Path:
    """Where the decisions about a deployment are."""
    if not _NAME.fullmatch(subject):
        raise InvalidInput(f"{subject!r} is no name of a deployment; letters, digits and . _ @ + - make one")
    return state_dir / _DIRECTORY / subject


def keep_choice(directory: Path, choice: Choice) -> int:
    """Leave one more record; its number."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        numbers = _numbers(directory)
        for old in numbers[: max(0, len(numbers) - _KEEP + 1)]:
            (directory / f"{old:06d}").unlink(missing_ok=True)
        number = max(numbers, default=0) + 1
        while True:
            try:
                with (directory / f"{number:06d}").open("x") as file:  # another process may have taken it
                    file.write(choice.model_dump_json(indent=1))
                return number
            except FileExistsError:
                number += 1
    except OSError as error:
        raise Unavailable(f"the decision could not be kept in {directory}: {error}") from error


def choices_in(directory: Path) -> dict[int, Choice]:
    """Every record that is whole, oldest first."""
    found = {}
    try:
        for number in _numbers(directory):
            try:
                found[number] = Choice.model_validate_json((directory / f"{number:06d}").read_text())
            except (ValidationError, FileNotFoundError):  # cut off, or gone meanwhile
                continue
    except OSError as error:
        raise Unavailable(f"decisions in {directory} cannot be read: {error}") from error
    return found


def _numbers(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(each.name) for each in directory.iterdir() if each.name.isdecimal())
