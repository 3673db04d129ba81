"""Files of a model version encrypted at rest, in the age format (age-encryption.org/v1).

Knows nothing of repositories. The format and its Rust implementation (pyrage) are somebody else's well-kept work: a
file key of its own for each file, ChaCha20-Poly1305 by chunks of 64 KiB, so that files of any size stream and a cut,
joined or altered file is noticed. Encrypting needs a public key only: who publishes need not be able to read. `age` and
`rage` read the files too. Raises InvalidInput for keys that are none, BooksDamaged for what does not open.

    vault = Vault(recipients=("age1...",), identity="AGE-SECRET-KEY-1...")
    vault.seal(directory)                                   # every file becomes <file>.age
    with vault.opened(directory, names) as plain: ...       # in memory, gone afterwards
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyrage

from app.errors import BooksDamaged, InvalidInput, Unavailable

SUFFIX = ".age"
_MEMORY = Path("/dev/shm")


class Vault:
    """The keys of a repository. Without `recipients` nothing is encrypted; without `identity` nothing is read."""

    def __init__(self, recipients: Iterable[str] = (), identity: str = "") -> None:
        try:
            self._recipients = [pyrage.x25519.Recipient.from_str(each) for each in recipients]
            self._identity = pyrage.x25519.Identity.from_str(identity.strip()) if identity else None
        except (pyrage.RecipientError, pyrage.IdentityError) as error:
            # Not the text itself: it may be the secret key in the wrong variable.
            raise InvalidInput(
                f"a key of the model repository is not an age key: {error}; make one with `joulekeeper models keygen`"
            ) from error

    @property
    def seals(self) -> bool:
        """Whether what is published is to be encrypted."""
        return bool(self._recipients)

    def seal(self, directory: Path) -> None:
        """Replace every file in `directory` by its encrypted one."""
        for path in [path for path in directory.rglob("*") if path.is_file()]:
            pyrage.encrypt_file(str(path), str(path) + SUFFIX, self._recipients)
            path.unlink()

    @contextmanager
    def opened(self, directory: Path, names: Iterable[str]) -> Iterator[Path]:
        """A directory in memory with the plain files; mapped ones stay readable after it is gone."""
        if self._identity is None:
            raise InvalidInput(f"{directory} is encrypted and no key was given; set JOULEKEEPER_MODELS_KEY_FILE")
        if not _MEMORY.is_dir():
            raise Unavailable(f"{_MEMORY} is not there: an encrypted model is opened in memory only, mount a tmpfs")
        with tempfile.TemporaryDirectory(prefix="joulekeeper-", dir=_MEMORY) as plain:
            for name in names:
                self._open(directory / name, Path(plain) / name.removesuffix(SUFFIX))
            yield Path(plain)

    def _open(self, sealed: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            pyrage.decrypt_file(str(sealed), str(target), [self._identity])
        except (pyrage.DecryptError, OSError) as error:
            # The stream's own faults come as OSError too, but without a number of the system's.
            if isinstance(error, OSError) and error.errno is not None:
                free = shutil.disk_usage(_MEMORY).free
                raise Unavailable(f"{sealed} cannot be opened in memory: {error}; {free} bytes are left") from error
            raise BooksDamaged(
                f"{sealed} does not open: {error}; it was altered, or it was encrypted for another key"
            ) from error


def new_identity() -> tuple[str, str]:
    """A new key pair: the secret identity and the recipient that is published."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())
