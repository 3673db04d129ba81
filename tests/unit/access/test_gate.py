"""The gate: who is let in and who is not, what it costs, and that no key shows anywhere."""

import hmac
import logging
import math
import pickle
import time

import pytest

from app.access import gate as gate_module
from app.access.gate import STALE_S, Caller, Gate, credential
from app.access.keys import digest_of_key, new_key
from app.access.rules import Quotas
from app.access.snapshot import AccessSnapshot, KeyGrant, PollAnswer
from app.clock import ManualClock
from app.errors import Forbidden, OverQuota, Unauthenticated, Unavailable
from app.units import NS_PER_S


class Lobby:
    """A gate with three keys, as a feed would have set it up."""

    def __init__(self, quotas: dict[str, Quotas] | None = None) -> None:
        self.clock = ManualClock()
        self.hurries = 0
        self.gate = Gate.required(self.clock, self._hurry)
        self.keys: dict[str, str] = {}
        grants = {}
        wall_s = self.clock.wall_ns() / NS_PER_S
        for name, scopes, expires_s in (
            ("infer", {"infer:minilm"}, math.inf),
            ("reader", {"read:report"}, math.inf),
            ("root", {"admin"}, math.inf),
            ("short", {"infer:*"}, wall_s + 60),
        ):
            key_id, self.keys[name] = new_key()
            grants[key_id] = KeyGrant(digest_of_key(self.keys[name]), f"tenant-{name}", frozenset(scopes), expires_s)
        self.snapshot = AccessSnapshot("one", grants, (), quotas or {})

    def _hurry(self) -> None:
        self.hurries += 1

    def begin(self) -> "Lobby":
        self.gate.renew(PollAnswer(self.snapshot))
        return self

    def admit(self, name: str, scope: str = "infer:minilm", scheme: str = "Bearer ") -> Caller:
        return self.gate.admit(f"{scheme}{self.keys[name]}", scope, route="POST infer")


@pytest.fixture
def lobby() -> Lobby:
    return Lobby().begin()


def test_before_a_snapshot_nobody_is_let_in():
    with pytest.raises(Unavailable, match="not known here yet"):
        Lobby().admit("root")


def test_a_snapshot_that_is_too_old_lets_nobody_in(lobby: Lobby):
    lobby.clock.advance(int((STALE_S + 1) * NS_PER_S))
    with pytest.raises(Unavailable, match="last heard"):
        lobby.admit("root")
    lobby.gate.renew(PollAnswer())
    assert lobby.admit("root").is_admin


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", ""])
def test_a_key_lets_in_with_its_tenant(lobby: Lobby, scheme: str):
    caller = lobby.admit("infer", scheme=scheme)
    assert caller == Caller("tenant-infer", lobby.keys["infer"][3:15], False)


@pytest.mark.parametrize(
    ("name", "scope", "passes"),
    [
        ("infer", "infer:minilm", True),
        ("infer", "infer:other", False),
        ("infer", "infer:minilm2", False),
        ("infer", "read:report", False),
        ("infer", "admin", False),
        ("infer", "", True),
        ("short", "infer:other", True),
        ("short", "read:report", False),
        ("reader", "read:report", True),
        ("reader", "infer:minilm", False),
        ("root", "infer:other", True),
        ("root", "read:report", True),
        ("root", "admin", True),
    ],
)
def test_scopes_open_what_they_say_and_nothing_else(lobby: Lobby, name: str, scope: str, passes: bool):
    if passes:
        lobby.admit(name, scope)
    else:
        with pytest.raises(Forbidden, match="takes the scope"):
            lobby.admit(name, scope)


def test_wrong_keys_are_refused_in_words_that_do_not_repeat_them(lobby: Lobby):
    good = lobby.keys["infer"]
    wrong = [None, "", "Bearer ", "Bearer nonsense", "Basic dXNlcjpwdw==", new_key()[1], good[:-1], good + "0"]
    wrong += [good[:-1] + ("0" if good[-1] != "0" else "1"), good.upper(), "x" * 10_000, f"Bearer {good} {good}"]
    for text in wrong:
        with pytest.raises(Unauthenticated) as caught:
            lobby.gate.admit(text, "infer:minilm")
        assert text in (None, "", "Bearer ") or text not in str(caught.value)
        assert good[16:] not in str(caught.value)


def test_an_expired_key_is_refused_from_its_second_on(lobby: Lobby):
    lobby.clock.advance(59 * NS_PER_S)
    lobby.admit("short")
    lobby.clock.advance(1 * NS_PER_S)
    with pytest.raises(Unauthenticated, match="revoked or expired"):
        lobby.admit("short")


def test_a_revoked_key_is_gone_with_the_next_snapshot(lobby: Lobby):
    lobby.gate.renew(PollAnswer(AccessSnapshot("two")))
    with pytest.raises(Unauthenticated):
        lobby.admit("infer")


def test_what_was_found_good_is_asked_again_when_the_rules_change_and_for_another_scope(lobby: Lobby):
    lobby.admit("infer")
    with pytest.raises(Forbidden):
        lobby.admit("infer", "infer:another")
    bound = AccessSnapshot("two", lobby.snapshot.keys, (), {"tenant-infer": Quotas(requests_per_s=0.5)})
    lobby.gate.renew(PollAnswer(bound))
    lobby.admit("infer")
    with pytest.raises(OverQuota):
        lobby.admit("infer")
    lobby.gate.renew(PollAnswer(AccessSnapshot("three", {}, (), {})))
    with pytest.raises(Unauthenticated):
        lobby.admit("infer")


