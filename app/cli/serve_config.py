"""Serve configs merged: the applications of some files put into what runs, everything else kept.

Pure: details of the running Serve and the contents of files come in, the config to submit goes out. Knows nothing
of HTTP or Ray. Serve's own deploy removes what a file does not name; this is what makes it additive.

    plan = merge(details, [read_config(Path("deployments/digits.yaml"))])
    plan.config        # to be submitted: kept and named applications together

Raises InvalidInput naming every fault of all files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.errors import InvalidInput

DEFAULT_NAME, DEFAULT_ROUTE = "default", "/"
"""What Serve assumes for an application that does not say."""

_FIXED_AT_START = ("proxy_location", "http_options", "grpc_options")
"""Serve takes these when it starts and not again."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A Serve config as it was read."""

    path: str
    content: Mapping[str, Any]

    @property
    def applications(self) -> Sequence[Mapping[str, Any]]:
        return self.content["applications"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to submit and what it means."""

    config: Mapping[str, Any]
    deployed: tuple[str, ...]
    """Names of the applications that the files name."""
    kept: tuple[str, ...]
    notes: tuple[str, ...]
    """Sentences about options of the files that a running Serve cannot take."""


def read_config(path: Path) -> ConfigFile:
    """The Serve config in `path`. Raises InvalidInput, naming the file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}; give the path of a Serve config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not YAML: {error}") from error
    applications = content.get("applications") if isinstance(content, dict) else None
    if not isinstance(applications, list) or not all(isinstance(each, dict) for each in applications):
        raise InvalidInput(f"{path} is no Serve config: it must have a list `applications`")
    return ConfigFile(str(path), content)


def merge(details: Mapping[str, Any], files: Sequence[ConfigFile]) -> Plan:
    """Put the applications of `files` into the Serve of `details` (GET /api/serve/applications/)."""
    named = {application.get("name", DEFAULT_NAME): application for application in _applications(files)}
    running = {
        name: application
        for name, application in details.get("applications", {}).items()
        if application["status"] != "DELETING"
    }
    kept = {name: application for name, application in running.items() if name not in named}
    faults = [*_doubled_names(files), *_doubled_routes(files), *_taken_routes(files, kept), *_lost(kept)]
    options, notes, option_faults = _options(details, files)
    if faults or option_faults:
        raise InvalidInput("; ".join([*faults, *option_faults]))
    kept_configs = [each["deployed_app_config"] for each in kept.values() if each.get("deployed_app_config")]
    is_running = _is_running(details)
    new_configs = [_with_logging(each, file, is_running) for file in files for each in file.applications]
    config = {**options, "applications": [*kept_configs, *new_configs]}
    return Plan(config, tuple(named), tuple(kept), notes)


def route_of(application: Mapping[str, Any]) -> str | None:
    """Where an application answers; None: nowhere over HTTP."""
    return application.get("route_prefix", DEFAULT_ROUTE)


def _applications(files: Sequence[ConfigFile]) -> Iterator[Mapping[str, Any]]:
    for file in files:
        yield from file.applications


def _is_running(details: Mapping[str, Any]) -> bool:
    return details.get("http_options") is not None


def _doubled_names(files: Sequence[ConfigFile]) -> Iterator[str]:
    homes: dict[str, str] = {}
    for file in files:
        for application in file.applications:
            name = application.get("name", DEFAULT_NAME)
            if name in homes:
                yield f"application {name!r} is named in {homes[name]} and again in {file.path}: keep one"
            homes.setdefault(name, file.path)


def _doubled_routes(files: Sequence[ConfigFile]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for application in _applications(files):
        name, route = application.get("name", DEFAULT_NAME), route_of(application)
        if route is not None and owners.setdefault(route, name) != name:
            yield f"applications {owners[route]!r} and {name!r} both claim route_prefix {route!r}: change one"


def _taken_routes(files: Sequence[ConfigFile], kept: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    owners = {_running_route(application): name for name, application in kept.items()}
    for file in files:
        for application in file.applications:
            route = route_of(application)
            if route is not None and route in owners:
                name, owner = application.get("name", DEFAULT_NAME), owners[route]
                yield (
                    f"{file.path}: route_prefix {route!r} of application {name!r} is taken by the running "
                    f"application {owner!r}: choose another, or name it {owner!r} to replace that"
                )


def _running_route(application: Mapping[str, Any]) -> str | None:
    """The route of a running application; while it is being built only its config knows."""
    if application.get("route_prefix") is not None:
        return application["route_prefix"]
    config = application.get("deployed_app_config")
    return route_of(config) if config else None


def _lost(kept: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, application in kept.items():
        if application.get("source") == "declarative" and not application.get("deployed_app_config"):
            yield (
                f"Serve does not tell the config of the running application {name!r}, so deploying would "
                "remove it: try again, or deploy its file along with these"
            )


def _options(
    details: Mapping[str, Any], files: Sequence[ConfigFile]
) -> tuple[dict[str, Any], tuple[str, ...], list[str]]:
    """Options beside the applications: what runs is kept, what files say beyond that is added."""
    options, faults = _file_options(files)
    if not _is_running(details):
        return options, (), faults
    notes: list[str] = []
    for key in _FIXED_AT_START:
        wanted, present = options.pop(key, None), details.get(key)
        notes += _differences(key, wanted, present)
        if present is not None:
            options[key] = present
    options.pop("controller_options", None)
    options.pop("logging_config", None)
    if details.get("target_capacity") is not None:
        options.setdefault("target_capacity", details["target_capacity"])
    return options, tuple(notes), faults


def _file_options(files: Sequence[ConfigFile]) -> tuple[dict[str, Any], list[str]]:
    options: dict[str, Any] = {}
    faults = []
    for file in files:
        for key, value in file.content.items():
            if key != "applications" and options.setdefault(key, value) != value:
                faults.append(f"{file.path}: {key} differs from that of an earlier file: make them equal")
    return options, faults


def _differences(key: str, wanted: Any, present: Any) -> Iterator[str]:
    pairs = [(key, wanted, present)]
    if isinstance(wanted, dict) and isinstance(present, dict):
        pairs = [(f"{key}.{name}", value, present.get(name)) for name, value in wanted.items()]
    for name, new, old in pairs:
        if new is not None and old is not None and new != old:
            yield f"{name} stays {old!r}: Serve is running, {new!r} would take effect when it is started anew"


def _with_logging(application: Mapping[str, Any], file: ConfigFile, is_running: bool) -> Mapping[str, Any]:
    """A running Serve is not given a file's global logging: it would spread to the kept applications."""
    logging = file.content.get("logging_config")
    if is_running and logging is not None and "logging_config" not in application:
        return {**application, "logging_config": logging}
    return application
