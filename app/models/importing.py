"""A model from elsewhere becomes a version of the repository: fetched, recognised, digested, its card written.

Knows nothing of servers. What it recognises: a directory with a `card.yaml` (another version of ours), and an encoder
in sentence-transformers layout. Anything else needs a card, or a Python class that runs it (`code`).

Pickles can run code when they are read, so they are refused, unless their sha256 was pinned by whoever imports. Even
then nothing is unpickled freely here: what torch.save wrote is read with weights_only and kept as safetensors; what
cannot be read so is kept as it is for a Python class, and only for that. Raises InvalidInput, NotFound, Unavailable.
"""

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError

from app.clock import Clock, SystemClock
from app.errors import InvalidInput, NotFound
from app.models import hub
from app.models.card import ModelCard, from_yaml
from app.models.formats import (
    CARD_FILE,
    PICKLE_SUFFIXES,
    TEXT_SUFFIXES,
    TORCH_PICKLE_SUFFIXES,
    WEIGHT_SUFFIXES,
    sha256,
    trusted_digest,
)
from app.models.repository import ModelRepository
from app.units import NS_PER_S

Fetch = Callable[[str, Path, Callable[[list[str]], list[str]]], str]

_OTHER_RUNTIMES = ("onnx", "openvino")


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import, under which name and on whose word."""

    name: str
    source: str
    """A file, a directory, or `hf:ORG/NAME@REVISION`."""
    card: Path | None = None
    code: str = ""
    """`package.module:Class` that runs it."""
    trusted: frozenset[str] = frozenset()
    """`sha256:<hex>` of pickles."""


def import_model(
    repository: ModelRepository, request: ImportRequest, *, fetch: Fetch = hub.download, clock: Clock | None = None
) -> str:
    """Publish what `request` names; returns the new version."""
    trusted = {trusted_digest(word) for word in request.trusted}
    written: list[ModelCard] = []
    wall_s = (clock or SystemClock()).wall_ns() / NS_PER_S
    created = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="seconds")

    def write(staged: Path) -> None:
        origin = _collect(request, staged, fetch)
        _convert_pickles(staged, trusted, bool(request.code))
        written.append(_card(request, staged, {"name": request.name, "created": created, "origin": origin}))
        (staged / CARD_FILE).unlink(missing_ok=True)

    # The card is known only once the files are here: `publish` asks for it after `write`.
    return repository.publish(request.name, write, lambda: written[0], trusted=trusted)


def choose_files(names: list[str]) -> list[str]:
    """Of a source's files those that a version may hold; pickles, which may yet be refused, where nothing better is.

    Copies for other runtimes and whatever hides behind a dot stay away.
    """
    plain = [name for name in names if not any(part.startswith(".") for part in PurePosixPath(name).parts)]
    plain = [name for name in plain if PurePosixPath(name).parts[0] not in _OTHER_RUNTIMES]
    weights = [name for name in plain if PurePosixPath(name).suffix in WEIGHT_SUFFIXES]
    pickles = [name for name in plain if PurePosixPath(name).suffix in PICKLE_SUFFIXES]
    return [name for name in plain if PurePosixPath(name).suffix in TEXT_SUFFIXES] + (weights or pickles)


def _collect(request: ImportRequest, staged: Path, fetch: Fetch) -> str:
    """Copy the source into `staged`; returns where it came from."""
    if request.source.startswith(hub.SCHEME):
        return hub.SCHEME + fetch(request.source.removeprefix(hub.SCHEME), staged, choose_files)
    source = Path(request.source).expanduser()
    if source.is_dir():
        names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        for name in choose_files(sorted(names)):
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, staged / name)
    elif source.is_file():
        shutil.copyfile(source, staged / source.name)
    else:
        raise NotFound(f"{source} is neither a file nor a directory; give one, or hf:ORG/NAME@REVISION")
    return str(source.resolve())


def _convert_pickles(staged: Path, trusted: set[str], for_code: bool) -> None:
    for path in sorted(path for path in staged.rglob("*") if path.suffix in PICKLE_SUFFIXES and path.is_file()):
        digest = sha256(path)
        if digest not in trusted:
            raise InvalidInput(
                f"{path.name} is a pickle, which can run code when read; convert it to safetensors, or trust this very "
                f"file with --trust-pickle sha256:{digest}"
            )
        if not (path.suffix in TORCH_PICKLE_SUFFIXES and _convert(path)) and not for_code:
            raise InvalidInput(f"{path.name} holds more than tensors; only a Python class (--code) can be given it")


def _convert(path: Path) -> bool:
    """Replace what torch.save wrote by safetensors; False if it is more than a flat dict of tensors."""
    import torch
    from safetensors.torch import save_file

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickle protocols it may not know: then it raises
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        return False
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        return False
    # safetensors refuses tensors that share memory: tied weights are written out.
    save_file({name: value.clone().contiguous() for name, value in tensors.items()}, _converted(path))
    path.unlink()
    return True


def _converted(path: Path) -> Path:
    """`pytorch_model.bin` becomes what every reader of safetensors looks for."""
    return path.with_name("model.safetensors" if path.stem == "pytorch_model" else f"{path.stem}.safetensors")


def _card(request: ImportRequest, staged: Path, common: dict[str, str]) -> ModelCard:
    given = request.card or (staged / CARD_FILE if (staged / CARD_FILE).is_file() else None)
    if given is not None:
        card = from_yaml(given.read_text(encoding="utf-8"), str(given))
        return card.model_copy(update={"origin": common["origin"], "code": request.code or card.code})
    if request.code:
        return ModelCard(runner="python", code=request.code, inputs=(), outputs=(), **common)
    if (staged / "modules.json").is_file() or (staged / "config.json").is_file():
        return _encoder_card(staged, common)
    raise InvalidInput(
        f"{request.source} is not recognised: an encoder has modules.json or config.json, a version of ours "
        f"{CARD_FILE}; give --card FILE, or --code package.module:Class for a class that runs it"
    )


def _encoder_card(staged: Path, common: dict[str, str]) -> ModelCard:
    """Loads it once: what cannot be served is refused now, not at the first request."""
    from app.models.runners.encoder import EncoderRunner

    runner = EncoderRunner(staged, common["name"], "0")
    return ModelCard(runner="encoder", inputs=runner.inputs, outputs=runner.outputs, max_rows=runner.max_rows, **common)
