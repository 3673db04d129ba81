"""The chart of accounts: who is charged for a microjoule.

Knows nothing of devices or time. Every microjoule a device used lands in exactly one account.
"""

from dataclasses import dataclass
from enum import StrEnum


class AccountName(StrEnum):
    """The eight accounts; docs/metering.md says when each is charged."""

    REQUEST = "request"
    JOB = "job"
    LOAD = "load"
    WARM = "warm"
    IDLE = "idle"
    SYSTEM = "system"
    FOREIGN = "foreign"
    GAP = "gap"


WORK_ACCOUNTS = frozenset({AccountName.REQUEST, AccountName.JOB, AccountName.LOAD})
"""Accounts that a slice can charge."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account with its labels; labels that do not apply are empty. Hashable: postings are summed by it."""

    name: AccountName
    tenant: str = ""
    model: str = ""
    version: str = ""
    job: str = ""
    attempt: int = 0
    kind: str = ""
    """Of a job: train, compress, data, measure. Of idle: watched or unwatched. Of gap: why nobody knows."""

    def labels(self) -> dict[str, str | int]:
        """All fields, for storage and display."""
        return {
            "name": self.name.value,
            "tenant": self.tenant,
            "model": self.model,
            "version": self.version,
            "job": self.job,
            "attempt": self.attempt,
            "kind": self.kind,
        }


def request_account(tenant: str, model: str, version: str) -> Account:
    """Work done for requests of `tenant` to a model version."""
    return Account(AccountName.REQUEST, tenant=tenant, model=model, version=version)


def job_account(tenant: str, job: str, attempt: int, kind: str = "train") -> Account:
    """Work done for one attempt (from 1) of a job."""
    return Account(AccountName.JOB, tenant=tenant, job=job, attempt=attempt, kind=kind)


def load_account(model: str, version: str) -> Account:
    """Bringing a model version into service."""
    return Account(AccountName.LOAD, model=model, version=version)


def warm_account(model: str, version: str) -> Account:
    """A model version resident while nobody asks."""
    return Account(AccountName.WARM, model=model, version=version)


IDLE_WATCHED = Account(AccountName.IDLE, kind="watched")
IDLE_UNWATCHED = Account(AccountName.IDLE, kind="unwatched")
SYSTEM = Account(AccountName.SYSTEM)
FOREIGN = Account(AccountName.FOREIGN)
GAP = Account(AccountName.GAP, kind="dead-meter")
