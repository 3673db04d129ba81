"""Follows the starts of one run, so that what they take is known while it runs and kept when it has ended.

Knows nothing of plans or Ray: when workers are asked for and when they are gone comes in, their attempts are read from
where they leave them.

    keeper = PaceKeeper(files)
    keeper.begins(now_s); ...; keeper.has_ended(now_s)
    keeper.pace()                                     # of this run, as far as it was seen
    keeper.keep(energy); earlier_pace(storage, job.name)
"""

from pydantic import ValidationError

from app.training.attempts import Attempt, Seen, read_attempts
from app.training.pace import PACE_FILE, AttemptEnergy, Held, Pace, pace_of
from app.training.reports import runs
from app.training.run_files import RunFiles


class PaceKeeper:
    """Of one run."""

    def __init__(self, files: RunFiles) -> None:
        self.files = files
        self._held: dict[int, Held] = {}
        self._energy = AttemptEnergy()
        self._before: frozenset[int] = frozenset()
        self._began_s: float | None = None

    def begins(self, now_s: float) -> None:
        """Workers are asked for."""
        self._before, self._began_s = frozenset(self.files.attempts()), now_s

    def has_ended(self, now_s: float, energy: AttemptEnergy | None = None) -> None:
        """The workers are gone; `energy` is what the ledger knows of all attempts up to now."""
        new = sorted(self.files.attempts().keys() - self._before)
        if len(new) == 1 and self._began_s is not None:  # of several, Ray Train began all but the first
            self._held[new[0]] = Held(self._began_s, now_s)
        self._began_s = None
        self._energy = energy or self._energy

    def is_new(self, attempt: int) -> bool:
        """Whether `attempt` began with the workers that were asked for last."""
        return attempt not in self._before

    def attempts(self, seen: Seen | None = None) -> dict[int, Attempt]:
        """All attempts by number, the one that runs now as far as it was `seen`."""
        attempts = read_attempts(self.files.attempts())
        if seen is None or seen.attempt not in attempts:
            return attempts
        if self._began_s is not None and attempts.keys() - self._before == {seen.attempt}:
            self._held[seen.attempt] = Held(self._began_s)
        return attempts | {seen.attempt: attempts[seen.attempt].model_copy(update={"last": seen})}

    def pace(self, seen: Seen | None = None) -> Pace | None:
        """What the run was seen to take; None: it has made no steps."""
        return pace_of(self.files.root.rpartition("/")[2], self.attempts(seen), self._held, self._energy)

    def keep(self, energy: AttemptEnergy) -> Pace | None:
        """The run has ended: what it took is left for those that come after it."""
        self._energy = energy
        pace = self.pace()
        if pace is not None:
            self.files.write(PACE_FILE, pace.model_dump_json(indent=1))
        return pace


def earlier_pace(storage: str, job: str) -> Pace | None:
    """What the newest run of `job` below `storage` took that was seen to take anything."""
    ended = [name for name, report in runs(storage).items() if report and report.job == job]
    for name in reversed(ended):
        try:
            return Pace.model_validate_json(RunFiles.open(storage, name).read(PACE_FILE))
        except ValidationError:
            continue
    return None
