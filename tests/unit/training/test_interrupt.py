"""A call that signals reach: it is asked to end, and gives what it gives."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from app.training.interrupt import interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_the_call_to_end_and_its_result_comes_all_the_same(number: signal.Signals) -> None:
    asked = threading.Event()
    names: list[str] = []
    before = signal.getsignal(number)

    def call() -> str:
        os.kill(os.getpid(), number)
        assert asked.wait(10)
        return "done"

    def ask(name: str) -> None:
        names.append(name)
        asked.set()

    assert interruptible(call, ask) == "done"
    assert names == [number.name]
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, asked = threading.Event(), threading.Event()

    def call() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        let_go.wait(10)

    with pytest.raises(KeyboardInterrupt):
        interruptible(call, lambda _: asked.set())
    let_go.set()


def test_what_the_call_raises_is_raised() -> None:
    def call() -> None:
        raise ValueError("of the call")

    with pytest.raises(ValueError, match="of the call"):
        interruptible(call, lambda _: None)


def test_beside_the_main_thread_the_call_is_made_as_it_is() -> None:
    found: list[threading.Thread] = []
    call: Callable[[], None] = lambda: found.append(threading.current_thread())  # noqa: E731
    thread = threading.Thread(target=lambda: interruptible(call, lambda _: None))
    thread.start()
    thread.join(10)
    assert found == [thread]
