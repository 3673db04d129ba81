"""Jobs by worker and epoch: both views add up, whatever is in them."""

from app.domain.account import job_account
from app.engine.job_details import MAX_SHARES, job_details
from app.ledger.store import JobPart

ONE, TWO = job_account("acme", "digits", 1), job_account("acme", "digits", 2)


def test_workers_and_epochs_are_two_views_of_the_same_energy() -> None:
    (detail,) = job_details(
        [JobPart(ONE, 0, 0, 5, 1), JobPart(ONE, 0, 1, 10, 2), JobPart(ONE, 1, 1, 20, 4), JobPart(ONE, 1, 2, 40, 8)]
    )
    assert (detail.tenant, detail.job, detail.attempt, detail.kind, detail.energy_uj) == (
        "acme",
        "digits",
        1,
        "train",
        75,
    )
    assert [(share.worker, share.epoch, share.energy_uj, share.time_ns) for share in detail.by_worker] == [
        (0, None, 15, 3),
        (1, None, 60, 12),
    ]
    assert [(share.epoch, share.worker, share.energy_uj, share.time_ns) for share in detail.by_epoch] == [
        (0, None, 5, 1),
        (1, None, 30, 6),
        (2, None, 40, 8),
    ]
    assert [(share.worker, share.epoch, share.energy_uj) for share in detail.shares] == [
        (0, 0, 5),
        (0, 1, 10),
        (1, 1, 20),
        (1, 2, 40),
    ]


def test_attempts_are_told_apart_and_measured_blocks_left_out() -> None:
    block = job_account("acme", "prepare", 1, "measure")
    details = job_details([JobPart(ONE, 0, 1, 1, 1), JobPart(TWO, 0, 1, 2, 1), JobPart(block, -1, 0, 4, 1)])
    assert [(detail.job, detail.attempt, detail.energy_uj) for detail in details] == [
        ("digits", 1, 1),
        ("digits", 2, 2),
    ]


def test_of_very_many_workers_and_epochs_only_the_sums_are_told() -> None:
    (detail,) = job_details(JobPart(ONE, worker, epoch, 1, 1) for worker in range(101) for epoch in range(1, 101))
    assert MAX_SHARES < 101 * 100
    assert (detail.shares, len(detail.by_worker), len(detail.by_epoch), detail.energy_uj) == ((), 101, 100, 10_100)
