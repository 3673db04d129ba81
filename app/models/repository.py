"""The model repository: `<root>/<name>/<integer version>/`, published atomically, verified at load.

A version may have variants beside it, `<root>/<name>/<version>-<variant>/`: the same model otherwise, as a quantised
one is. They count as versions of their own, but never as the latest.

Knows nothing of torch, jobs or servers. The root is a directory or any URL that fsspec speaks (storage.py,
remote_storage.py); which files are accepted is said in formats.py, encryption at rest in vault.py.

    repository = open_repository(RepositorySettings(root="s3://bucket/models", cache="/var/cache/jk"))
    version = repository.publish("digits", write=lambda directory: ..., card=card)       # "1"
    repository.resolve("digits", "int8")                                                # "1-int8"
    with repository.open("digits", version) as (card, directory): ...                     # digests verified

Raises NotFound for unknown names and versions, InvalidInput for names and files that are refused,
BooksDamaged when a file is not the one that was published, Unavailable when the root cannot be reached.
"""

import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from app.errors import BooksDamaged, InvalidInput, NotFound
from app.models.card import ModelCard, from_yaml, to_yaml
from app.models.formats import CARD_FILE, digest_files, sha256
from app.models.storage import VARIANT, DirectoryStorage, Storage
from app.models.vault import SUFFIX, Vault

GIB = 1024**3

