"""`deploy`: Serve config files merged into what runs, then a wait until their applications answer.

Deciding what to submit is in serve_config.py, speaking to Serve in serve_api.py; here is the order of things
and what a person sees of it.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from app.cli import terminal
from app.cli.serve_api import DEFAULT_ADDRESS, AddressOption, RestServeApi, ServeApi
from app.cli.serve_config import ConfigFile, merge, read_config
from app.clock import Clock, SystemClock
from app.errors import Unavailable
from app.units import NS_PER_S

_POLL_S = 0.5
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class AppState:
    """How far one application is."""

    name: str
    status: str
    """As Serve spells it: NOT_STARTED, DEPLOYING, RUNNING, UNHEALTHY, DEPLOY_FAILED, DELETING."""
    message: str = ""
    running: int = 0
    target: int = 0
    """Replicas that answer, and that Serve wants. 0 of 0 is well: asleep until somebody asks."""

    @property
    def is_settled(self) -> bool:
        return self.status in ("RUNNING", "DEPLOY_FAILED")

    def __str__(self) -> str:
        if self.target:
            return f"{self.status} ({self.running}/{self.target} replicas)"
        return "RUNNING (asleep, wakes when asked)" if self.status == "RUNNING" else self.status


def app_states(details: Mapping[str, Any], names: Sequence[str]) -> tuple[AppState, ...]:
    """The named applications in Serve's instance details; one that is not there is NOT_STARTED."""
    applications = details.get("applications", {})
    return tuple(
        _state(name, applications[name]) if name in applications else AppState(name, "NOT_STARTED") for name in names
    )


def _state(name: str, application: Mapping[str, Any]) -> AppState:
    deployments = application.get("deployments", {}).values()
    replicas = [replica for deployment in deployments for replica in deployment.get("replicas", ())]
    messages = [application.get("message", ""), *(each.get("message", "") for each in deployments)]
    return AppState(
        name,
        application["status"],
        _ANSI.sub("", next(filter(None, messages), "")).strip(),
        sum(replica.get("state") == "RUNNING" for replica in replicas),
        sum(deployment.get("target_num_replicas") or 0 for deployment in deployments),
    )


class Watcher(Protocol):
    """Who is shown the progress."""

    def see(self, states: Sequence[AppState]) -> None:
        """Called after every look."""


class PlainWatcher:
    """A line for every change."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def see(self, states: Sequence[AppState]) -> None:
        for state in states:
            if self._last.get(state.name) != str(state):
                self._last[state.name] = str(state)
                typer.echo(f"{state.name}: {state}")


class RichWatcher:
    """A line for every application, redrawn in place."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def see(self, states: Sequence[AppState]) -> None:
        for state in states:
            if state.name not in self._tasks:
                self._tasks[state.name] = self._progress.add_task(escape(state.name), total=1, state="")
            done = 1 if state.is_settled else 0
            self._progress.update(self._tasks[state.name], completed=done, state=escape(str(state)))


def deploy(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Serve config files.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all are running.")] = True,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")] = 300.0,
    address: AddressOption = DEFAULT_ADDRESS,
    place: Annotated[bool, typer.Option("--place", help="Each model in the zone with least carbon.")] = False,
    within_ms: Annotated[float | None, typer.Option(min=0, help="With --place: zones no farther away.")] = None,
    place_hours: Annotated[float, typer.Option(min=1, help="With --place: hours that are looked ahead.")] = 24.0,
) -> None:
    """Deploy applications beside those that run: what the files do not name is kept."""
    configs = [read_config(path) for path in files]
    if place:
        configs = placed_configs(configs, within_ms, place_hours)
    api = connect(address)
    plan = merge(api.details(), configs)
    for note in plan.notes:
        typer.echo(f"note: {note}", err=True)
    api.submit(plan.config)
    typer.echo(f"submitted {', '.join(plan.deployed)}; kept {', '.join(plan.kept) or 'nothing else'}")
    if wait:
        with _watcher() as watcher:
            states = wait_for(api, plan.deployed, timeout, watcher, SystemClock(), pause)
        _conclude(states, timeout)


def placed_configs(configs: list[ConfigFile], within_ms: float | None, hours: float) -> list[ConfigFile]:
    """With a zone for each model, and a line about it. Raises InvalidInput, Unavailable."""
    from app.cli.cluster import connect as join
    from app.cli.place_replicas import placed
    from app.config import settings
    from app.engine.places import read_places
    from app.metering.node_zones import rooms_by_zone
    from app.policy.placement import PlaceLimits

    join()
    places, limits = read_places(settings().places), PlaceLimits(latency_ms=within_ms)
    found, said = placed(configs, rooms_by_zone, places, settings(), SystemClock(), hours=hours, limits=limits)
    for sentence in said:
        typer.echo(sentence)
    return found


def connect(address: str) -> ServeApi:
    """The way to Serve; tests put a fake in its place."""
    return RestServeApi(address)


def pause() -> None:
    """Between two looks at Serve."""
    time.sleep(_POLL_S)


def wait_for(
    api: ServeApi,
    names: Sequence[str],
    timeout_s: float,
    watcher: Watcher,
    clock: Clock,
    pause: Callable[[], None],
) -> tuple[AppState, ...]:
    """Look until every application is settled or `timeout_s` is over; returns the last look.

    A Serve that does not answer for a moment is asked again: it restarts its proxies while it deploys.
    """
    end_ns = clock.monotonic_ns() + round(timeout_s * NS_PER_S)
    states: tuple[AppState, ...] = tuple(AppState(name, "NOT_STARTED") for name in names)
    while clock.monotonic_ns() < end_ns:
        try:
            states = app_states(api.details(), names)
        except Unavailable:
            pass
        else:
            watcher.see(states)
            if all(state.is_settled for state in states):
                break
        pause()
    return states


def _conclude(states: Sequence[AppState], timeout_s: float) -> None:
    for state in states:
        if state.status == "DEPLOY_FAILED":
            terminal.fault(f"error: application {state.name!r} failed to deploy: {state.message}")
        elif state.status != "RUNNING":
            said = f": {state.message}" if state.message else ""
            terminal.fault(f"error: application {state.name!r} is {state} after {timeout_s:g} s{said}")
    if any(state.status != "RUNNING" for state in states):
        raise typer.Exit(terminal.FAULT_FOUND)


@contextmanager
def _watcher() -> Iterator[Watcher]:
    if not terminal.is_rich():
        yield PlainWatcher()
        return
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=Console()) as progress:
        yield RichWatcher(progress)
