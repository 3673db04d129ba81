"""When a meter reads, commits, shows and leaves."""

import pytest

from app.config import Settings
from app.metering.rhythm import MAX_READINGS, RETRY_S, Rhythm

CONFIG = Settings(sample_hz=10, idle_sample_hz=2, flush_s=1, linger_s=10, sensors=("cpu_model",))


def rhythm(resident: bool = False) -> Rhythm:
    return Rhythm(CONFIG, resident, 100.0)


def test_the_first_batch_is_due_at_once_and_the_next_after_a_flush():
    meter = rhythm()
    assert meter.commit_is_due(True, 100.0)
    meter.tried(wrote=False, failed=False, now_s=100.0)  # there was no reading yet
    assert meter.commit_is_due(True, 100.1)
    meter.tried(wrote=True, failed=False, now_s=100.1)
    assert [meter.commit_is_due(True, at_s) for at_s in (100.2, 101.0, 101.2)] == [False, False, True]


def test_with_nobody_at_work_batches_are_five_times_as_seldom():
    meter = rhythm()
    meter.tried(wrote=True, failed=False, now_s=100.0)
    assert [meter.commit_is_due(False, at_s) for at_s in (104.9, 105.0)] == [False, True]


def test_a_journal_that_takes_nothing_is_not_tried_at_every_reading():
    meter = rhythm()
    meter.tried(wrote=False, failed=True, now_s=100.0)
    assert [meter.commit_is_due(True, at_s) for at_s in (100.1, 104.9, 100.0 + RETRY_S)] == [False, False, True]
    meter.tried(wrote=True, failed=False, now_s=105.0)
    assert meter.commit_is_due(True, 106.0)


def test_readings_wait_in_memory_up_to_a_bound():
    assert [rhythm().may_read(waiting) for waiting in (0, MAX_READINGS - 1, MAX_READINGS)] == [True, True, False]


def test_it_reads_slower_while_nothing_runs():
    meter = rhythm()
    assert meter.period_s() == pytest.approx(0.5)
    meter.see(True, 100.0)
    assert meter.period_s() == pytest.approx(0.1)


@pytest.mark.parametrize(("resident", "leaves"), [(False, [False, False, True]), (True, [False, False, False])])
def test_it_leaves_after_the_linger_unless_it_is_resident(resident: bool, leaves: list[bool]):
    meter = rhythm(resident)
    meter.see(True, 105.0)
    assert not meter.leaves(200.0)  # work goes on
    meter.see(False, 205.0)
    meter.see(True, 206.0)
    meter.see(False, 207.0)
    assert [meter.leaves(at_s) for at_s in (207.0, 216.0, 216.1)] == leaves


def test_the_board_is_written_at_every_reading_of_work_and_once_a_second_without():
    meter = rhythm()
    assert [meter.show_is_due(at_s) for at_s in (100.0, 100.5, 101.0)] == [True, False, True]
    meter.see(True, 101.1)
    assert [meter.show_is_due(at_s) for at_s in (101.1, 101.2)] == [True, True]


def test_with_nobody_at_work_the_host_is_read_less_often_than_accelerators():
    meter = rhythm()
    due = [meter.host_is_due(100 + tenth / 8) for tenth in range(10)]
    assert due == [True, False, False, False, True, False, False, False, True, False]
    meter.see(True, 101.0)
    assert [meter.host_is_due(101 + tenth / 10) for tenth in range(3)] == [True, True, True]
