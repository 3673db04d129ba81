"""A served model's settings found out, changed and put back: Serve's config, a replica's findings, the books.

Advice is made in optimize_model.py, records are kept in applied.py. Asks the cluster, and waits for its answer.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.cli import cluster, deploy
from app.cli.applied import LIFE, UNITS, expected, keep_applied, keep_outcome, keep_undone, last_applied
from app.cli.config_patch import inverse, is_in_force, patched
from app.cli.optimize_model import Known, Objectives, advise_model, known_of
from app.cli.optimize_wish import OptimizeView, Wish, chosen_of
from app.cli.serve_api import ServeApi
from app.cli.serve_config import ConfigFile, merge
from app.cli.zone_advice import ZoneWish, advise_place
from app.clock import Clock, SystemClock
from app.errors import InvalidInput, JoulekeeperError, NotFound
from app.policy.shifting import fixed_run
from app.units import NS_PER_S, UJ_PER_J

if TYPE_CHECKING:
    from pathlib import Path

    from app.domain.decision import Saving
    from app.engine.views import Report
    from app.policy.advice import Advice
    from app.serving.findings import Findings

_DAY_S = 86_400.0
_ANSWER_S = 10.0
_ENOUGH_ASKED, _ALIKE = 20, 0.5
"""Answers after a change before what came of it is told, and the share of the answers and of the time before it."""


def optimize_model(name: str, wish: Wish) -> OptimizeView:
    """Advice on the application `name`, applied where that is wished for. Raises JoulekeeperError."""
    from app.config import settings
    from app.engine.decision_files import directory_of
    from app.models.repository import open_repository

    api, clock = deploy.connect(wish.address), SystemClock()
    known = _known(api.details(), name, wish, clock)
    wanted = Objectives(wish.p95_ms, wish.gap_p90_ms, wish.first_token_p95_ms, wish.floor)
    advices = [*advise_model(known, wanted, open_repository(settings().repository)), _zone(known, wish, clock)]
    directory, now_s = directory_of(settings().state_dir, name), _now_s(clock)
    outcome = _outcome(directory, known, now_s)
    chosen = chosen_of(advices, wish.only)
    number = None
    if wish.apply and chosen:
        change = _changes(chosen)
        before = inverse(known.config, change)
        _submit(api, name, patched(known.config, change))
        number = keep_applied(
            directory, name, now_s, chosen, {"change": before}, {"change": change}, known.parts(), known.facts()
        )
    return OptimizeView(
        subject=name,
        advice=tuple(advices),
        applied=number,
        expected=expected(chosen, known.parts()) if chosen else None,
        outcome=outcome,
    )


def _outcome(directory: "Path", known: Known, now_s: float) -> "Saving | None":
    """What came of the last change, once its replica has lived and answered about as much as the one before it."""
    found, last = known.findings, last_applied(directory)
    if last is None or found is None or found.uj_per_answer is None or found.born_s <= last.choice.at_s:
        return None
    lived = found.seen_s - found.born_s >= _ALIKE * (last.figure(LIFE) or 0.0)
    if not lived or found.asked < max(_ENOUGH_ASKED, _ALIKE * (last.figure(UNITS) or 0.0)):
        return None
    return keep_outcome(directory, last, now_s, found.uj_per_answer / UJ_PER_J, "an answer")


def undo_model(name: str, wish: Wish) -> str:
    """Take back what was applied last; a sentence on it. Raises NotFound where nothing was, InvalidInput."""
    from app.config import settings
    from app.engine.decision_files import directory_of

    directory = directory_of(settings().state_dir, name)
    last = last_applied(directory)
    if last is None:
        raise NotFound(f"nothing that was applied to {name!r} is left to be taken back; `joulekeeper why {name}`")
    api = deploy.connect(wish.address)
    config, _, _ = known_of(api.details(), name)
    after, before = last.choice.after.get("change"), last.choice.before.get("change")
    if not isinstance(after, Mapping) or not isinstance(before, Mapping) or not is_in_force(config, after):
        raise InvalidInput(
            f"{name!r} was deployed anew since record {last.number}: what that changed is not in force any more, and "
            "nothing is taken back"
        )
    _submit(api, name, patched(config, before))
    keep_undone(directory, last, _now_s(SystemClock()))
    return f"{name} is as it was before record {last.number}: {last.choice.chosen} is taken back"


def _known(details: Mapping[str, Any], name: str, wish: Wish, clock: Clock) -> Known:
    config, deployment, running = known_of(details, name)
    found, where = _findings(name, config, running)
    return Known(name, config, deployment.get("autoscaling_config"), found, where, _report(wish, clock))


def _findings(name: str, config: Mapping[str, Any], running: int) -> "tuple[Findings | None, str]":
    """Of a replica that runs, else what the last one left on this host."""
    from app.config import settings
    from app.serving.findings import kept_findings

    if running:
        try:
            where = "its replica" if running == 1 else f"one of its {running} replicas"
            return _asked(name), where
        except JoulekeeperError:
            pass  # it went to sleep meanwhile, or is of an older release
    args = config.get("args") or {}
    kept = kept_findings(settings().state_dir, str(args.get("name")), _version(args))
    return kept, "its last replica on this host"


def _asked(name: str) -> "Findings":
    """Ask a replica. Raises JoulekeeperError."""
    cluster.connect()
    from ray import serve
    from ray.exceptions import RayError

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        found: Findings = serve.get_app_handle(name).findings.remote().result(timeout_s=_ANSWER_S)
        return found
    except (RayError, TimeoutError, AttributeError) as error:
        raise JoulekeeperError(f"a replica of {name} did not tell what it found: {error}") from error


def _version(args: Mapping[str, Any]) -> str:
    """Of what its config serves, as the repository resolves it now; `1` for what has no versions."""
    from app.config import settings
    from app.models.repository import open_repository

    kind, _, reference = str(args.get("source", "")).partition(":")
    if kind != "repository":
        return str(args.get("version") or "1")
    name, _, version = reference.partition("@")
    try:
        return open_repository(settings().repository).resolve(name, version or str(args.get("version") or ""))
    except JoulekeeperError:
        return version


def _report(wish: Wish, clock: Clock) -> "Report | None":
    """Of the books by model; None: they do not answer."""
    from app.console.period import local_now, parse_period

    since_s, until_s = parse_period(wish.since, None, local_now(clock))
    try:
        return cluster.books().report("model", since_s, until_s)
    except JoulekeeperError:
        return None


def _zone(known: Known, wish: Wish, clock: Clock) -> "Advice":
    """A day of it, at the mean power of its replica's life."""
    from app.config import settings

    zones, found = ZoneWish(settings().zone, wish.zones, wish.moved_gb), known.findings
    if found is None or found.seen_s <= found.born_s:
        return advise_place(None, zones, clock, "nothing is known of its power: let it serve with a meter running")
    power_w = (found.request_uj + found.load_uj + found.warm_uj) / UJ_PER_J / (found.seen_s - found.born_s)
    advice = advise_place(fixed_run(_DAY_S, power_w, _now_s(clock) + 3 * _DAY_S), zones, clock)
    moving = ("`joulekeeper deploy FILE --place` moves it",) if advice.moves else ()
    return advice.model_copy(update={"reasons": (*advice.reasons, *moving)})


def _changes(chosen: "Sequence[Advice]") -> dict[str, Any]:
    """All changes as one: those of different settings never touch the same key."""
    change: dict[str, Any] = {}
    for each in chosen:
        change = _joined(change, each.change)
    return change


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(one)
    for key, value in other.items():
        present = both.get(key)
        both[key] = _joined(present, value) if isinstance(present, Mapping) and isinstance(value, Mapping) else value
    return both


def _submit(api: ServeApi, name: str, config: Mapping[str, Any]) -> None:
    """Deploy one application anew, everything else kept."""
    api.submit(merge(api.details(), [ConfigFile(f"the changed config of {name}", {"applications": [config]})]).config)


def _now_s(clock: Clock) -> float:
    return clock.wall_ns() / NS_PER_S
