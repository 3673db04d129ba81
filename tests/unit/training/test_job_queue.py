"""Few workers for many jobs: who must begin soonest comes first, and what others plan is kept for them."""

from pathlib import Path

from app.cli.plan import queue_grid
from app.clock import ManualClock
from app.training.live_queue import LiveQueue
from app.training.queueing import Entry, parsed, turns_of
from app.units import NS_PER_S
from tests.unit.training.test_conductor import HOUR_S, START_S, Day

TWO = {"CPU": 2.0}


def entry(run: str, latest_h: float, *, amount: float = 2.0, ready: bool = True, holds: bool = False, **more) -> Entry:
    pieces = tuple((start * HOUR_S, end * HOUR_S) for start, end in more.pop("hours", [(0, 1)]))
    return Entry(
        run=run, heard_s=0.0, since_s=0.0, resource="CPU", amount=amount, latest_s=latest_h * HOUR_S, ready=ready,
        holds=holds, pieces=pieces, **more,
    )  # fmt: skip


def test_who_must_begin_soonest_begins_and_the_other_is_told_when() -> None:
    turns = turns_of([entry("later", 9), entry("sooner", 3)], TWO, TWO, 0.0)
    assert list(turns) == ["sooner", "later"]
    assert turns["sooner"].may_begin
    assert not turns["later"].may_begin
    # one hour of the other job, by cells of a minute of which one may be cut
    assert HOUR_S <= turns["later"].start_s <= HOUR_S + 120


def test_who_has_workers_keeps_them() -> None:
    turns = turns_of([entry("new", 0), entry("old", 9, holds=True)], {"CPU": 0.0}, TWO, 0.0)
    assert turns["old"].may_begin
    assert not turns["new"].may_begin


def test_what_has_just_begun_does_not_hold_what_it_took_yet() -> None:
    """Ray has not given the workers to the first: it calls them free, and they are not."""
    turns = turns_of([entry("new", 0), entry("old", 9, holds=True)], TWO, TWO, 0.0)
    assert not turns["new"].may_begin


def test_both_begin_where_there_is_room_for_both() -> None:
    turns = turns_of([entry("a", 1, amount=1.0), entry("b", 2, amount=0.5)], TWO, TWO, 0.0)
    assert all(turn.may_begin for turn in turns.values())


def test_hours_that_another_plans_are_kept_for_it() -> None:
    waits = entry("first", 1, ready=False, hours=[(1, 3)])
    assert not turns_of([waits, entry("long", 5, hours=[(0, 2)])], TWO, TWO, 0.0)["long"].may_begin
    assert turns_of([waits, entry("short", 5, hours=[(0, 0.9)])], TWO, TWO, 0.0)["short"].may_begin


def test_who_takes_more_than_there_is_asks_for_it() -> None:
    assert turns_of([entry("large", 1, amount=8.0)], TWO, TWO, 0.0)["large"].may_begin


def test_nobody_begins_where_nothing_is() -> None:
    assert not turns_of([entry("a", 1)], {}, {}, 0.0)["a"].may_begin


def test_drivers_that_are_gone_and_words_that_are_none_are_passed_over() -> None:
    told = [entry("a", 1).model_dump_json(), entry("b", 1).model_copy(update={"heard_s": -61.0}).model_dump_json(), "{"]
    assert [each.run for each in parsed(told, 0.0)] == ["a"]


class Shelf:
    """Entries of several runs, in memory."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def enter_queue(self, run: str, entry: str) -> None:
        self.entries[run] = entry

    def leave_queue(self, run: str) -> None:
        self.entries.pop(run, None)

    def queue(self) -> list[str]:
        return list(self.entries.values())


def queued_day(directory: Path, shelf: Shelf) -> Day:
    day = Day(directory)
    needs = {"CPU": 2.0, "GPU": 0.0}
    day.conductor._queue = LiveQueue("tiny-1", needs, shelf, lambda: (TWO, TWO), day.clock, START_S)
    return day


def test_a_run_waits_for_another_that_must_begin_sooner_and_then_goes_on(tmp_path: Path) -> None:
    """Both want hour 4, the first clean one; the other has it until 5, and this one must be over by hour 20."""
    shelf = Shelf()
    other = entry("other", 0).model_copy(
        update={
            "heard_s": START_S + 86_400.0,
            "latest_s": START_S,
            "holds": True,
            "pieces": ((START_S, START_S + 5 * HOUR_S),),
        }
    )
    shelf.enter_queue("other", other.model_dump_json())
    day = queued_day(tmp_path, shelf)
    day.at_hour[5] = lambda: shelf.leave_queue("other")
    assert day.live()["stopped"] == ""
    begun_s = day.paper.drawn[0].start_s
    assert 5 * HOUR_S <= begun_s - START_S <= 5.2 * HOUR_S
    assert day.clock.wall_ns() / NS_PER_S <= START_S + 20 * HOUR_S
    assert sum("waits in the queue" in said for said in day.said) == 1
    assert shelf.entries == {}


def test_a_run_alone_is_not_held_up(tmp_path: Path) -> None:
    shelf = Shelf()
    day = queued_day(tmp_path, shelf)
    day.live()
    assert 4 * HOUR_S <= day.paper.drawn[0].start_s - START_S <= 4.1 * HOUR_S


def test_a_run_that_needs_nothing_is_in_nobodys_way() -> None:
    class Plan:
        def workers_at(self, at_s: float) -> int:
            return 1

    class Look:
        plan = Plan()

    shelf = Shelf()
    queue = LiveQueue("free", {"CPU": 0.0}, shelf, lambda: ({}, {}), ManualClock(), 0.0)
    assert queue.may_begin(Look())  # type: ignore[arg-type]
    assert shelf.entries == {}


def test_the_queue_is_shown_in_its_order() -> None:
    entries = [entry("later", 9), entry("works", 1, holds=True, hours=[(0, 4)]), entry("sooner", 3)]
    grid = queue_grid(entries, turns_of(entries, TWO, {"CPU": 4.0}, 0.0))
    assert [row[:3] for row in grid.rows] == [
        ("works", "works", "2 CPU"),
        ("sooner", "may begin", "2 CPU"),
        ("later", "1970-01-01 01:01:00 UTC", "2 CPU"),
    ]
