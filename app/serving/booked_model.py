"""What every model version on the books has, whatever it answers with: a name, accounts, figures of use and charges.

Knows nothing of how requests are answered. Used from one event loop.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

from app.clock import Clock
from app.domain.account import request_account, warm_account
from app.engine.spending_words import Offered
from app.errors import NotFound, Unavailable
from app.metering.spending_feed import open_purse
from app.policy.governed import Governed
from app.serving.args import ServedArgs
from app.serving.findings import Findings
from app.serving.usage import Usage
from app.units import NS_PER_S

if TYPE_CHECKING:
    from app.engine.purse import Purse
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


def purse_of(args: ServedArgs) -> "Purse | None":
    """What a deployment of one version may spend, kept in step by a thread; None without a budget."""
    return open_purse(args.label, args.name, args.spending, (Offered(args.version),))


class BookedModel(Generic[Args]):
    """One model version and the client of its meter."""

    def __init__(self, args: Args, client: "WorkClient", clock: Clock) -> None:
        self.args = args
        self._client, self._wall = client, clock
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
        """When it was asked (`Usage.stats`), what its process was charged for the load and for staying warm, and what a
        kWh emits now (`g_per_kwh`, PUE included; 0 before a meter has said)."""
        charged = self._client.charged
        return self.usage.stats() | {
            "load_uj": float(charged.load_uj),
            "warm_uj": float(charged.warm_uj),
            "g_per_kwh": self._client.g_per_kwh,
        }

    @property
    def governed(self) -> Governed | None:
        """What its governor found; None: none runs."""
        return None

    def findings(self) -> Findings:
        """What there is to tell of it (findings.py)."""
        charged, told = self._client.charged, self.usage.stats()
        return Findings(
            model=self.args.name,
            version=self.args.version,
            born_s=self.usage.born_s,
            seen_s=self._wall.wall_ns() / NS_PER_S,
            asked=int(told["asked"]),
            request_uj=charged.request_uj,
            load_uj=charged.load_uj,
            warm_uj=charged.warm_uj,
            idle_s=told["idle_s"],
            gaps_s=self.usage.gaps_s,
            governed=self.governed,
        )

    def unavailable(self) -> Unavailable:
        """The error of a call that comes before it is loaded, or after it is closed."""
        return Unavailable(f"{self.label} is not loaded; try again in a moment")
