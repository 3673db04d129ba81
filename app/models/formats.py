"""Which files a model version may hold, and their digests.

Knows nothing of where versions are kept. Formats that cannot run code when they are read (safetensors), torch.export
programs (`.pt2`, whose archive the runner inspects first) and text are accepted. Pickles can run code when they are
read: one is accepted only if its own sha256 was pinned by whoever publishes it.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from app.errors import InvalidInput

CARD_FILE = "card.yaml"
WEIGHT_SUFFIXES = frozenset({".safetensors", ".pt2"})
TEXT_SUFFIXES = frozenset({".json", ".txt", ".md", ".yaml", ".jinja"})
TORCH_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt"})
"""What torch.save writes: usually nothing but tensors, which can be read without running code."""
PICKLE_SUFFIXES = TORCH_PICKLE_SUFFIXES | {".pkl", ".pickle", ".joblib"}


def digest_files(directory: Path, trusted: Collection[str] = ()) -> dict[str, str]:
    """Path below `directory` to sha256 of every file. Raises InvalidInput for one that is refused.

    `trusted` are sha256 of pickles that may stay.
    """
    found = sorted(path for path in directory.rglob("*") if not path.is_dir())
    return {str(PurePosixPath(path.relative_to(directory).as_posix())): _accepted(path, trusted) for path in found}


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trusted_digest(word: str) -> str:
    """The hex digest of `sha256:<hex>`. Raises InvalidInput: only a digest can be trusted, never a name."""
    algorithm, _, digest = word.partition(":")
    if algorithm != "sha256" or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InvalidInput(f"a trusted pickle is named by its digest, sha256:<64 hex digits>, got {word!r}")
    return digest


def _accepted(path: Path, trusted: Collection[str]) -> str:
    weights, text = " or ".join(sorted(WEIGHT_SUFFIXES)), ", ".join(sorted(TEXT_SUFFIXES))
    if path.is_symlink() or path.name == CARD_FILE or path.suffix not in WEIGHT_SUFFIXES | TEXT_SUFFIXES:
        if not path.is_symlink() and path.suffix in PICKLE_SUFFIXES and (digest := sha256(path)) in trusted:
            return digest
        raise InvalidInput(
            f"{path.name} is refused in a model repository: weights must be {weights}, the rest {text}; "
            "no links; pickle-based formats can run code when read, convert them to safetensors"
        )
    return sha256(path)
