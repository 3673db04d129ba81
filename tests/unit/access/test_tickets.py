"""Tickets: believed by gates for one tenant and the scopes they name, for minutes, and never for admin."""

import json
import math

import pytest

from app.access.desk import AccessDesk
from app.access.gate import Gate
from app.access.snapshot import AccessSnapshot, KeyGrant, Poll, PollAnswer
from app.access.tickets import LASTS_S, PRIVATE_FILE, PUBLIC_FILE, TicketOffice, own_issuers
from app.clock import ManualClock
from app.errors import Forbidden, InvalidInput, Unauthenticated
from app.units import NS_PER_S


@pytest.fixture
def clock():
    return ManualClock(wall_ns=1_800_000_000 * NS_PER_S)


@pytest.fixture
def office(tmp_path, clock):
    return TicketOffice(tmp_path, clock)


def gate_of(directory, clock, monkeypatch):
    """A gate that has heard what the desk of that directory knows. PyJWT reads its own clock."""
    import jwt.api_jwt

    class Now(jwt.api_jwt.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(clock.wall_ns() / NS_PER_S, tz)

    monkeypatch.setattr(jwt.api_jwt, "datetime", Now)
    desk = AccessDesk(directory, lambda since_s: {}, clock)
    desk.keep_up()
    gate = Gate.required(clock)
    gate.renew(desk.answer(Poll("test")))
    return gate


def test_a_ticket_opens_what_it_names_and_no_more(tmp_path, clock, office, monkeypatch):
    office.open()
    gate = gate_of(tmp_path, clock, monkeypatch)
    ticket = office.ticket("acme", ["infer:minilm"], "batch_1")
    caller = gate.admit(ticket, "infer:minilm")
    assert (caller.tenant, caller.key_id, caller.is_admin) == ("acme", "jwt joulekeeper:batches batch_1", False)
    for other in ("infer:pycoder", "read:report", "admin"):
        with pytest.raises(Forbidden):
            gate.admit(ticket, other)


def test_a_ticket_expires_and_a_fresh_one_is_made_before(tmp_path, clock, office, monkeypatch):
    first = office.ticket("acme", ["infer:minilm"], "batch_1")
    gate = gate_of(tmp_path, clock, monkeypatch)
    assert office.ticket("acme", ["infer:minilm"], "batch_1") == first
    clock.advance(round((LASTS_S + 6) * NS_PER_S))
    second = office.ticket("acme", ["infer:minilm"], "batch_1")
    gate.renew(PollAnswer())
    assert gate.admit(second, "infer:minilm").tenant == "acme"
    with pytest.raises(Unauthenticated, match="expired"):
        gate.admit(first, "infer:minilm")


def test_another_offices_ticket_is_not_believed(tmp_path, clock, office, monkeypatch):
    office.open()
    gate = gate_of(tmp_path, clock, monkeypatch)
    forged = TicketOffice(tmp_path / "elsewhere", clock).ticket("acme", ["infer:minilm"], "batch_1")
    with pytest.raises(Unauthenticated):
        gate.admit(forged, "infer:minilm")


def test_nobody_is_made_admin(office):
    with pytest.raises(InvalidInput, match="never has the scope admin"):
        office.ticket("acme", ["admin"], "batch_1")


def test_the_private_key_is_the_owners_alone_and_outlives_the_office(tmp_path, clock, office):
    assert own_issuers(tmp_path) == ()
    office.open()
    assert (tmp_path / PRIVATE_FILE).stat().st_mode & 0o077 == 0
    public = (tmp_path / PUBLIC_FILE).read_bytes()
    assert "d" not in json.loads(public)["keys"][0]
    TicketOffice(tmp_path, clock).open()
    assert (tmp_path / PUBLIC_FILE).read_bytes() == public
    assert [each.algorithms for each in own_issuers(tmp_path)] == [("EdDSA",)]


def test_a_gate_knows_whether_a_key_is_still_good(clock):
    gate = Gate.required(clock)
    now_s = clock.wall_ns() / NS_PER_S
    grants = {
        name: KeyGrant(bytes(32), "acme", frozenset(), expires_s)
        for name, expires_s in (("good", math.inf), ("old", now_s))
    }
    gate.renew(PollAnswer(AccessSnapshot("one", grants)))
    assert [gate.still_knows(name) for name in ("good", "old", "revoked", "", "jwt issuer somebody")] == [
        True, False, False, False, True,
    ]  # fmt: skip
    assert Gate.open("default").still_knows("")
