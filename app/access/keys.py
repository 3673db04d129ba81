"""API keys: how they look, how one is told from a wrong one, and the file they are kept in.

A key is `jk_<id>_<secret>`: 6 random bytes that name it in lists and logs, 32 random bytes that only its holder has. At
rest there is the SHA-256 of the whole key and nothing else. A slow hash (argon2, bcrypt) is for passwords, which
people choose and others guess; 256 random bits cannot be guessed at any speed, and a slow hash would cost every request
more than the request. Knows nothing of servers; time comes in as an argument.

    file = KeyFile(path)
    record, key = file.create("acme", {"infer:minilm"}, now_s)      # the only time that `key` is seen
    file.revoke(record.id, now_s)
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.access.private_files import make_private_directory, open_private, replace_private
from app.access.scopes import checked_scopes, checked_tenant
from app.errors import InvalidInput, NotFound

PREFIX = "jk_"
_KEY = re.compile(r"jk_([0-9a-f]{12})_[0-9a-f]{64}")


class KeyRecord(BaseModel):
    """One key as the file holds it. Times are Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    tenant: str
    scopes: frozenset[str]
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    """SHA-256 of the whole key, hexadecimal."""
    created_s: float
    expires_s: float | None = None
    """None: never."""
    revoked_s: float | None = None
    """None: it is not. Revoked keys stay in the file, so that the audit log's ids mean something."""
    note: str = ""

    def is_good(self, now_s: float) -> bool:
        """Whether it opens anything now."""
        return self.revoked_s is None and (self.expires_s is None or now_s < self.expires_s)


_RECORDS = TypeAdapter(tuple[KeyRecord, ...])


def new_key() -> tuple[str, str]:
    """A key's id, and the key."""
    key_id = secrets.token_hex(6)
    return key_id, f"{PREFIX}{key_id}_{secrets.token_hex(32)}"


def id_of_key(key: str) -> str:
    """The id in a key; empty when it is not of the shape of one, whose text may be anything and is for nobody's log."""
    found = _KEY.fullmatch(key)
    return found[1] if found else ""


def digest_of_key(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


class KeyFile:
    """The keys of one cluster. The file is 0600 and replaced whole; writers wait for each other."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def records(self) -> tuple[KeyRecord, ...]:
        """All keys, oldest first; none without a file. Raises InvalidInput for a file that is not one of keys."""
        try:
            return _RECORDS.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise InvalidInput(f"{self._path} is no file of keys: {place}: {first['msg']}") from None

    def create(
        self, tenant: str, scopes: Iterable[str], now_s: float, expires_s: float | None = None, note: str = ""
    ) -> tuple[KeyRecord, str]:
        """Make a key: its record, and the key itself, which is kept nowhere. Raises InvalidInput."""
        checked_tenant(tenant)
        held = checked_scopes(scopes)
        if expires_s is not None and expires_s <= now_s:
            raise InvalidInput(f"a key must expire later than now, got {expires_s - now_s:.0f} s from now")
        key_id, key = new_key()
        record = KeyRecord(
            id=key_id,
            tenant=tenant,
            scopes=held,
            digest=digest_of_key(key).hex(),
            created_s=now_s,
            expires_s=expires_s,
            note=note,
        )
        self._change(lambda records: (*records, record))
        return record, key

    def revoke(self, key_id: str, now_s: float) -> KeyRecord:
        """Take a key back for ever; one that was revoked stays as it is. Raises NotFound."""

        def revoked(records: tuple[KeyRecord, ...]) -> tuple[KeyRecord, ...]:
            if all(record.id != key_id for record in records):
                raise NotFound(f"no key {key_id!r}; `joulekeeper keys list` shows the ids")
            return tuple(
                record.model_copy(update={"revoked_s": now_s})
                if record.id == key_id and record.revoked_s is None
                else record
                for record in records
            )

        return next(record for record in self._change(revoked) if record.id == key_id)

    def _change(self, change: Callable[[tuple[KeyRecord, ...]], tuple[KeyRecord, ...]]) -> tuple[KeyRecord, ...]:
        make_private_directory(self._path.parent)
        with self._locked():
            records = change(self.records())
            replace_private(self._path, _RECORDS.dump_json(records, indent=1))
        return records

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = open_private(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