_VERSION = re.compile(rf"[1-9][0-9]{{0,17}}|0|{VARIANT.pattern}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """Where a repository is and what it needs to be read and written."""

    root: str
    """A directory, `file://`, or another fsspec URL."""
    cache: str = ""
    """Directory of local copies of a root that is not local. Empty: below the temporary directory."""
    max_cache_bytes: int = 50 * GIB
    recipients: tuple[str, ...] = ()
    """age public keys: what is published is encrypted for them."""
    identity: str = ""
    """age secret key, for reading what is encrypted."""

    def __repr__(self) -> str:
        return f"RepositorySettings({self.root.partition('?')[0]!r})"


def open_repository(settings: RepositorySettings) -> "ModelRepository":
    """The repository at `settings.root`. Raises InvalidInput for a root or keys that cannot be."""
    return ModelRepository(_storage(settings), Vault(settings.recipients, settings.identity))


def _storage(settings: RepositorySettings) -> Storage:
    scheme, separator, path = settings.root.partition("://")
    if not separator or scheme in ("file", "local"):
        return DirectoryStorage(Path(path if separator else settings.root).expanduser())
    from app.models.remote_storage import RemoteStorage

    cache = Path(settings.cache or Path(tempfile.gettempdir()) / f"joulekeeper-models-{os.getuid()}")
    return RemoteStorage(settings.root, cache, settings.max_cache_bytes)


class ModelRepository:
    """One repository. Several processes may publish to it at once."""

    def __init__(self, storage: Storage, vault: Vault | None = None) -> None:
        self._storage, self._vault = storage, vault or Vault()

    @property
    def where(self) -> str:
        """Its root, for people."""
        return self._storage.where

    def names(self) -> list[str]:
        """Models that have at least one version, sorted."""
        return [name for name in self._storage.names() if _NAME.fullmatch(name) and self._storage.numbers(name)]

    def versions(self, name: str) -> list[str]:
        """Versions of `name`, oldest first. Raises NotFound when there is none, offering near names."""
        numbers = self._storage.numbers(_checked(name))
        if not numbers:
            near = get_close_matches(name, self.names(), n=3, cutoff=0.5) or self.names()[:5]
            hint = f"; did you mean {', '.join(near)}?" if near else "; it is empty: train and publish a model first"
            raise NotFound(f"model {name!r} is not in the repository {self.where}{hint}")
        return [str(number) for number in numbers]

    def variants(self, name: str) -> list[str]:
        """Variants of its versions, `2-int8`, those of the oldest version first. Raises InvalidInput for a name."""
        found = [match for each in self._storage.variants(_checked(name)) if (match := VARIANT.fullmatch(each))]
        return [match[0] for match in sorted(found, key=lambda match: (int(match[1]), match[2]))]

    def resolve(self, name: str, wanted: str = "") -> str:
        """The version that is meant: the latest, one by its number, or `int8`, the newest that there is of a variant.

        A number, also one with a variant, is taken at its word. Raises NotFound.
        """
        if not wanted:
            return self.latest(name)
        if _VERSION.fullmatch(wanted):
            return wanted
        found = [each for each in self.variants(name) if each.partition("-")[2] == wanted]
        if not found:
            raise self._unknown(name, wanted)
        return found[-1]

    def latest(self, name: str) -> str:
        """The highest version of `name`. Raises NotFound."""
        return self.versions(name)[-1]

    def card(self, name: str, version: str) -> ModelCard:
        """The card of a version, its files unchecked. Raises NotFound, InvalidInput."""
        return self._card(name, version)[0]

    @contextmanager
    def open(self, name: str, version: str) -> Iterator[tuple[ModelCard, Path]]:
        """Card and local directory of a version after every file's digest was checked.

        An encrypted one is decrypted in memory, and its card lists the plain files; the directory is gone afterwards,
        what was mapped from it stays readable. Raises NotFound, InvalidInput, BooksDamaged, Unavailable.
        """
        card, text = self._card(name, version)
        for relative in card.files:
            _check_path(relative, f"the card of {name}@{version}")
        directory = self._verified(card, text)
        if not card.encryption:
            yield card, directory
            return
        with self._vault.opened(directory, card.files) as plain:
            files = {relative.removesuffix(SUFFIX): digest for relative, digest in card.files.items()}
            yield card.model_copy(update={"files": files}), plain

    def publish(
        self,
        name: str,
        write: Callable[[Path], None],
        card: ModelCard | Callable[[], ModelCard],
        *,
        trusted: Collection[str] = (),
        variant: str = "",
    ) -> str:
        """Publish what `write` puts into the directory it is given; returns the new version.

        `card` may be known only once everything is written. `trusted` are sha256 of pickles that may be in it.
        `variant` makes it that one, `2-int8`. Raises InvalidInput for a refused name or file, or a variant that is
        there already. Nothing is left behind when anything fails.
        """
        if variant and not VARIANT.fullmatch(variant):
            raise InvalidInput(f"variant {variant!r} must be a version, a dash and a word: 2-int8")
        with self._storage.staging(_checked(name)) as staged:
            write(staged)
            files = digest_files(staged, trusted)
            if self._vault.seals:
                self._vault.seal(staged)
                files = {f"{relative}{SUFFIX}": sha256(staged / f"{relative}{SUFFIX}") for relative in files}
            encryption = "age" if self._vault.seals else ""
            known = card if isinstance(card, ModelCard) else card()
            known = known.model_copy(update={"name": name, "files": files, "encryption": encryption})
            try:
                return self._storage.place(
                    name, staged, lambda version: to_yaml(known.model_copy(update={"version": version})), variant
                )
            except FileExistsError as error:
                raise InvalidInput(f"{name}@{variant} is there already; delete it first") from error

    def delete(self, name: str, version: str) -> None:
        """Take a version away for good; replicas that have loaded it serve on. Raises NotFound."""
        if version not in (*self.versions(name), *self.variants(name)):
            raise self._unknown(name, version)
        self._storage.remove(name, version)

    def _verified(self, card: ModelCard, text: str) -> Path:
        """The local directory of a version. A local copy that is damaged is fetched once more."""
        name, version = card.name, card.version
        try:
            directory = self._storage.directory(name, version, text, card.files)
            try:
                _check_files(directory, card.files)
            except BooksDamaged:
                if not self._storage.forget(name, version, text):
                    raise
                directory = self._storage.directory(name, version, text, card.files)
                _check_files(directory, card.files)
        except FileNotFoundError as error:
            raise BooksDamaged(
                f"{name}@{version} lacks a file that its card lists: {error}; publish it again"
            ) from error
        return directory

    def _card(self, name: str, version: str) -> tuple[ModelCard, str]:
        try:
            # A number as we write them: anything else could lead out of the root.
            text = self._storage.card_text(_checked(name), version) if _VERSION.fullmatch(version) else ""
        except FileNotFoundError:
            text = ""
        if not text:
            raise self._unknown(name, version)
        return from_yaml(text, f"{self.where}/{name}/{version}/{CARD_FILE}"), text

    def _unknown(self, name: str, version: str) -> NotFound:
        versions = self.versions(name) + self.variants(name)
        return NotFound(f"model {name!r} has no version {version!r}; there are {', '.join(versions[-10:])}")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"model name {name!r} is refused: 1 to 64 letters, digits, dots, dashes or underscores, "
            "starting with a letter or digit"
        )
    return name


def _check_path(relative: str, where: str) -> None:
    if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
        raise InvalidInput(f"{where} lists {relative!r}, which lies outside the version; publish it again")


def _check_files(directory: Path, files: Mapping[str, str]) -> None:
    for relative, expected in files.items():
        path = directory / relative
        if not path.is_file():
            raise BooksDamaged(f"{path} is listed in its card but missing; publish the version again")
        found = sha256(path)
        if found != expected:
            raise BooksDamaged(
                f"{path} was altered: sha256 {found[:12]}..., its card says {expected[:12]}...; publish it again"
            )
