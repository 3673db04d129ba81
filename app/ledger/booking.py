"""Booking: what a group of batches adds to the tables of the store, summed in memory and written once.

Plain tuples stand for accounts here: a cluster of a thousand nodes makes some ten thousand postings a second. Ids of
what was booked before are remembered. Called inside a writing transaction; knows nothing of how long batches are kept.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from sqlalchemy import func, select, tuple_
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.domain.account import AccountName
from app.domain.reading import Grade
from app.errors import BooksDamaged
from app.ledger.batch import Batch
from app.ledger.database import Database
from app.ledger.reader import START, Position, Reader
from app.ledger.ring import node_tag
from app.ledger.schema import ACCOUNT_LABELS, accounts, balances, batches, devices, job_parts, lines, seals, spans
from app.units import NS_PER_S

BUCKET_S = 60
"""Width of the finest balance, seconds, unless a store was told another."""

Labels = tuple[Any, ...]
LineKey = tuple[str, Labels, str]
"""Device, account labels, grade."""

_labels = itemgetter(*ACCOUNT_LABELS)
_WATCHED_NS = 60 * NS_PER_S
"""Readings further apart than this in one batch were not taken by one meter."""
_MAX_REMEMBERED = 200_000
_LARGEST = 2**62
_AT_ONCE = 1_000
_NAMES = frozenset(name.value for name in AccountName)
_GRADES = frozenset(grade.value for grade in Grade)


class Sums:
    """What some batches come to."""

    def __init__(self, grade_of: Callable[[str], str], bucket_s: int = BUCKET_S) -> None:
        """`grade_of`: of devices that an earlier batch described."""
        self._grade_of, self._bucket_s = grade_of, bucket_s
        self.buckets: dict[int, dict[LineKey, list[int]]] = {}
        """Energy and uncertainty by bucket and line."""
        self.spans: dict[tuple[str, str], list[int]] = {}
        """First and last instant by device and meter."""
        self.parts: dict[tuple[Labels, int, int], list[int]] = {}
        """Energy and time by job account, worker and part."""
        self.devices: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        """Description of each device, and the body that has it."""

    def take(self, batch: Batch) -> None:
        """Add a batch. Raises BooksDamaged if it makes no sense."""
        with named(batch):
            self._take(batch)

    def _take(self, batch: Batch) -> None:
        body = batch.body
        own = {}
        for device in body["devices"]:
            key = device["key"]
            own[key] = device["grade"]
            if key not in self.devices:
                self.devices[key] = (device, body)
            self._extend(key, batch.meter, device["raw"][0][0], device["raw"][-1][0])
        sums = self.buckets.setdefault(_used_ns(body) // NS_PER_S // self._bucket_s * self._bucket_s, {})
        for posting in body["postings"]:
            device_key = posting["device"]
            # Batches of version 0.1 have no grades of their own.
            grade = posting.get("grade") or own.get(device_key) or self._grade_of(device_key)
            labels = _labels(posting["account"])
            if labels[0] not in _NAMES or grade not in _GRADES:
                raise ValueError(f"there is no account {labels[0]!r} or no grade {grade!r}")
            line = (device_key, labels, grade)
            found = sums.get(line)
            if found is None:
                found = sums[line] = [0, 0]
            energy_uj, uncertainty_uj = posting["energy_uj"], posting["uncertainty_uj"]
            if not (_is_figure(energy_uj) and _is_figure(uncertainty_uj)):
                raise ValueError(f"a figure must be an integer below 2**62, got {energy_uj!r} +- {uncertainty_uj!r}")
            found[0] += energy_uj
            found[1] += uncertainty_uj
        for part in body.get("parts", ()):
            sum_of_part = self.parts.setdefault((_labels(part["account"]), part["worker"], part["part"]), [0, 0])
            sum_of_part[0] += part["energy_uj"]
            sum_of_part[1] += part["time_ns"]

    def _extend(self, device: str, meter: str, first_ns: int, last_ns: int) -> None:
        span = self.spans.get((device, meter))
        if span is None:
            self.spans[device, meter] = [first_ns, last_ns]
        else:
            span[0], span[1] = min(span[0], first_ns), max(span[1], last_ns)


def _used_ns(body: Mapping[str, Any]) -> int:
    """Wall time at which a batch's energy was used, seconds before it was booked: the middle of its readings.

    A first reading may be hours old, from before a meter came; what was used while it was there counts then.
    """
    offset_ns = body.get("wall_minus_monotonic_ns")
    devices = [device["raw"] for device in body["devices"] if device["raw"]]
    if offset_ns is None or not devices:
        return int(body["wall_ns"])
    first_ns, last_ns = min(raw[0][0] for raw in devices), max(raw[-1][0] for raw in devices)
    return int(last_ns - min(last_ns - first_ns, _WATCHED_NS) // 2 + offset_ns)


class Booker:
    """Writes sums into the tables. Not thread-safe: one writing transaction at a time owns it."""

    def __init__(self, database: Database, bucket_s: int = BUCKET_S) -> None:
        self._database, self._bucket_s = database, bucket_s
        self._accounts: dict[Labels, int] = {}
        self._lines: dict[LineKey, int] = {}
        self._spans: dict[tuple[str, str], int] = {}
        self._grades: dict[str, str] = {}
        self._sealed: tuple[int | None, dict[str, Position]] = (None, {})

    def forget(self) -> None:
        """What was looked up in a transaction that is undone may not be there."""
        for memory in (self._accounts, self._lines, self._spans, self._grades):
            memory.clear()
        self._sealed = (None, {})

    def insert(self, connection: Connection, found: Mapping[tuple[Any, ...], Batch]) -> list[Batch]:
        """Store the batches that are new, and return them. Raises BooksDamaged where another stands in one's place."""
        sealed = self._learn_sealed(connection)
        found = {name: batch for name, batch in found.items() if batch.position > sealed.get(batch.meter, START)}
        columns = (batches.c.meter, batches.c.epoch, batches.c.sequence)
        statement = self._database.insert(batches).on_conflict_do_nothing().returning(*columns)
        rows = [_batch_row(batch) for batch in found.values()]
        new = {tuple(row) for row in connection.execute(statement, rows)} if rows else set()
        known = [name for name in found if name not in new]
        for some in _pieces(known):
            query = select(*columns, batches.c.digest).where(tuple_(*columns).in_(some))
            for *name, digest in connection.execute(query):
                require_same(found[tuple(name)], digest)
        return [batch for name, batch in found.items() if name in new]

    def _learn_sealed(self, connection: Connection) -> dict[str, Position]:
        """Up to where each meter's batches were proven, sealed and dropped: those are not new."""
        newest = connection.execute(select(func.max(seals.c.id))).scalar()
        if newest != self._sealed[0]:
            self._sealed = (newest, Reader(connection).sealed())
        return self._sealed[1]

    def add(self, connection: Connection, new: Sequence[Batch]) -> None:
        """Add batches that were not there before to all that is derived from them."""
        if len(self._lines) > _MAX_REMEMBERED:
            self.forget()
        sums = Sums(partial(self._grade_of, connection), self._bucket_s)
        for batch in new:
            sums.take(batch)
        self._add_devices(connection, sums.devices)
        self._add_balances(connection, sums.buckets)
        self._add_spans(connection, sums.spans)
        self._add_parts(connection, sums.parts)

    def _grade_of(self, connection: Connection, device: str) -> str:
        """Grade of a device that was described by an earlier batch. Raises KeyError where none did."""
        if device not in self._grades:
            query = select(devices.c.grade).where(devices.c.key == device)
            grade = connection.execute(query).scalar()
            if grade is None:
                raise KeyError(f"no batch describes device {device}")
            self._grades[device] = grade
        return self._grades[device]

    def _add_devices(
        self, connection: Connection, found: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
    ) -> None:
        new = [_device_row(*described) for key, described in sorted(found.items()) if key not in self._grades]
        if new:
            connection.execute(self._database.insert(devices).on_conflict_do_nothing(), new)
            self._grades.update((row["key"], row["grade"]) for row in new)

    def _add_balances(self, connection: Connection, buckets: Mapping[int, Mapping[LineKey, list[int]]]) -> None:
        totals: dict[LineKey, list[int]] = {}
        for sums in buckets.values():
            for key, (energy_uj, uncertainty_uj) in sums.items():
                total = totals.setdefault(key, [0, 0])
                total[0] += energy_uj
                total[1] += uncertainty_uj
        if not totals:
            return
        self._learn_lines(connection, totals)
        ids = self._lines
        sums_up = {"energy_uj": "{old} + {new}", "uncertainty_uj": "{old} + {new}"}
        # In the order of the table, which is the order in which its pages are touched.
        rows = sorted((ids[key], energy_uj, uncertainty_uj) for key, (energy_uj, uncertainty_uj) in totals.items())
        self._database.change(connection, lines, sums_up, rows)
        added = sorted(
            (self._bucket_s, bucket_s, ids[key], energy_uj, uncertainty_uj)
            for bucket_s, sums in buckets.items()
            for key, (energy_uj, uncertainty_uj) in sums.items()
        )
        self._database.add(connection, balances, added)

    def _learn_lines(self, connection: Connection, wanted: Iterable[LineKey]) -> None:
        unknown = [key for key in wanted if key not in self._lines]
        if not unknown:
            return
        self._learn_accounts(connection, {labels for _, labels, _ in unknown})
        rows = [
            {"device": device, "account": self._accounts[labels], "grade": grade, "energy_uj": 0, "uncertainty_uj": 0}
            for device, labels, grade in unknown
        ]
        connection.execute(self._database.insert(lines).on_conflict_do_nothing(), rows)
        columns = lines.c
        ids = {}
        for some in _pieces(sorted({device for device, _, _ in unknown})):
            query = select(columns.device, columns.account, columns.grade, columns.id)
            for *key, number in connection.execute(query.where(columns.device.in_(some))):
                ids[tuple(key)] = number
        for device, labels, grade in unknown:
            self._lines[device, labels, grade] = ids[device, self._accounts[labels], grade]

    def _learn_accounts(self, connection: Connection, wanted: Iterable[Labels]) -> None:
        unknown = sorted((labels for labels in wanted if labels not in self._accounts), key=repr)
        if not unknown:
            return
        rows = [dict(zip(ACCOUNT_LABELS, labels, strict=True)) for labels in unknown]
        connection.execute(self._database.insert(accounts).on_conflict_do_nothing(), rows)
        columns = [accounts.c[name] for name in ACCOUNT_LABELS]
        for some in _pieces(unknown):
            query = select(*columns, accounts.c.id).where(tuple_(*columns).in_(some))
            self._accounts.update({tuple(labels): number for *labels, number in connection.execute(query)})

    def _add_spans(self, connection: Connection, found: Mapping[tuple[str, str], list[int]]) -> None:
        unknown = [key for key in found if key not in self._spans]
        if unknown:
            rows = [
                {
                    "device": device,
                    "meter": meter,
                    "first_ns": found[device, meter][0],
                    "last_ns": found[device, meter][1],
                }
                for device, meter in sorted(unknown)
            ]
            connection.execute(self._database.insert(spans).on_conflict_do_nothing(), rows)
            for some in _pieces(unknown):
                query = select(spans.c.device, spans.c.meter, spans.c.id)
                query = query.where(tuple_(spans.c.device, spans.c.meter).in_(some))
                self._spans.update({(device, meter): number for device, meter, number in connection.execute(query)})
        lesser, greater = ("least", "greatest") if self._database.is_postgresql else ("min", "max")
        changes = {"first_ns": lesser + "({old}, {new})", "last_ns": greater + "({old}, {new})"}
        extents = sorted((self._spans[key], first_ns, last_ns) for key, (first_ns, last_ns) in found.items())
        self._database.change(connection, spans, changes, extents)

    def _add_parts(self, connection: Connection, found: Mapping[tuple[Labels, int, int], list[int]]) -> None:
        if not found:
            return
        self._learn_accounts(connection, {labels for labels, _, _ in found})
        rows = [(self._accounts[labels], worker, part, *figures) for (labels, worker, part), figures in found.items()]
        self._database.add(connection, job_parts, sorted(rows))


