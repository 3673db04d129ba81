"""The accountant's desk: what it hands out follows the files, and a slip of the pen changes nothing."""

import json
import math
from pathlib import Path

import pytest

from app.access.audit_log import AuditLog
from app.access.desk import AUDIT_FILE, KEYS_FILE, RULES_FILE, AccessDesk
from app.access.gate import Gate
from app.access.keys import KeyFile
from app.access.quotas import DAY_S, TenantUse
from app.access.snapshot import Decision, Poll, Want
from app.clock import ManualClock
from app.errors import OverQuota, Unauthenticated, Unavailable
from app.units import NS_PER_S
from tests.fixtures.tokens import TokenIssuer

ISSUER = "https://issuer.test/"
RULES = f"""
tenants: {{acme: {{joules_per_day: 10}}}}
issuers: [{{issuer: "{ISSUER}", audience: joulekeeper, jwks: "https://issuer.test/jwks", refresh_s: 60, keep_s: 600}}]
"""


class Office:
    def __init__(self, directory: Path) -> None:
        self.directory, self.clock = directory, ManualClock()
        self.issuer = TokenIssuer(ISSUER)
        self.fetched, self.is_out = 0, False
        self.uses: dict[str, TenantUse] = {}
        self.asked_since: list[float] = []
        self.desk = AccessDesk(directory, self.used, self.clock, self.fetch)
        self.keys = KeyFile(directory / KEYS_FILE)
        self.gate = Gate.required(self.clock)

    @property
    def wall_s(self) -> float:
        return self.clock.wall_ns() / NS_PER_S

    def fetch(self, place: str) -> bytes:
        self.fetched += 1
        if self.is_out:
            raise Unavailable("connection refused")
        return self.issuer.jwks()

    def used(self, since_s: float) -> dict[str, TenantUse]:
        self.asked_since.append(since_s)
        if self.is_out:
            raise Unavailable("the store is away")
        return self.uses

    def step(self, seconds: float = 0) -> None:
        self.clock.advance(int(seconds * NS_PER_S))
        self.desk.keep_up()
        self.gate.renew(self.desk.answer(self.gate.poll("minilm@1")))

    def rules(self, text: str) -> None:
        (self.directory / RULES_FILE).write_text(text)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_before_the_files_were_read_nothing_is_handed_out(office: Office):
    assert office.desk.answer(Poll("g")).snapshot is None


def test_keys_that_are_made_and_revoked_reach_the_gates(office: Office):
    _, key = office.keys.create("acme", ["infer:*"], office.wall_s)
    office.step()
    caller = office.gate.admit(key, "infer:minilm")
    office.keys.revoke(caller.key_id, office.wall_s)
    office.step()
    with pytest.raises(Unauthenticated):
        office.gate.admit(key, "infer:minilm")


def test_what_has_not_changed_is_not_sent_again(office: Office):
    office.keys.create("acme", ["infer:*"], office.wall_s)
    office.step()
    version = office.gate.poll("g").version
    assert office.desk.answer(Poll("g", version)).snapshot is None
    office.step(1)
    assert office.gate.poll("g").version == version
    office.keys.create("other", ["infer:*"], office.wall_s)
    office.step(1)
    assert office.gate.poll("g").version != version


def test_a_slip_of_the_pen_leaves_the_rules_as_they_were_and_says_so(office: Office):
    office.rules(RULES)
    _, key = office.keys.create("acme", ["admin"], office.wall_s)
    office.step()
    office.rules("tenants: [")
    (office.directory / KEYS_FILE).write_text("{")
    office.step(1)
    assert office.gate.admit(key, "admin").tenant == "acme"
    assert len(office.desk.warnings) == 2
    office.rules(RULES)
    office.keys._path.unlink()
    office.step(1)
    assert office.desk.warnings == ()
    with pytest.raises(Unauthenticated):
        office.gate.admit(key, "admin")


def test_an_outage_of_the_issuer_is_survived_for_a_while_and_told(office: Office):
    office.rules(RULES)
    office.step()
    token = office.issuer.token()
    office.gate.admit(f"Bearer {token}", "infer:minilm")
    office.is_out = True
    office.step(120)
    office.gate.admit(f"Bearer {token}", "infer:minilm")
    assert any("cannot be had" in warning for warning in office.desk.warnings)
    office.step(601)
    with pytest.raises(Unauthenticated, match="not in its issuer's key set"):
        office.gate.admit(f"Bearer {office.issuer.token(sub='another')}", "infer:minilm")
    office.is_out = False
    office.step(10)
    office.gate.admit(f"Bearer {token}", "infer:minilm")
    assert not any("cannot be had" in warning for warning in office.desk.warnings)


def test_a_new_key_is_fetched_when_a_token_names_it_but_not_for_everybody_who_names_one(office: Office):
    office.rules(RULES)
    office.step()
    office.issuer.rotate("k2")
    with pytest.raises(Unauthenticated):
        office.gate.admit(office.issuer.token(), "infer:minilm")
    office.step(6)  # the gate tells
    office.step(6)  # the desk has fetched
    assert office.gate.admit(office.issuer.token(), "infer:minilm").tenant == "acme"
    fetched = office.fetched
    for number in range(10):
        with pytest.raises(Unauthenticated):
            office.gate.admit(office.issuer.token(headers={"kid": f"x{number}"}), "infer:minilm")
        office.step(1)
    assert office.fetched - fetched <= 3


def test_the_day_comes_from_the_books_and_an_outage_keeps_the_last_figures(office: Office):
    office.rules(RULES)
    _, key = office.keys.create("acme", ["admin"], office.wall_s)
    office.uses = {"acme": TenantUse(9_000_000)}
    office.step()
    office.gate.admit(key, "admin")
    assert office.asked_since == [office.wall_s // DAY_S * DAY_S]
    office.uses = {"acme": TenantUse(10_000_000)}
    office.step(6)
    with pytest.raises(OverQuota, match="10 joules a day"):
        office.gate.admit(key, "admin")
    office.is_out = True
    office.step(6)
    with pytest.raises(OverQuota):
        office.gate.admit(key, "admin")
    assert any("used today cannot be read" in warning for warning in office.desk.warnings)


def test_decisions_are_in_the_audit_log_one_line_each_which_only_its_owner_reads(office: Office):
    office.step()
    decision = Decision('evil\n{"who":', "acme", "infer:x", "POST /infer", False, "no")
    office.desk.answer(Poll("minilm@1 on n1", decisions=((decision, 7),)))
    path = office.directory / AUDIT_FILE
    (line,) = path.read_text().splitlines()
    entry = json.loads(line)
    assert entry["who"] == decision.who
    assert (entry["count"], entry["decision"], entry["where"]) == (7, "refused", "minilm@1 on n1")
    assert entry["time"].endswith("Z")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_audit_log_makes_room_and_the_oldest_goes(tmp_path: Path):
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=100, kept_files=2)
    for number in range(8):
        log.write([{"number": number, "filling": "x" * 40}])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["audit.1.jsonl", "audit.2.jsonl", "audit.jsonl"]
    told = [
        json.loads(line)["number"]
        for name in reversed(names[:2])
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert told == sorted(told)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_leases_are_given_for_what_gates_want(office: Office):
    office.rules("tenants: {acme: {requests_per_s: 5}}")
    office.desk.keep_up()
    answer = office.desk.answer(Poll("g", wants={"acme": Want(3), "nobody": Want(math.inf)}))
    assert answer.leases["acme"].requests == 3
    assert set(answer.leases) == {"acme"}
