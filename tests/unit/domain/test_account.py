"""The chart of accounts, and the few facts of the domain that code relies on."""

import pytest

from app.domain.account import (
    FOREIGN,
    GAP,
    IDLE_UNWATCHED,
    IDLE_WATCHED,
    SYSTEM,
    WORK_ACCOUNTS,
    Account,
    AccountName,
    job_account,
    load_account,
    request_account,
    warm_account,
)
from app.ledger.account_tables import account_of_labels

EVERY_KIND = [
    request_account("default", "minilm", "1"),
    job_account("default", "digits", 2, "compress"),
    load_account("minilm", "1"),
    warm_account("minilm", "1"),
    IDLE_WATCHED,
    IDLE_UNWATCHED,
    SYSTEM,
    FOREIGN,
    GAP,
]


def test_there_are_eight_accounts_and_a_maker_or_constant_for_each():
    assert {account.name for account in EVERY_KIND} == set(AccountName)
    assert len(AccountName) == 8


@pytest.mark.parametrize("account", EVERY_KIND)
def test_an_account_comes_back_from_its_labels(account: Account):
    assert account_of_labels(account.labels()) == account


def test_accounts_with_the_same_labels_are_the_same_account():
    assert {request_account("t", "m", "1"), request_account("t", "m", "1")} == {request_account("t", "m", "1")}
    assert len({request_account("t", "m", "1"), request_account("t", "m", "2"), warm_account("m", "1")}) == 3


def test_only_requests_jobs_and_loads_are_work():
    assert {"request", "job", "load"} == WORK_ACCOUNTS