@contextlib.contextmanager
def named(batch: Batch) -> Iterator[None]:
    """Whatever goes wrong with the contents of `batch` becomes BooksDamaged with its name."""
    try:
        yield
    except SQLAlchemyError:
        raise
    except Exception as error:
        where = f"meter {batch.meter}, batch {batch.epoch}.{batch.sequence}"
        raise BooksDamaged(f"{where}: cannot be booked, {type(error).__name__}: {error}") from error


def require_same(batch: Batch, digest: str) -> None:
    """Raises BooksDamaged unless `digest`, of the batch that the store has under this name, is the batch's own."""
    if digest != batch.digest:
        raise BooksDamaged(
            f"meter {batch.meter}, batch {batch.epoch}.{batch.sequence}: the store holds another one, digest "
            f"{digest[:12]}, got {batch.digest[:12]}; a meter whose journal was lost must begin under a new name"
        )


def _pieces(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Parts that fit into one statement: databases bound the number of its values."""
    for begin in range(0, len(items), _AT_ONCE):
        yield items[begin : begin + _AT_ONCE]


def _batch_row(batch: Batch) -> dict[str, Any]:
    with named(batch):
        wall_ns = int(batch.body["wall_ns"])
    return {
        "meter": batch.meter,
        "epoch": batch.epoch,
        "sequence": batch.sequence,
        "previous": batch.previous,
        "digest": batch.digest,
        "wall_ns": wall_ns,
        "body": batch.packed,
    }


def _device_row(device: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, str]:
    row = {name: device[name] for name in ("key", "kind", "name", "grade")}
    return row | {"node": body["node"], "tag": node_tag(body["machine"], body["boot"])}


def _is_figure(value: Any) -> bool:
    """Whether a database can add it up."""
    return value.__class__ is int and -_LARGEST < value < _LARGEST
