"""Scopes: what a caller may do. Knows nothing of keys, tokens or servers.

infer:minilm    ask this model, all versions of it       infer:*    ask every model
read:report     reports, receipts, status and metrics    admin      everything, of every tenant

covers(frozenset({"infer:*"}), "infer:minilm")      # True
"""

import re
from collections.abc import Iterable

from app.errors import InvalidInput

ADMIN = "admin"
READ_REPORT = "read:report"
INFER_ALL = "infer:*"
ANYBODY_KNOWN = ""
"""Asks for no scope: whoever is known may do it."""

_SCOPE = re.compile(r"admin|read:report|infer:(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def infer_scope(model: str) -> str:
    """What asking `model` takes."""
    return f"infer:{model}"


def covers(held: frozenset[str], wanted: str) -> bool:
    """Whether who holds `held` may do what takes `wanted`."""
    return (
        wanted in held
        or wanted == ANYBODY_KNOWN
        or ADMIN in held
        or (INFER_ALL in held and wanted.startswith("infer:"))
    )


def is_scope(text: str) -> bool:
    """Whether `text` is a scope at all."""
    return _SCOPE.fullmatch(text) is not None


def is_tenant(text: str) -> bool:
    """Whether `text` can be a tenant's name."""
    return _TENANT.fullmatch(text) is not None


def checked_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """`scopes`, at least one. Raises InvalidInput naming every one that is none."""
    held = frozenset(scopes)
    wrong = sorted(scope for scope in held if not is_scope(scope))
    if wrong or not held:
        told = ", ".join(map(repr, wrong)) or "none"
        raise InvalidInput(f"scopes must be infer:MODEL, infer:*, read:report or admin, got {told}")
    return held


def checked_tenant(tenant: str) -> str:
    """`tenant`. Raises InvalidInput when it cannot be one."""
    if not is_tenant(tenant):
        raise InvalidInput(
            f"a tenant is 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first, got {tenant!r}"
        )
    return tenant
