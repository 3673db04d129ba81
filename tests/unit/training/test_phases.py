"""Phases: contiguous slices, sums by phase, settled later than ended."""

from dataclasses import dataclass, field

from app.domain.account import Account, job_account
from app.training.phases import Phases, Usage, merge

ACCOUNT = job_account("default", "digits-1", 1)


@dataclass
class Figures:
    energy_uj: int
    carbon_ugco2e: int = 1
    grade: str = "counter"
    provisional: bool = False


@dataclass
class FakeSlice:
    log: list[str]
    weight: float
    part: int
    figures: Figures | None = None

    def end(self) -> None:
        self.log.append("end")

    def energy(self) -> Figures | None:
        return self.figures


@dataclass
class FakeClient:
    log: list[str] = field(default_factory=list)
    slices: list[FakeSlice] = field(default_factory=list)

    def begin(self, account: Account, weight: float = 1.0, part: int = 0) -> FakeSlice:
        assert account == ACCOUNT
        self.log.append("begin")
        self.slices.append(FakeSlice(self.log, weight, part))
        return self.slices[-1]


def test_a_phase_begins_when_the_last_one_ends() -> None:
    client = FakeClient()
    phases = Phases(client, ACCOUNT)
    phases.enter("setup")
    phases.enter("step", weight=32, epoch=1)
    phases.close()
    phases.close()
    assert client.log == ["begin", "end", "begin", "end"]
    assert [(piece.weight, piece.part) for piece in client.slices] == [(1.0, 0), (32, 1)]


def test_usage_since_last_counts_each_slice_once() -> None:
    client = FakeClient()
    phases = Phases(client, ACCOUNT)
    for phase, energy_uj in (("setup", 5), ("step", 10), ("step", 20)):
        phases.enter(phase)
        client.slices[-1].figures = Figures(energy_uj)
    phases.enter("evaluate")
    usage = phases.usage_since_last()
    assert {phase: part.energy_uj for phase, part in usage.items()} == {"setup": 5, "step": 30}
    assert (usage["step"].slices, usage["step"].carbon_ugco2e, usage["step"].grade) == (2, 2, "counter")
    assert phases.usage_since_last() == {}


def test_totals_take_the_settled_figure_where_a_provisional_one_was_told() -> None:
    client = FakeClient()
    phases = Phases(client, ACCOUNT)
    phases.enter("step")
    client.slices[0].figures = Figures(7, provisional=True)
    phases.enter("evaluate")
    assert phases.usage_since_last()["step"].provisional
    client.slices[0].figures = Figures(9)
    assert phases.usage()["step"] == Usage(9, 1, 1, 1, False, frozenset({"counter"}))
    # Folded: what the slice says afterwards is not asked again.
    client.slices[0].figures = Figures(1000)
    assert phases.usage()["step"].energy_uj == 9


def test_without_a_meter_slices_are_counted_and_their_energy_is_unknown() -> None:
    phases = Phases(FakeClient(), ACCOUNT)
    phases.enter("step")
    phases.enter("evaluate")
    usage = phases.usage()["step"]
    assert (usage.slices, usage.known, usage.grade) == (1, 0, "none")


def test_workers_add_up_by_phase_and_grades_are_never_mixed_silently() -> None:
    one = {"step": Usage(1, 1, 1, 1, False, frozenset({"counter"}))}
    two = {"step": Usage(2, 1, 1, 1, True, frozenset({"modelled"})), "setup": Usage(slices=1)}
    total = merge([one, two])
    assert total["step"] == Usage(3, 2, 2, 2, True, frozenset({"counter", "modelled"}))
    assert total["step"].grade == "counter+modelled"
    assert total["setup"].known == 0
