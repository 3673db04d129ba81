"""What is wrong with a meter now, and since when: one sentence per kind of trouble. Pure; instants are Unix seconds.

troubles.begin("journal", "the node journal cannot be written: disk full", now_s)
troubles.end("journal")
troubles.sentences(now_s)
"""

import threading


class Troubles:
    """Thread-safe."""

    def __init__(self) -> None:
        self._now: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def begin(self, kind: str, sentence: str, now_s: float) -> bool:
        """It has begun, or goes on with another sentence. True: it is new."""
        with self._lock:
            known = self._now.get(kind)
            self._now[kind] = (known[0] if known else now_s, sentence)
            return known is None

    def end(self, kind: str) -> bool:
        """True if there was such trouble."""
        with self._lock:
            return self._now.pop(kind, None) is not None

    def sentences(self, now_s: float) -> tuple[str, ...]:
        """In the order in which they began."""
        with self._lock:
            return tuple(f"{sentence} (for {max(0, round(now_s - at_s))} s)" for at_s, sentence in self._now.values())
