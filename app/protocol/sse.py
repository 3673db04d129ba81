"""Server-sent events as bytes: data-only events, comments, and the mark by which OpenAI's streams end.

Knows nothing of what the data are, nor of servers; bytes out, nothing in. The format is WHATWG's, "Server-sent events"
(https://html.spec.whatwg.org/multipage/server-sent-events.html, read 2026-11-22).

    yield event(orjson.dumps(chunk))
    yield comment("still here")          # ignored by clients; keeps proxies from closing a quiet connection
    yield DONE
"""

MEDIA_TYPE = "text/event-stream; charset=utf-8"

HEADERS = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
"""What keeps caches from storing a stream and proxies from holding it back."""

DONE = b"data: [DONE]\n\n"
"""The last event of a stream that is complete; one that failed ends without it."""


def event(data: bytes) -> bytes:
    """One event. `data` must hold no line end, as JSON from orjson never does."""
    return b"data: %b\n\n" % data


def comment(text: str) -> bytes:
    """A line that every client ignores. `text` must hold no line end."""
    return f": {text}\n\n".encode()
