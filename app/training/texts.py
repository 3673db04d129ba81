"""Texts that ship with the product: where they come from, which are held out, and their digest.

Knows nothing of tokens, torch or Ray. A source is deterministic: on one Python the same texts come in the same order,
and a text is held out by its name and the seed alone, so that on every Python the same files are.

    texts = load_texts("builtin:stdlib-source", test_share=0.06, seed=7)
    texts.train[0], texts.held_out_bytes, texts.card.licence

Raises InvalidInput when a source is not on this machine.
"""

import hashlib
import platform
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.errors import InvalidInput
from app.models.card import DataCard

_TESTS = frozenset({"test", "tests", "idle_test"})
_NOT_LIBRARY = frozenset({"site-packages", "dist-packages", "lib-dynload", "__pycache__"})
_TABLES = frozenset({"encodings", "pydoc_data"})
"""Character tables and the manual as one string: files of Python, but nothing that anybody wrote as code."""


@dataclass(frozen=True, slots=True)
class NamedTexts:
    """All texts of a source by name, in a fixed order, with what is known about them."""

    texts: Mapping[str, str]
    origin: str
    licence: str


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts divided into those to learn from and those held out."""

    train: Sequence[str]
    """In memory, or read as they are asked for (parquet_texts.py)."""
    held_out: tuple[str, ...]
    card: DataCard

    @property
    def held_out_bytes(self) -> bytes:
        """What is held out, one text after the other, as UTF-8."""
        return "".join(self.held_out).encode()


def load_texts(source: str, *, test_share: float, seed: int) -> Texts:
    """The texts of `source`, divided. Raises KeyError for a name not in TEXT_SOURCES (jobs are checked before)."""
    named = TEXT_SOURCES[source]()
    out = {name for name in named.texts if is_held_out(name, test_share, seed)}
    if not out or len(out) == len(named.texts):
        raise InvalidInput(
            f"data.test_share={test_share} of the {len(named.texts)} texts of {source} leaves nothing to "
            f"{'hold out' if not out else 'learn from'}; choose another share or seed"
        )
    held_bytes = sum(len(named.texts[name].encode()) for name in out)
    card = DataCard(
        name=source,
        origin=named.origin,
        licence=named.licence,
        digest=_digest(named.texts),
        rows=len(named.texts),
        split=f"test_share={test_share}, seed={seed}: {len(out)} texts of {held_bytes} bytes held out",
        test_share=test_share,
        seed=seed,
    )
    return Texts(
        tuple(text for name, text in named.texts.items() if name not in out),
        tuple(text for name, text in named.texts.items() if name in out),
        card,
    )


def is_held_out(name: str, share: float, seed: int) -> bool:
    """By a hash of seed and name, uniform in [0, 1)."""
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")
    return draw < share * 2**64


def _digest(texts: Mapping[str, str]) -> str:
    """sha256 over name, length in bytes and UTF-8 of every text, in order."""
    digest = hashlib.sha256()
    for name, text in texts.items():
        content = text.encode()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def draw_stdlib() -> NamedTexts:
    """Source files of the running Python's standard library by path: no tests, no tables, nothing installed later."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = {PurePosixPath(path.relative_to(root).as_posix()): path for path in root.rglob("*.py")}
    contents = {str(name): path.read_bytes() for name, path in sorted(paths.items()) if _is_library_code(name)}
    texts = {name: text for name, content in contents.items() if (text := _utf8(content)).strip()}
    if not texts:
        raise InvalidInput(f"the standard library has no source files below {root}; use a Python that ships them")
    return NamedTexts(
        texts,
        f"standard library of {platform.python_implementation()} {platform.python_version()}: {len(texts)} source "
        f"files of {sum(len(text.encode()) for text in texts.values())} bytes; without tests, encodings, pydoc_data; "
        "https://www.python.org",
        "PSF-2.0",
    )


def _is_library_code(name: PurePosixPath) -> bool:
    if name.name.startswith("_sysconfigdata"):
        return False  # written when this Python was built, and full of that machine's paths
    folders = set(name.parts[:-1])
    return not folders & (_TESTS | _NOT_LIBRARY | _TABLES) and not any(part.startswith("config-") for part in folders)


def _utf8(content: bytes) -> str:
    """The text, or nothing where it is not UTF-8; line ends as Python reads them."""
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return ""


TEXT_SOURCES: dict[str, Callable[[], NamedTexts]] = {"builtin:stdlib-source": draw_stdlib}
