"""The feed of a gate: what it tells and asks, an accountant that is away, and where an open gate stays shut."""

import pytest

from app.access.gate import Gate
from app.access.keys import digest_of_key, new_key
from app.access.snapshot import AccessSnapshot, KeyGrant, Poll, PollAnswer
from app.errors import Forbidden, Unauthenticated, Unavailable
from app.metering.access_feed import AccessFeed, _judge_exposure, is_loopback_host


class Accountant:
    def __init__(self) -> None:
        self.polls: list[Poll] = []
        self.answer: PollAnswer | None = PollAnswer()

    def ask(self, poll: Poll) -> PollAnswer:
        self.polls.append(poll)
        if self.answer is None:
            raise Unavailable("away")
        return self.answer


def test_a_gate_follows_the_accountant_and_outlives_its_silence():
    accountant = Accountant()
    feed = AccessFeed("minilm@1 on n1", accountant.ask)
    key_id, key = new_key()
    assert feed.step() < 1  # it has only begun itself: nothing is known yet
    with pytest.raises(Unavailable):
        feed.gate.admit(key, "admin")
    grants = {key_id: KeyGrant(digest_of_key(key), "acme", frozenset({"admin"}), 1e12)}
    accountant.answer = PollAnswer(AccessSnapshot("one", grants))
    assert feed.step() == 2
    feed.gate.admit(key, "admin")
    accountant.answer = None
    feed.step()
    feed.gate.admit(key, "admin")
    accountant.answer = PollAnswer()
    feed.step()
    counts = [sum(count for _, count in poll.decisions) for poll in accountant.polls]
    assert counts == [0, 1, 1, 2]  # what a lost poll told is told again
    assert accountant.polls[-1].version == "one"
    with pytest.raises(Unauthenticated):
        feed.gate.admit(None, "admin")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org", "None"])
def test_an_open_gate_stays_shut_where_others_could_come_in(host: str):
    gate = Gate.open("default")
    _judge_exposure(gate, lambda: host)
    with pytest.raises(Forbidden, match="JOULEKEEPER_ACCESS=required"):
        gate.admit(None, "infer:m", peer="127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.0.0.2", "localhost"])
def test_an_open_gate_opens_where_serve_listens_on_loopback(host: str):
    assert is_loopback_host(host)
    gate = Gate.open("default")
    _judge_exposure(gate, lambda: host)
    assert gate.admit(None, "infer:m", peer="127.0.0.1").tenant == "default"
