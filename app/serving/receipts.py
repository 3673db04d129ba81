"""The receipt of one request as its response carries it.

Knows nothing of HTTP or gRPC beyond the names that both use: `receipt_id`, `energy_uj`, `carbon_ugco2e`, `grade`,
`provisional`; bare as response parameters, behind `x-joulekeeper-` as headers and trailing metadata. Parameters tell
beside them, never in them, the shares of load and warm time too: `load_share_uj`, `warm_share_uj`.
"""

from typing import TYPE_CHECKING

from app.protocol.messages import Parameter

if TYPE_CHECKING:
    from app.metering.client import PhasedSlice

PREFIX = "x-joulekeeper-"

Receipt = dict[str, Parameter]


_NAMES = ("receipt_id", "energy_uj", "carbon_ugco2e", "grade", "provisional", "cache", "saved_uj")
"""Every header costs a small model's request more than computing what is in it: the shares are no headers."""
_METADATA = [(name, PREFIX + name) for name in _NAMES]
_HEADERS = {name: key.encode() for name, key in _METADATA}


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
    receipt: Receipt = {
        "receipt_id": receipt_id,
        "energy_uj": told.whole.energy_uj,
        "carbon_ugco2e": round(told.whole.carbon_ugco2e),
        "grade": told.whole.grade,
        "provisional": told.whole.provisional,
        "prefill_uj": told.prefill_uj,
        "decode_uj": told.decode_uj,
    }
    if told.uj_per_token is not None:
        receipt["uj_per_token"] = told.uj_per_token
    return receipt


def as_metadata(receipt: Receipt) -> list[tuple[str, str]]:
    """`receipt` as trailing metadata."""
    return [(key, _spelt(receipt[name])) for name, key in _METADATA if name in receipt]


def as_headers(receipt: Receipt) -> list[tuple[bytes, bytes]]:
    """`receipt` as headers of HTTP."""
    return [
        (_HEADERS[name], b"%d" % value if type(value) is int else _spelt(value).encode())
        for name, value in receipt.items()
        if name in _HEADERS
    ]


def _spelt(value: Parameter) -> str:
    if value is True or value is False:
        return "true" if value else "false"
    return str(value)
