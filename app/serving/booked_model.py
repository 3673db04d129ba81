"""What every model version on the books has, whatever it answers with: a name, accounts, figures of use and charges.

Knows nothing of how requests are answered. Used from one event loop.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

from app.clock import Clock
from app.domain.account import request_account, warm_account
from app.errors import NotFound, Unavailable
from app.serving.args import ServedArgs
from app.serving.usage import Usage

if TYPE_CHECKING:
    from app.metering.client import WorkClient

Args = TypeVar("Args", bound=ServedArgs)

_TENANTS = 1024  # whose accounts are kept ready


def join_books(name: str, version: str) -> "WorkClient":
    """As the keeper of a warm model: what this process uses while nobody asks is charged to it."""
    # Late, so that what a replica imports first is light, and its cold start begins on the books.
    from app.metering.client import WorkClient
    from app.metering.devices import visible_accelerators

    return WorkClient.open(warm_account(name, version), devices=visible_accelerators())


def open_client(args: ServedArgs) -> "WorkClient":
    """The books as a replica of `args` joins them."""
    return join_books(args.name, args.version)


class BookedModel(Generic[Args]):
    """One model version and the client of its meter."""

    def __init__(self, args: Args, client: "WorkClient", clock: Clock) -> None:
        self.args = args
        self._client = client
        self.usage = Usage(clock)
        """When it was asked."""
        # Lets one tenant's requests have one account object: the ring knows it again without looking it up.
        self.account_of = lru_cache(_TENANTS)(lambda tenant: request_account(tenant, args.name, args.version))

    @property
    def label(self) -> str:
        """Name and version for people: `minilm@1`."""
        return self.args.label

    def check_version(self, version: str) -> None:
        """Raises NotFound unless `version` means the one served; an empty one stands for it."""
        if not self.args.is_meant(version):
            raise NotFound(f"{self.args.name} has no version {version!r} here; {self.args.version} is served")

    def stats(self) -> dict[str, float]:
        """When it was asked (`Usage.stats`), and what its process was charged for the load and for staying warm."""
        charged = self._client.charged
        return self.usage.stats() | {"load_uj": float(charged.load_uj), "warm_uj": float(charged.warm_uj)}

    def unavailable(self) -> Unavailable:
        """The error of a call that comes before it is loaded, or after it is closed."""
        return Unavailable(f"{self.label} is not loaded; try again in a moment")
