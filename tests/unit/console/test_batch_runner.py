"""Batches on paper: they wait for clean hours, end in time, and nothing that was acknowledged is lost."""

import asyncio

import pytest

from app.clock import ManualClock
from app.console.batches.figures import bucket_of, outcome
from app.console.batches.planning import Lane
from app.console.batches.records import Answered, BatchRecord, Used
from app.console.batches.runner import BatchRunner, why_unanswered
from app.console.batches.sending import Later
from app.console.batches.store import BatchStore
from app.engine.views import Receipt, Receipts
from app.errors import Forbidden, Unavailable
from app.protocol.openai_batches import Line
from app.units import NS_PER_S
from tests.fixtures.paper_grid import PaperGrid

START_S, HOUR_S = 1_780_000_000 - 1_780_000_000 % 3600, 3600.0
VALLEY = (400.0,) * 3 + (100.0,) * 3 + (400.0,) * 30
"""Hours 3 to 6 are clean."""
URL = "/v1/embeddings"


class World:
    """A clock moved by hand; each answer takes a minute and 60 J."""

    def __init__(self, path, truth=VALLEY, lanes=2):
        self.clock = ManualClock(wall_ns=START_S * NS_PER_S)
        self.grid = PaperGrid(START_S - 48 * HOUR_S, HOUR_S, (300.0,) * 48 + truth, self.clock)
        self.store, self.lanes = BatchStore(path), lanes
        self.choices, self.asked, self.answers = [], [], {}
        self.authorized = []
        self.forbidden = None
        self.receipts_fail = False
        self.runner = self.another()

    def another(self):
        """A runner as another process would have it."""
        return BatchRunner(
            self.store,
            self,
            Lane(self.lanes, 1.0),
            self.grid,
            self.receipts,
            self.credential,
            lambda choice: self.choices.append(choice) or len(self.choices),
            self.clock,
        )

    def credential(self, batch, models):
        if self.forbidden:
            raise self.forbidden
        self.authorized.append((batch.tenant, *models))
        return "Bearer ticket"

    async def ask(self, pending, authorization, attempt):
        self.asked.append((self.hour, pending.batch, pending.number, attempt))
        planned = self.answers.get(pending.number, 200)
        if isinstance(planned, list):
            planned = planned.pop(0) if planned else 200
        if isinstance(planned, Later):
            return planned
        now_s = self.now_s
        receipt = f"r{pending.number}"
        return Answered(
            pending.batch, pending.number, planned, b"{}", receipt, 60_000_000, 1, "counter", True, now_s, 60.0
        )

    async def receipts(self, ids):
        if self.receipts_fail:
            raise Unavailable("nobody keeps the books now")
        labels = {"account": "request", "tenant": "acme", "model": "m", "version": "1", "job": "", "node": "n"}
        numbers = dict.fromkeys(("load_share_uj", "warm_share_uj", "duration_ns"), 1)
        return Receipts(
            receipts=tuple(
                Receipt(receipt_id=each, grade="counter", provisional=False, shares_final=True, wall_time_s=1.0,
                        energy_uj=72_000_000, carbon_ugco2e=5, **labels, **numbers)
                for each in ids
            ),
            missing={},
        )  # fmt: skip

    @property
    def now_s(self):
        return self.clock.wall_ns() / NS_PER_S

    @property
    def hour(self):
        return int((self.now_s - START_S) // HOUR_S)

    def submit(self, name="batch_1", requests=60, deadline_h=12.0):
        batch = BatchRecord(name, "acme", "key", URL, "file", "12h", self.now_s, self.now_s + deadline_h * HOUR_S)
        self.store.add_batch(batch, [Line(n, f"c{n}", URL, "minilm", b"{}") for n in range(1, requests + 1)])
        return batch

    def live(self, hours, step_s=30.0, runner=None):
        """Rounds of the runner, half a minute apart, until nothing is open or the hours are over."""
        runner = runner or self.runner
        until_s = self.now_s + hours * HOUR_S

        async def rounds():
            while self.now_s < until_s and self.store.open_batches():
                await runner.step(0)
                await runner.step(0)
                self.clock.advance(round(step_s * NS_PER_S))

        asyncio.run(rounds())

    def state(self, name="batch_1"):
        return self.store.batch(name).state


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "batches.sqlite")
    yield world
    world.store.close()


def test_a_batch_waits_for_the_clean_hours_and_its_energy_settles(world):
    batch = world.submit()
    world.live(hours=12, step_s=120.0)
    assert world.state() == "completed"
    assert {hour for hour, *_ in world.asked} == {3}
    assert len(world.asked) == 60
    assert [each.action for each in world.choices] == ["wait", "start", "ended"]
    assert set(world.authorized) == {("acme", "minilm")}
    # 60 answers of 72 J as the books settled them, at 100 g/kWh, and at once at 400 g/kWh
    used = world.store.used(batch.id, 60)
    came = outcome(used, world.grid.average(), batch.created_s, lanes=2, pue=1.0, bucket_s=60)
    assert came.energy_uj == 60 * 72_000_000
    assert came.carbon_ug == pytest.approx(4320 / 3.6e6 * 100 * 1e6, rel=1e-6)
    assert came.at_once_ug == pytest.approx(4320 / 3.6e6 * 400 * 1e6, rel=1e-6)
    realised = world.choices[-1].realised
    assert realised.share == pytest.approx(0.75)
    assert not came.provisional


