"""A long call that signals reach: the first asks it to end by itself, a second Ctrl-C ends the waiting.

Knows nothing of training. Ray Train's own handler of SIGINT ends all workers on the spot, and it, like any Python
handler, has to wait until a call into Ray's core returns; so the call runs in a thread of its own, where Ray installs
no handler, and the main thread listens.

    result = interruptible(trainer.fit, ask=lambda name: board.ask_to_stop(run, name))
"""

import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LISTEN_EVERY_S = 0.1
Result = TypeVar("Result")


def interruptible(call: Callable[[], Result], ask: Callable[[str], None]) -> Result:
    """What `call` gives or raises; meanwhile SIGINT and SIGTERM are passed to `ask` by name.

    A second SIGINT raises KeyboardInterrupt here, and the call goes on unattended until the process ends. In a thread
    other than the main one, which no signal reaches, `call` is made as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    outcome = _Outcome(call)
    interrupts = 0

    def heard(number: int, _: Any) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            raise KeyboardInterrupt
        ask(signal.Signals(number).name)

    before = {each: signal.signal(each, heard) for each in _SIGNALS}
    try:
        outcome.start()
        while outcome.is_alive():
            outcome.join(_LISTEN_EVERY_S)
    finally:
        for each, handler in before.items():
            # None: it was not Python's, and cannot be put back.
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
    return outcome.result()


class _Outcome(threading.Thread):
    """Makes a call and keeps what came of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(name="joulekeeper-interruptible", daemon=True)
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value
