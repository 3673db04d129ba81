"""Many jobs, few workers: who gets which hour."""

import pytest

from app.errors import InvalidInput
from app.policy.queueing import Bookings, QueueSettings, Waiting, book
from app.policy.shifting import Outlook

HOUR = 3600.0
GRID = Outlook(0.0, HOUR, (400.0, 300.0, 100.0, 300.0, 400.0, 400.0))
PATIENT = QueueSettings(wait_price=0)


def bookings(workers=1, cells=12):
    return Bookings(workers, 0.0, HOUR / 2, cells)


def job(name, workers=1, hours=1.0, latest_h=4.0):
    return Waiting(name, workers, hours * HOUR, workers * 1000.0, latest_h * HOUR)


def starts(found):
    return {name: booking.start_s / HOUR for name, booking in found.items()}


def test_a_job_alone_takes_the_cleanest_hour():
    found = book([job("a")], bookings(), GRID, 0, PATIENT)
    assert starts(found) == {"a": 2}
    assert found["a"].expected_g == pytest.approx(100)
    assert found["a"].now_g == pytest.approx(400)
    assert "75.0% less" in found["a"].reason


def test_who_must_start_soonest_chooses_first():
    found = book([job("patient"), job("urgent", latest_h=2)], bookings(), GRID, 0, PATIENT)
    assert starts(found)["urgent"] == 2
    assert starts(found)["patient"] in (0.5, 3.5)  # beside it, as near the clean hour as a cell between allows


def test_two_run_together_where_there_are_workers():
    found = book([job("a"), job("b")], bookings(workers=2), GRID, 0, PATIENT)
    assert starts(found) == {"a": 2, "b": 2}


def test_waiting_has_its_price():
    assert starts(book([job("a")], bookings(), GRID, 0, QueueSettings(wait_price=0.5))) == {"a": 0}


def test_what_runs_is_not_disturbed():
    busy = bookings()
    busy.take(2 * HOUR, 4 * HOUR, 1)
    found = book([job("a", hours=0.5)], busy, GRID, 0, PATIENT)
    assert starts(found) == {"a": 1}


def test_without_room_in_time_it_is_the_first_start_there_is():
    busy = bookings()
    busy.take(0, 4.9 * HOUR, 1)
    found = book([job("a", latest_h=1)], busy, GRID, 0, PATIENT)
    assert starts(found) == {"a": 5}
    assert "late" in found["a"].reason


def test_nobody_is_booked_twice():
    jobs = [job(str(n), workers=1 + n % 3, hours=0.5 + n % 4) for n in range(12)]
    free = bookings(workers=4, cells=200)
    found = book(jobs, free, GRID, 0, PATIENT)
    for at in range(200):
        middle_s = (at + 0.5) * HOUR / 2
        busy = sum(each.workers for each in jobs if found[each.id].start_s <= middle_s < found[each.id].end_s)
        assert busy <= 4


def test_a_booking_given_back_is_free_again():
    free = bookings()
    free.take(0, 6 * HOUR, 1)
    free.take(0, 6 * HOUR, -1)
    assert starts(book([job("a")], free, GRID, 0, PATIENT)) == {"a": 2}


def test_now_may_lie_inside_a_cell():
    found = book([job("a", latest_h=0.2)], bookings(), GRID, 0.1 * HOUR, PATIENT)
    assert starts(found) == {"a": pytest.approx(0.1)}


@pytest.mark.parametrize("bad", [job("x", workers=2), job("x", workers=0), job("x", hours=0)])
def test_a_job_that_never_fits_is_refused_before_anything_is_booked(bad):
    free = bookings()
    with pytest.raises(InvalidInput, match="job x must need 1 to 1 workers"):
        book([job("a"), bad], free, GRID, 0)
    assert starts(book([job("a")], free, GRID, 0, PATIENT)) == {"a": 2}


def test_bookings_without_workers_are_refused():
    with pytest.raises(InvalidInput, match="workers, cells and cell_s > 0"):
        Bookings(0, 0.0, 60.0, 10)
