"""The driver of a preparation: a Ray Data pipeline from raw files to a data set that jobs learn from.

Three passes of `map_batches` over blocks that stay in Ray's object store, and between them plain tasks that match keys.
The manifest is written last: a run that fails or is stopped leaves files, but no data set. Metering that is down costs
figures, never the work.

    outcome = prepare(load_spec(Path("deployments/data/stdlib.yaml")))

Raises InvalidInput for data that cannot be prepared as the spec says, Unavailable where a storage does not answer.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import ray
from ray.exceptions import RayError

from app.clock import Clock, SystemClock
from app.config import settings
from app.data import passes
from app.data.listing import Piece, chunks, pieces_of
from app.data.matching import Pairs
from app.data.outcome import Gone, Outcome, energy_card, stage_rows
from app.data.passes import Work
from app.data.publishing import manifest_of, publish, standing
from app.data.spec import PrepareSpec
from app.data.stages import Meter, RemoteTally
from app.data.tally import Stage
from app.errors import InvalidInput, JoulekeeperError
from app.training.cluster import join_cluster, open_books
from app.training.job import run_name
from app.training.parquet_files import PreparedData, shown
from app.units import NS_PER_S

_FEWEST_PARTS, _MOST_PARTS = 2, 64
_NOTHING: Pairs = np.zeros((0, 2), dtype=np.int64)
Result = TypeVar("Result")


def prepare(
    spec: PrepareSpec, *, run: str = "", clock: Clock | None = None, tell: Callable[[str], None] = print
) -> Outcome:
    """Prepare data as `spec` says, on the cluster that this process has joined, or else joins or starts."""
    clock = clock or SystemClock()
    run = run or run_name(spec.name, clock.wall_ns())
    before = standing(spec, run)
    pieces = pieces_of(spec.source)
    join_cluster()
    books = open_books(tell)
    tell(f"{run}: {len(pieces)} files of {shown(spec.source.url)} to {shown(spec.write.url)}")
    started_ns = clock.monotonic_ns()
    work = Work(spec, run, Meter(spec.tenant, run, RemoteTally.remote()))
    done = _with_our_errors(lambda: _Pipeline(work).run(pieces, tell))
    manifest = manifest_of(spec, run, done.told)
    publish(spec, manifest, done.gone, before)
    seconds = (clock.monotonic_ns() - started_ns) / NS_PER_S
    return _outcome(work, pieces, done, manifest, seconds, _report(books))


def _outcome(
    work: Work, pieces: Sequence[Piece], done: "_Done", manifest: PreparedData, seconds: float, report: Any
) -> Outcome:
    counts = ray.get(work.meter.tally.sums.remote())
    read, valid = counts["read"].rows, counts["validate"].rows
    left: dict[Stage, int] = {"exact": valid - done.exact, "near": manifest.rows}
    return Outcome(
        name=work.spec.name,
        run=work.run,
        where=shown(work.spec.write.url),
        source_files=len(pieces),
        source_bytes=sum(piece.bytes for piece in pieces),
        read_rows=read,
        faulty=read - valid,
        exact=done.exact,
        near=done.near,
        rows=manifest.rows,
        content_bytes=sum(told["content_bytes"] for told in done.told),
        written_bytes=sum(file.bytes for file in manifest.files),
        written_files=len(manifest.files),
        seconds=seconds,
        stages=stage_rows(counts, left, report, work.run),
        energy=energy_card(report, work.run),
        digest=manifest.digest,
    )


class _Done:
    """What the pipeline found and wrote."""

    def __init__(self, told: Sequence[dict[str, Any]], exact: Pairs, near: Pairs) -> None:
        self.told, self.exact, self.near = told, len(exact), len(near)
        names = {row: name for each in told for name, row in (*each["kept"], *each["gone"])}
        faulty = [Gone(name, fault) for each in told for name, fault in each["faulty"]]
        pairs = [("exact", exact), ("near", near)]
        same = [Gone(names[row], why, names[of]) for why, found in pairs for row, of in found.tolist()]
        self.gone = [*faulty, *same]


class _Pipeline:
    """The passes and the matching of one run."""

    def __init__(self, work: Work) -> None:
        self._work, self._spec = work, work.spec
        self._options = {"num_cpus": work.spec.cpu}
        self._tasks: dict[Callable[..., Any], Any] = {}

    def run(self, pieces: Sequence[Piece], tell: Callable[[str], None]) -> _Done:
        """All passes. Raises InvalidInput where too many records are faulty or none stays."""
        tables = [
            passes.chunk_table(number, chunk)
            for number, chunk in enumerate(chunks(pieces, self._spec.chunk_mb * 1_000_000))
        ]
        records = self._mapped(_quiet_data().from_arrow(tables), passes.read_clean_validate).materialize()
        blocks = records.to_arrow_refs()
        self._refuse_faulty(blocks)
        exact = self._exact(blocks) if self._spec.deduplicate.exact else _NOTHING
        tell(f"{len(exact)} records equal an earlier one")
        near = self._near(records, blocks, exact) if self._spec.deduplicate.near else _NOTHING
        if self._spec.deduplicate.near:
            tell(f"{len(near)} records are similar to an earlier one")
        found = np.concatenate([exact, near])
        final = self._mapped(records, passes.write, gone=found[:, 0], kept=np.unique(found[:, 1]))
        return _Done([json.loads(row["told"]) for row in final.take_all()], exact, near)

    def _mapped(self, data: Any, function: Callable[..., Any], **given: Any) -> Any:
        return data.map_batches(
            function, fn_kwargs={"work": self._work, **given}, batch_size=None, batch_format="pyarrow", **self._options
        )

    def _remote(self, function: Callable[..., Any], *given: Any, returns: int = 1) -> Any:
        """References to what a task of `function` will return."""
        if function not in self._tasks:
            self._tasks[function] = ray.remote(**self._options)(function)
        return self._tasks[function].options(num_returns=returns).remote(*given)

    def _refuse_faulty(self, blocks: Sequence[Any]) -> None:
        counts = ray.get([self._remote(_count_faults, block) for block in blocks])
        rows, faulty = (sum(values) for values in zip(*((each[0], each[1]) for each in counts), strict=True))
        most = self._spec.checks.max_faulty_share
        if faulty > most * rows or faulty == rows:
            shown_faults = "; ".join([text for each in counts for text in each[2]][:3])
            raise InvalidInput(
                f"{faulty} of {rows} records are faulty, more than checks.max_faulty_share={most:g}: {shown_faults}; "
                "mend the data, or what `checks` asks of them"
            )

    def _exact(self, blocks: Sequence[Any]) -> Pairs:
        pairs = self._pairs(blocks, passes.DIGEST, "exact")
        found: Pairs = ray.get(self._remote(passes.exact_ones, self._work, *pairs))
        return found

    def _near(self, records: Any, blocks: Sequence[Any], exact: Pairs) -> Pairs:
        sketches = self._mapped(records, passes.sketch, gone=exact[:, 0]).materialize().to_arrow_refs()
        pairs = np.unique(np.concatenate(ray.get(self._pairs(sketches, passes.BANDS, "near"))), axis=0)
        wanted = ray.put(np.unique(pairs))
        runs = [self._remote(passes.runs_of, block, wanted, self._work) for block in blocks]
        found: Pairs = ray.get(self._remote(passes.near_ones, self._work, pairs, *runs))
        return found

    def _pairs(self, blocks: Sequence[Any], column: str, stage: Stage) -> list[Any]:
        """References to pairs of records with an equal key."""
        parts = max(_FEWEST_PARTS, min(_MOST_PARTS, len(blocks)))
        dealt = [
            self._remote(passes.deal_keys, block, column, parts, self._work, stage, returns=parts) for block in blocks
        ]
        return [
            self._remote(passes.match_keys, self._work, stage, part, *entries)
            for part, entries in enumerate(zip(*dealt, strict=True))
        ]


def _count_faults(block: Any) -> tuple[int, int, list[str]]:
    faults = block["fault"].drop_null()
    named = zip(block["name"].to_pylist(), block["fault"].to_pylist(), strict=True)
    return block.num_rows, len(faults), [f"{name}: {fault}" for name, fault in named if fault][:3]


def _quiet_data() -> Any:
    """ray.data without bars and log lines; what a task raises is told by whoever called."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray.data


def _report(books: Any) -> Any:
    """The ledger's report by job, once the meters had time to settle and to deliver; None without books."""
    if books is None:
        return None
    time.sleep(settings().settle_lag_s + 2 * settings().flush_s + 0.5)
    try:
        return books.report(by="job")
    except JoulekeeperError:
        return None


def _with_our_errors(call: Callable[[], Result]) -> Result:
    """What a task raised of ours, as it was raised there: Ray makes it an error with a traceback for its text."""
    try:
        return call()
    except (JoulekeeperError, RayError) as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, JoulekeeperError):
            raise cause from error
        raise
