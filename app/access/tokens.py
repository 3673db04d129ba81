"""JSON web tokens: which of them are believed, and what they say of their bearer.

Signatures and times are PyJWT's business; this decides which key and which algorithm may be used at all: those of the
rules, never the token's word alone, and no symmetric key. No I/O: the keys came with the snapshot. Believed tokens are
remembered by their digest, since checking a signature costs fifty times as much.

    tokens = TokenBook(snapshot.issuers)
    grant = tokens.grant(text, now_s)            # raises Unauthenticated
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.access.rules import IssuerRules
from app.access.scopes import ADMIN, is_scope, is_tenant
from app.access.snapshot import IssuerKeys
from app.errors import Unauthenticated

if TYPE_CHECKING:
    from jwt import PyJWK

MAX_TOKEN_CHARS = 8192
_KEPT = 4096
_MAX_UNKNOWN = 16


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """What one token opens."""

    who: str
    """Its subject, for the audit log."""
    tenant: str
    scopes: frozenset[str]
    expires_s: float


class TokenBook:
    """The issuers of one snapshot. Not thread-safe."""

    def __init__(self, issuers: Iterable[IssuerKeys]) -> None:
        self._issuers = {issuer.rules.issuer: _Issuer(issuer) for issuer in issuers}
        self._known: OrderedDict[bytes, TokenGrant] = OrderedDict()
        self.unknown_key_ids: set[str] = set()
        """Named by tokens of issuers that we know; their key sets may have changed."""

    def grant(self, token: str, now_s: float) -> TokenGrant:
        """What `token` opens. Raises Unauthenticated; what it says never repeats any of the token."""
        if len(token) > MAX_TOKEN_CHARS:
            raise Unauthenticated(f"the token has {len(token)} characters, at most {MAX_TOKEN_CHARS} are read")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is None:
            known = self._checked(token)
            self._known[digest] = known
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        if now_s >= known.expires_s:
            raise Unauthenticated("the token has expired; get a new one from its issuer")
        return known

    def _checked(self, token: str) -> TokenGrant:
        import jwt

        if not self._issuers:
            raise Unauthenticated("tokens are not taken here: no issuer is configured; use an API key")
        try:
            # Only to find out whose key to check it with; nothing of it is believed before that.
            claimed = jwt.decode_complete(token, options={"verify_signature": False})
            header, issuer = claimed["header"], self._issuers.get(claimed["payload"].get("iss"))
            if issuer is None:
                raise Unauthenticated("the token's issuer is not among those configured here")
            key, algorithm = self._key(issuer, header), header.get("alg")
            rules = issuer.rules
            payload = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired; get a new one from its issuer") from None
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise Unauthenticated(f"the token is not believed: {_reason(error)}") from None
        return _grant(rules, payload)

    def _key(self, issuer: "_Issuer", header: Mapping[str, Any]) -> "PyJWK":
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if algorithm not in issuer.rules.algorithms:
            raise Unauthenticated(f"the token's algorithm is not one of {', '.join(issuer.rules.algorithms)}")
        key = issuer.keys.get(key_id) if isinstance(key_id, str) else None
        if key is None and not key_id and len(issuer.keys) == 1:
            (key,) = issuer.keys.values()
        if key is None:
            if isinstance(key_id, str) and len(self.unknown_key_ids) < _MAX_UNKNOWN:
                self.unknown_key_ids.add(key_id[:256])
            raise Unauthenticated("the token's key is not in its issuer's key set; if it is new, try again in a moment")
        if key.algorithm_name != algorithm:
            raise Unauthenticated(f"the token's key is for {key.algorithm_name}, not for the algorithm it names")
        return key


class _Issuer:
    def __init__(self, issuer: IssuerKeys) -> None:
        self.rules = issuer.rules
        self.keys = dict(_usable(issuer.keys, issuer.rules))


def _usable(keys: Mapping[str, Mapping[str, Any]], rules: IssuerRules) -> Iterable[tuple[str, "PyJWK"]]:
    """The keys with which signatures can be checked, of the algorithms that are believed."""
    import jwt

    for key_id, jwk in keys.items():
        if jwk.get("kty") == "oct" or jwk.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(dict(jwk))
        except jwt.PyJWTError:
            continue  # a kind of key that we do not know is nothing that we could believe
        if key.algorithm_name in rules.algorithms:
            yield key_id, key


def _reason(error: Exception) -> str:
    """The library's words where they are its own; texts about the token's content are not repeated."""
    import jwt

    match error:
        case jwt.InvalidAudienceError():
            return "it is for another audience"
        case jwt.MissingRequiredClaimError():
            return f"it has no claim {error.claim!r}"
        case jwt.ImmatureSignatureError() | jwt.InvalidIssuedAtError():
            return "it is not valid yet"
        case jwt.InvalidSignatureError():
            return "its signature is not its issuer's"
        case _:
            return "it is not a well-formed token"


def _grant(rules: IssuerRules, payload: Mapping[str, Any]) -> TokenGrant:
    tenant = rules.tenant or _tenant(rules, payload)
    words = _claim(payload, rules.scopes_claim)
    named = words.split() if isinstance(words, str) else words if isinstance(words, list) else []
    scopes: set[str] = set()
    for word in (word for word in named if isinstance(word, str)):
        if rules.scopes:
            scopes.update(rules.scopes.get(word, ()))
        elif is_scope(word) and word != ADMIN:
            scopes.add(word)
    subject = payload.get("sub")
    who = f"jwt {rules.issuer} {subject}" if isinstance(subject, str) else f"jwt {rules.issuer}"
    expires_s = float(payload["exp"]) + rules.leeway_s
    return TokenGrant(who[:200], tenant, frozenset(scopes), expires_s if math.isfinite(expires_s) else 0.0)


def _tenant(rules: IssuerRules, payload: Mapping[str, Any]) -> str:
    value = _claim(payload, rules.tenant_claim)
    tenant = rules.tenants.get(value) if rules.tenants and isinstance(value, str) else value
    if not isinstance(tenant, str) or not is_tenant(tenant):
        raise Unauthenticated(f"the token names no tenant known here in its claim {rules.tenant_claim!r}")
    return tenant


def _claim(payload: Mapping[str, Any], path: str) -> Any:
    if path in payload:  # names that are URLs have dots of their own
        return payload[path]
    value: Any = payload
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
