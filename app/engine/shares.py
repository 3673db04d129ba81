"""Fair shares: what each request carries of the load and the warm time of the process that served it.

Pure. Shares are told beside the energy of a request and are no part of it: on the ledger `load` and `warm` are
accounts of their own. The key is energy: of two requests the one that used twice as much carries twice as much.

    share = load or warm energy of the process so far x energy of the request // energy of all its requests so far

Rounded down, so that the shares of all requests of a process never exceed what was charged to it, and fall
short of it by less than a microjoule each.
"""

from typing import NamedTuple

from app.ledger.ring import Charged


class Shares(NamedTuple):
    """Of one request, as of now: they move until its process has ended."""

    load_uj: int
    warm_uj: int


NO_SHARES = Shares(0, 0)


def fair_shares(charged: Charged, energy_uj: int, requests_uj: int) -> Shares:
    """The shares of a request that used `energy_uj`, of requests of its process that used `requests_uj` in all."""
    if requests_uj <= 0 or energy_uj <= 0:
        return NO_SHARES
    return Shares(charged.load_uj * energy_uj // requests_uj, charged.warm_uj * energy_uj // requests_uj)
