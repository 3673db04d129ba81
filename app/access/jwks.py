"""The key sets of the issuers, fetched from where the rules say and kept while their source is silent.

Fetching is an argument, so that tests need no network; times come in as arguments. Not thread-safe.

    shelf = KeySetShelf(fetch)
    shelf.refresh(rules.issuers, unknown_key_ids, now_s)     # may take seconds: call it from a thread of its own
    issuers, warnings = shelf.issuers(rules.issuers, now_s), shelf.warnings
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.access.rules import IssuerRules
from app.access.snapshot import IssuerKeys
from app.errors import InvalidInput, JoulekeeperError, Unavailable

Fetch = Callable[[str], bytes]
"""The bytes behind a URL or of a file. Raises Unavailable."""

_HURRIED_S = 5.0
"""A key id that nobody knows has a key set fetched, but not more often than this: anybody can name one."""
_MAX_KEYS = 64
_MAX_BYTES = 1024 * 1024
_TIMEOUT_S = 5.0


@dataclass(slots=True)
class _Kept:
    keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fetched_s: float = float("-inf")
    tried_s: float = float("-inf")


class KeySetShelf:
    """By the place that they come from."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._kept: dict[str, _Kept] = {}
        self._faults: dict[str, str] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at, a sentence each."""
        return tuple(self._faults.values())

    def refresh(self, issuers: Iterable[IssuerRules], is_hurried: bool, now_s: float) -> None:
        """Fetch what is old; `is_hurried`: a token named a key that is in none of them."""
        wanted = {rules.jwks: rules for rules in issuers}
        self._kept = {place: kept for place, kept in self._kept.items() if place in wanted}
        self._faults = {place: fault for place, fault in self._faults.items() if place in wanted}
        for place, rules in wanted.items():
            kept = self._kept.setdefault(place, _Kept())
            old = now_s - kept.fetched_s >= rules.refresh_s or is_hurried
            if old and now_s - kept.tried_s >= _HURRIED_S:
                kept.tried_s = now_s
                self._fetch_one(place, kept, now_s)

    def issuers(self, rules: Iterable[IssuerRules], now_s: float) -> tuple[IssuerKeys, ...]:
        """Each with the keys that are believed now: none when its set is too old, or was never had."""
        found = []
        for each in rules:
            kept = self._kept.get(each.jwks, _Kept())
            found.append(IssuerKeys(each, kept.keys if now_s - kept.fetched_s <= each.keep_s else {}))
        return tuple(found)

    def _fetch_one(self, place: str, kept: _Kept, now_s: float) -> None:
        try:
            kept.keys, kept.fetched_s = parse_key_set(self._fetch(place)), now_s
            self._faults.pop(place, None)
        except JoulekeeperError as error:
            self._faults[place] = f"the key set of {place} cannot be had, the last one is used meanwhile: {error}"


def parse_key_set(content: bytes) -> dict[str, Mapping[str, Any]]:
    """The public keys of a JWK set by their id; symmetric ones are left out. Raises InvalidInput."""
    try:
        keys = json.loads(content)["keys"]
        found = {str(key.get("kid", "")): key for key in keys[:_MAX_KEYS] if key.get("kty") != "oct"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"it is no JWK set ({type(error).__name__}); RFC 7517 says how one looks") from error
    return {
        key_id: {name: value for name, value in key.items() if name not in _SECRET} for key_id, key in found.items()
    }


_SECRET = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Members of a private key (RFC 7518, 6): a set that holds them was published by mistake; they go no further."""


def fetch(place: str) -> bytes:
    """Read a URL or a file. Raises Unavailable."""
    parts = urlsplit(place)
    if parts.scheme in ("", "file"):
        try:
            return Path(parts.path).read_bytes()[:_MAX_BYTES]
        except OSError as error:
            raise Unavailable(f"{error}") from error
    import httpx

    try:
        with httpx.stream("GET", place, timeout=_TIMEOUT_S, headers={"accept": "application/json"}) as response:
            response.raise_for_status()
            content = b""
            for part in response.iter_bytes():
                content += part
                if len(content) > _MAX_BYTES:
                    raise Unavailable(f"it has more than {_MAX_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error
    return content
