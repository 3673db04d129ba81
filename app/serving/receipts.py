"""The receipt of one request as its response carries it.

Knows nothing of HTTP or gRPC beyond the names that both use: `receipt_id`, `energy_uj`, `carbon_ugco2e`, `grade`,
`provisional`; bare as response parameters, behind `x-joulekeeper-` as headers and trailing metadata. Parameters tell
beside them, never in them, the shares of load and warm time too: `load_share_uj`, `warm_share_uj`.
"""

from typing import TYPE_CHECKING

from app.protocol.messages import Parameter

if TYPE_CHECKING:
    from app.metering.client import OpenSlice, PhasedSlice, SliceEnergy

PREFIX = "x-joulekeeper-"

Receipt = dict[str, Parameter]


_NAMES = ("receipt_id", "energy_uj", "carbon_ugco2e", "grade", "provisional", "cache", "saved_uj")
"""Every header costs a small model's request more than computing what is in it: the shares are no headers."""
_METADATA = [(name, PREFIX + name) for name in _NAMES]
_HEADERS = [(name, header.encode()) for name, header in _METADATA]


def receipt_of(work: "OpenSlice") -> Receipt:
    """The receipt of ended `work`: empty without metering, without figures while no meter has told any."""
    receipt_id = work.receipt_id
    if not receipt_id:
        return {}
    told = work.energy()
    if told is None:
        return {"receipt_id": receipt_id, "provisional": True}
    load_share_uj, warm_share_uj = work.shares(told)
    return {**_figures(receipt_id, told), "load_share_uj": load_share_uj, "warm_share_uj": warm_share_uj}


def phased_receipt_of(work: "PhasedSlice") -> Receipt:
    """The receipt of a request to a generating model, by phase; of an open one what it used so far.

    Empty without metering, without figures while no meter has told any, `uj_per_token` only once there are tokens.
    """
    receipt_id = work.receipt_id
    if not receipt_id:
        return {}
    told = work.told()
    if told is None:
        return {"receipt_id": receipt_id, "provisional": True}
    receipt = _figures(receipt_id, told.whole) | {"prefill_uj": told.prefill_uj, "decode_uj": told.decode_uj}
    if told.uj_per_token is not None:
        receipt["uj_per_token"] = told.uj_per_token
    return receipt


def _figures(receipt_id: str, told: "SliceEnergy") -> Receipt:
    return {
        "receipt_id": receipt_id,
        "energy_uj": told.energy_uj,
        "carbon_ugco2e": round(told.carbon_ugco2e),
        "grade": told.grade,
        "provisional": told.provisional,
    }


def as_metadata(receipt: Receipt) -> list[tuple[str, str]]:
    """`receipt` as trailing metadata."""
    return [(key, _spelt(receipt[name])) for name, key in _METADATA if name in receipt]


def as_headers(receipt: Receipt) -> list[tuple[bytes, bytes]]:
    """`receipt` as headers of HTTP."""
    headers = []
    for name, header in _HEADERS:
        value = receipt.get(name)
        if type(value) is int:
            headers.append((header, b"%d" % value))
        elif value is not None:
            headers.append((header, _spelt(value).encode()))
    return headers


def _spelt(value: Parameter) -> str:
    if value is True or value is False:
        return "true" if value else "false"
    return str(value)