def test_digests_are_compared_in_constant_time_also_for_ids_that_nobody_has(lobby: Lobby, monkeypatch):
    compared: list[tuple[int, int]] = []
    really = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return really(one, other)

    monkeypatch.setattr(gate_module.hmac, "compare_digest", compare)
    good = lobby.keys["infer"]
    for text in (good, good[:-1] + ("0" if good[-1] != "0" else "1"), new_key()[1]):
        try:
            lobby.gate.admit(text, "infer:minilm")
        except Unauthenticated:
            continue
    assert compared == [(32, 32)] * 3


def test_every_decision_is_counted_for_the_audit_log_with_ids_and_without_keys(lobby: Lobby):
    for _ in range(3):
        lobby.admit("infer")
    with pytest.raises(Forbidden):
        lobby.admit("reader")
    with pytest.raises(Unauthenticated):
        lobby.gate.admit("Bearer sesame", "infer:minilm")
    poll = lobby.gate.poll("minilm@1")
    told = {(decision.who, decision.tenant, decision.allowed): count for decision, count in poll.decisions}
    assert told == {
        (lobby.keys["infer"][3:15], "tenant-infer", True): 3,
        (lobby.keys["reader"][3:15], "tenant-reader", False): 1,
        ("", "", False): 1,
    }
    assert all(decision.route == "POST infer" or not decision.who for decision, _ in poll.decisions)
    for text in (repr(poll), repr(lobby.snapshot), repr(pickle.dumps(poll))):
        assert not any(key[16:] in text or "sesame" in text for key in lobby.keys.values())
    assert lobby.gate.poll("minilm@1").decisions == ()
    lobby.gate.keep(poll)
    assert lobby.gate.poll("minilm@1").decisions == poll.decisions


def test_who_tries_many_keys_fills_no_memory(lobby: Lobby):
    for _ in range(3000):
        with pytest.raises(Unauthenticated):
            lobby.gate.admit(new_key()[1], "infer:minilm")
    decisions = lobby.gate.poll("x").decisions
    assert len(decisions) <= 1001
    assert sum(count for _, count in decisions) == 3000


def test_no_key_is_logged(lobby: Lobby, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    lobby.admit("infer")
    with pytest.raises(Unauthenticated):
        lobby.gate.admit(new_key()[1], "infer:minilm")
    assert "jk_" not in caplog.text


def test_open_serves_this_machine_alone_once_it_is_certain():
    gate = Gate.open("default")
    with pytest.raises(Forbidden, match="not known yet who can reach"):
        gate.admit(None, "admin", peer="127.0.0.1")
    gate.unbar()
    caller = gate.admit(None, "admin", peer="127.0.0.1")
    assert caller == Caller("default", "", True)
    for peer in ("", "::1", "127.0.0.2", "ipv4:127.0.0.1:40000", "ipv6:[::1]:40000", "ipv6:%5B::1%5D:4", "unix:/x"):
        assert gate.admit(None, "infer:x", peer=peer) is caller
    assert gate.admit(None, "infer:x", peer="ipv6:[::ffff:127.0.0.1]:9") is caller
    for peer in ("10.0.0.7", "ipv4:192.0.2.2:40000", "ipv6:[fd00::2]:40000", "::ffff:10.0.0.7", "example.org", "ipv4:"):
        with pytest.raises(Forbidden, match="JOULEKEEPER_ACCESS=required"):
            gate.admit(None, "infer:x", peer=peer)
    gate.bar("Serve listens on 0.0.0.0")
    with pytest.raises(Forbidden, match="listens on"):
        gate.admit(None, "infer:x", peer="127.0.0.1")


def test_over_quota_says_when_to_come_again_and_hurries_the_next_lease():
    lobby = Lobby({"tenant-infer": Quotas(requests_per_s=2)}).begin()
    for _ in range(4):  # a lease is two seconds' worth
        lobby.admit("infer")
    with pytest.raises(OverQuota, match="used up its 2 requests a second") as caught:
        lobby.admit("infer")
    assert 0 < caught.value.retry_after_s <= 1
    assert lobby.hurries == 1
    lobby.gate.admit(lobby.keys["infer"], "infer:minilm", requests=0)
    assert lobby.admit("root").tenant == "tenant-root"


def test_credentials_come_by_either_header_and_api_keys_first():
    assert credential([("accept", "*/*")]) is None
    assert credential([(b"authorization", b"Bearer a")]) == "Bearer a"
    assert credential([(b"x-api-key", b"b"), (b"authorization", b"Bearer a")]) == "b"
    assert credential([("authorization", "Bearer a"), ("x-api-key", b"b")]) == "b"


def test_admission_costs_microseconds():
    lobby = Lobby({"tenant-infer": Quotas(requests_per_s=1e9, joules_per_day=1e9)}).begin()
    opened = Gate.open("default")
    opened.unbar()
    key = f"Bearer {lobby.keys['infer']}"

    def best_us(call) -> float:
        times = []
        for _ in range(20):
            began = time.perf_counter_ns()
            for _ in range(200):
                call()
            times.append((time.perf_counter_ns() - began) / 200_000)
        return min(times)

    # Bounds are twice those of the design: this machine is shared while tests run.
    assert best_us(lambda: opened.admit(None, "infer:minilm", peer="127.0.0.1")) < 10
    assert best_us(lambda: lobby.gate.admit(key, "infer:minilm", route="POST infer")) < 30