def test_a_batch_without_slack_runs_at_once(world):
    world.submit(deadline_h=0.02, requests=4)
    world.live(hours=1)
    assert world.state() == "completed"
    assert {hour for hour, *_ in world.asked} == {0}


def test_no_more_are_asked_at_a_time_than_the_lane_has(world):
    world.submit(deadline_h=0.02, requests=9)
    seen = []

    async def ask(pending, authorization, attempt):
        seen.append(len(world.runner._tasks))
        return await World.ask(world, pending, authorization, attempt)

    world.ask = ask
    world.live(hours=1)
    assert max(seen) == 2


def test_the_nearest_deadline_is_asked_first(world):
    world.submit("batch_later", deadline_h=0.5, requests=4)
    world.submit("batch_sooner", deadline_h=0.02, requests=4)
    world.live(hours=1)
    order = [batch for _, batch, *_ in world.asked]
    assert order == ["batch_sooner"] * 4 + ["batch_later"] * 4


def test_what_was_not_answered_when_the_process_ended_is_asked_by_the_next(world):
    world.submit(deadline_h=0.02, requests=6)

    async def cut_off():
        await world.runner.step(0)  # plans and sends; nothing is kept yet
        await world.runner.close()

    asyncio.run(cut_off())
    assert world.store.counts("batch_1").left >= 4
    world.live(hours=1, runner=world.another())
    assert world.state() == "completed"
    assert world.store.counts("batch_1").completed == 6
    assert {number for *_, number, _ in world.asked} == set(range(1, 7))


def test_what_came_too_early_is_asked_again_and_failures_are_counted(world):
    world.submit(deadline_h=1.0, requests=3)
    pending = None
    world.answers = {1: [Later(pending, 60.0, "busy")], 2: [Later(pending, 1.0, "boom", failed=True)] * 2, 3: 404}
    world.live(hours=2)
    assert world.state() == "completed"
    assert [attempt for *_, number, attempt in world.asked if number == 2] == [1, 2, 3]
    assert [attempt for *_, number, attempt in world.asked if number == 1] == [1, 1]
    counts = world.store.counts("batch_1")
    assert (counts.completed, counts.failed) == (2, 1)


def test_a_window_that_ends_gives_up_what_is_left(world):
    world.submit(deadline_h=0.1, requests=2)
    world.answers = {2: Later(None, 20.0, "busy")}
    world.live(hours=1)
    assert world.state() == "expired"
    ((_, left),) = world.store.answers("batch_1", good=False)
    assert left.code == "batch_expired"
    assert "window ended" in why_unanswered(left.code)


def test_a_cancelled_batch_keeps_what_was_answered(world):
    world.submit(deadline_h=0.2, requests=60)
    world.live(hours=0.02)
    done = world.store.counts("batch_1").completed
    assert 0 < done < 60
    world.store.change("batch_1", cancelled_s=world.now_s)
    world.live(hours=1)
    assert world.state() == "cancelled"
    assert world.store.counts("batch_1").completed == done


def test_a_revoked_key_ends_its_batch(world):
    world.submit(deadline_h=0.02)
    world.forbidden = Forbidden("the key key was revoked")
    world.live(hours=1)
    assert (world.state(), world.asked) == ("failed", [])
    assert "revoked" in world.store.batch("batch_1").why_ended


def test_a_gate_that_knows_nothing_yet_delays_alone(world):
    world.submit(deadline_h=0.05, requests=2)
    world.forbidden = Unavailable("not known yet")
    world.live(hours=0.01)
    assert world.asked == []
    world.forbidden = None
    world.live(hours=1)
    assert world.state() == "completed"


def test_books_that_do_not_answer_leave_provisional_figures(world):
    world.submit(deadline_h=0.02, requests=2)
    world.receipts_fail = True
    world.live(hours=1)
    assert world.state() == "completed"
    assert world.store.unsettled("batch_1", 9) == ["r1", "r2"]


def test_a_pace_that_was_learnt_is_what_the_next_batch_is_planned_with(world):
    world.submit(requests=4, deadline_h=0.02)
    world.live(hours=0.2)
    world.submit("batch_2", requests=60)
    world.live(hours=0.02)
    facts = {fact.name: fact for fact in world.choices[-1].facts}
    # 60 requests of a minute, two at a time; 60 J in 60 s each, two at a time
    assert facts["time they take"].value == pytest.approx(0.5)
    assert facts["power of the lane"].value == pytest.approx(2.0)
    assert world.choices[-1].expected.carbon_g == pytest.approx(0.001 * 300, rel=0.02)


@pytest.mark.parametrize(("lasted_s", "bucket_s"), [(60.0, 1), (3600.0, 1), (3601.0, 60)])
def test_short_batches_are_added_up_by_seconds(lasted_s, bucket_s):
    assert bucket_of(lasted_s) == bucket_s


def test_carbon_of_both_ways_takes_the_building_along(world):
    used = [Used(START_S + 4 * HOUR_S, 3_600_000_000, 1, 0, 60.0)]
    world.clock.advance(round(8 * HOUR_S * NS_PER_S))
    came = outcome(used, world.grid.average(), START_S, lanes=1, pue=1.5, bucket_s=60)
    # 1 Wh at 100 and at 400 g/kWh, times 1.5
    assert (came.carbon_ug, came.at_once_ug) == pytest.approx((150_000, 600_000))
