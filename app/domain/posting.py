"""Postings: so many microjoules of one device in one interval charged to one account."""

from dataclasses import dataclass

from app.domain.account import Account
from app.domain.reading import Grade


@dataclass(frozen=True, slots=True)
class Posting:
    """`energy_uj` >= 0 of `device_key` over [start_ns, end_ns) (monotonic), charged to `account`."""

    device_key: str
    start_ns: int
    end_ns: int
    account: Account
    energy_uj: int
    grade: Grade
    uncertainty_uj: int = 0
    """What the readings could not resolve: the true share lies within +- this."""
