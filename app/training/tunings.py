"""What `joulekeeper tune` measured, kept for `joulekeeper optimize`: the windows, where and when.

One file a job below the state directory; the newest search stands. Knows nothing of how windows are measured.

    keep_tuning(settings().state_dir, tuned_of(job, found, at_s, hardware))
    kept_tuning(settings().state_dir, "digits")
"""

from pathlib import Path

from pydantic import Field, ValidationError

from app.policy.power_search import PowerSetting, Window
from app.training.parts import Part
from app.training.tuning import Tuning

_DIRECTORY = "tunings"


class KeptWindow(Part):
    """One setting and what it took."""

    batch_size: int = Field(ge=1)
    limit_mw: int = Field(ge=1)
    seconds_per_sample: float = Field(gt=0)
    energy_uj_per_sample: float = Field(gt=0)
    cost: float


class Tuned(Part):
    """One search."""

    job: str
    at_s: float
    """Unix seconds."""
    hardware: str
    windows: tuple[KeptWindow, ...]
    """In order; the first is the job as it was."""

    def measured(self) -> tuple[Window, ...]:
        """The windows as the search had them."""
        return tuple(
            Window(
                PowerSetting(each.batch_size, each.limit_mw),
                each.seconds_per_sample,
                each.energy_uj_per_sample,
                each.cost,
            )
            for each in self.windows
        )


def tuned_of(job: str, found: Tuning, at_s: float, hardware: str) -> Tuned:
    """The record of a search."""
    windows = tuple(
        KeptWindow(
            batch_size=each.setting.batch_size,
            limit_mw=each.setting.limit_mw,
            seconds_per_sample=each.seconds_per_sample,
            energy_uj_per_sample=each.energy_uj_per_sample,
            cost=each.cost,
        )
        for each in found.windows
    )
    return Tuned(job=job, at_s=at_s, hardware=hardware, windows=windows)


def keep_tuning(state_dir: Path, tuned: Tuned) -> None:
    """Leave it instead of an earlier one. Raises OSError."""
    path = _path(state_dir, tuned.job)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tuned.model_dump_json(indent=1), encoding="utf-8")


def kept_tuning(state_dir: Path, job: str) -> Tuned | None:
    """The newest search of `job`; None: there is none that can be read."""
    try:
        return Tuned.model_validate_json(_path(state_dir, job).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def _path(state_dir: Path, job: str) -> Path:
    return state_dir / _DIRECTORY / f"{job}.json"
