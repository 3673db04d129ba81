"""Jobs by worker and epoch, from what their slices were credited. Pure.

job_details(store.job_parts("digits-1"))
"""

from collections import defaultdict
from collections.abc import Iterable

from app.domain.account import Account
from app.engine.views import JobDetail, JobShare
from app.ledger.store import JobPart

MAX_SHARES = 10_000
"""Of a job with more workers times epochs only the sums by worker and by epoch are told."""


def job_details(parts: Iterable[JobPart]) -> tuple[JobDetail, ...]:
    """One detail per account, an attempt of a job; measured blocks, with neither worker nor epoch, are left out."""
    accounts: dict[Account, list[JobPart]] = defaultdict(list)
    for part in parts:
        accounts[part.account].append(part)
    return tuple(
        _detail(account, members)
        for account, members in accounts.items()
        if any(member.worker >= 0 or member.part for member in members)
    )


def _detail(account: Account, parts: list[JobPart]) -> JobDetail:
    workers: dict[int, list[JobPart]] = defaultdict(list)
    epochs: dict[int, list[JobPart]] = defaultdict(list)
    for part in parts:
        workers[part.worker].append(part)
        epochs[part.part].append(part)
    return JobDetail(
        tenant=account.tenant,
        job=account.job,
        attempt=account.attempt,
        kind=account.kind,
        energy_uj=sum(part.energy_uj for part in parts),
        by_worker=tuple(_share(members, worker=worker) for worker, members in sorted(workers.items())),
        by_epoch=tuple(_share(members, epoch=epoch) for epoch, members in sorted(epochs.items())),
        shares=tuple(_share([part], part.worker, part.part) for part in parts) if len(parts) <= MAX_SHARES else (),
    )


def _share(parts: list[JobPart], worker: int | None = None, epoch: int | None = None) -> JobShare:
    energy_uj, time_ns = sum(part.energy_uj for part in parts), sum(part.time_ns for part in parts)
    return JobShare(worker=worker, epoch=epoch, energy_uj=energy_uj, time_ns=time_ns)
