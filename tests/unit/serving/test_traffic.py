"""Traffic among versions: from what is declared to what the edge divides."""

import pytest
from pydantic import ValidationError

from app.serving.args import ModelArgs
from app.serving.traffic import declared

DIGITS = {"name": "digits", "source": "repository:digits@2"}


def test_the_default_version_keeps_what_is_not_given_away():
    applications = {"digits": {**DIGITS, "traffic": {"3": 0.1, 4: 0.25}}, "digits@3": {**DIGITS}}
    # 0.1 and 0.25 of a million, and what remains.
    split = {"digits@3": 100_000, "digits@4": 250_000, "digits": 650_000}
    assert declared(applications) == {"digits": {"split": split, "aliases": {}}}


def test_the_own_version_is_the_application_without_a_version():
    applications = {"digits": {**DIGITS, "traffic": {"2": 0.1}, "aliases": {"prod": "2", "next": 3}}}
    assert declared(applications) == {
        "digits": {"split": {"digits": MILLION}, "aliases": {"prod": "digits", "next": "digits@3"}}
    }


def test_all_of_it_may_go_to_others():
    (told,) = declared({"digits": {**DIGITS, "traffic": {"3": 1}}}).values()
    assert told["split"] == {"digits@3": MILLION, "digits": 0}


@pytest.mark.parametrize("args", [{}, {"traffic": {"3": 7}}, {"traffic": "all"}, {"shadow": {"3": 1}}])
def test_what_divides_nothing_or_cannot_be_read_is_left_out(args):
    assert declared({"console": args}) == {}


def test_only_the_default_application_divides():
    assert declared({"digits@3": {**DIGITS, "traffic": {"4": 0.5}}}) == {}


@pytest.mark.parametrize(
    "wrong", [{"traffic": {"3": 0.6, "4": 0.5}}, {"traffic": {"3": 0}}, {"shadow": {"3": 1.5}}, {"traffic": {"a/b": 1}}]
)
def test_shares_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError):
        ModelArgs(**DIGITS, **wrong)


MILLION = 1_000_000
