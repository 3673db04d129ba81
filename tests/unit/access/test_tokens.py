"""JSON web tokens: what is believed, what is forged, and what they mean here."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from app.access.jwks import parse_key_set
from app.access.rules import IssuerRules
from app.access.snapshot import IssuerKeys
from app.access.tokens import TokenBook, TokenGrant
from app.errors import InvalidInput, Unauthenticated
from tests.fixtures.tokens import AUDIENCE, TokenIssuer

ISSUER = "https://issuer.test/"


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    return TokenIssuer(ISSUER)


def book_of(issuer: TokenIssuer, jwks: bytes | None = None, **rules: Any) -> TokenBook:
    made = IssuerRules(issuer=ISSUER, audience=AUDIENCE, jwks="/keys.json", **rules)
    return TokenBook([IssuerKeys(made, parse_key_set(jwks or issuer.jwks()))])


def grant(issuer: TokenIssuer, token: str, **rules: Any) -> TokenGrant:
    return book_of(issuer, **rules).grant(token, time.time())


def unsigned(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def test_a_good_token_says_who_and_what(issuer: TokenIssuer):
    found = grant(issuer, issuer.token(scope="infer:minilm read:report openid"))
    assert found.tenant == "acme"
    assert found.scopes == {"infer:minilm", "read:report"}
    assert found.who == f"jwt {ISSUER} somebody"


def test_elliptic_curves_are_believed_too():
    other = TokenIssuer(ISSUER)
    other.rotate("ec", kind="ec")
    assert grant(other, other.token()).tenant == "acme"


def forged(issuer: TokenIssuer) -> dict[str, tuple[str, str]]:
    stranger = TokenIssuer(ISSUER)
    payload = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "tenant": "acme", "scope": "admin"}
    head, _, signature = issuer.token().split(".")
    swapped = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    confused = unsigned({"alg": "HS256", "kid": "k1"}, payload).rpartition(".")[0]
    mac = base64.urlsafe_b64encode(hmac.digest(issuer.public_pem(), confused.encode(), hashlib.sha256)).decode()
    return {
        "another's key under the same id": (stranger.token(), "its signature is not its issuer's"),
        "another payload": (f"{head}.{swapped}.{signature}", "its signature is not its issuer's"),
        "no signature": (unsigned({"alg": "none"}, payload), "algorithm is not one of"),
        "none by another spelling": (unsigned({"alg": "nOnE", "kid": "k1"}, payload), "algorithm is not one of"),
        "the public key as a secret": (f"{confused}.{mac.rstrip('=')}", "algorithm is not one of"),
        "an algorithm that is not allowed": (
            jwt.encode(payload, stranger._keys["k1"], "RS512", headers={"kid": "k1"}),
            "algorithm is not one of RS256, ES256",
        ),
        "the wrong kind of key": (unsigned({"alg": "ES256", "kid": "k1"}, payload, b"x" * 64), "is for RS256"),
        "expired": (issuer.token(lasts_s=-60), "has expired"),
        "not yet": (issuer.token(nbf=int(time.time()) + 600), "not valid yet"),
        "for others": (issuer.token(aud="elsewhere"), "another audience"),
        "for nobody": (issuer.token(aud=None), "no claim 'aud'"),
        "for ever": (issuer.token(exp=None), "no claim 'exp'"),
        "of another issuer": (issuer.token(iss="https://evil.test/"), "issuer is not among"),
        "of no issuer": (issuer.token(iss=None), "issuer is not among"),
        "an issuer that is a list": (issuer.token(iss=None, **{"iss ": 1}), "issuer is not among"),
        "a critical extension": (issuer.token(headers={"crit": ["exp2"], "exp2": 1}), "not a well-formed token"),
        "no tenant": (issuer.token(tenant=None), "names no tenant"),
        "a strange tenant": (issuer.token(tenant="../etc"), "names no tenant"),
        "a tenant that is a number": (issuer.token(tenant=7), "names no tenant"),
        "not a token": ("abc.def.ghi", "not a well-formed token"),
        "one part": ("abc", "not a well-formed token"),
        "a key id that is a list": (unsigned({"alg": "RS256", "kid": ["k1"]}, payload, b"x"), "token"),
    }


@pytest.mark.parametrize("kind", list(forged(TokenIssuer(ISSUER))))
def test_bad_tokens_are_refused_and_not_repeated(issuer: TokenIssuer, kind: str):
    token, says = forged(issuer)[kind]
    with pytest.raises(Unauthenticated) as caught:
        grant(issuer, token)
    assert says in str(caught.value)
    assert token not in str(caught.value)


def test_a_remembered_token_still_expires(issuer: TokenIssuer):
    book, token = book_of(issuer, leeway_s=0), issuer.token(lasts_s=600)
    book.grant(token, time.time())
    with pytest.raises(Unauthenticated, match="expired"):
        book.grant(token, time.time() + 601)


def test_leeway_forgives_a_clock_that_is_a_little_off(issuer: TokenIssuer):
    assert grant(issuer, issuer.token(lasts_s=-10), leeway_s=30).tenant == "acme"


def test_a_token_that_is_too_long_is_not_even_parsed(issuer: TokenIssuer):
    with pytest.raises(Unauthenticated, match="at most 8192"):
        grant(issuer, issuer.token(padding="x" * 9000))


def test_an_unknown_key_id_is_told_so_that_the_key_set_can_be_fetched(issuer: TokenIssuer):
    book = book_of(issuer)
    for number in range(100):
        with pytest.raises(Unauthenticated, match="if it is new, try again"):
            book.grant(issuer.token(headers={"kid": f"new-{number}"}), time.time())
    assert "new-0" in book.unknown_key_ids
    assert len(book.unknown_key_ids) <= 16


def test_a_set_of_one_key_serves_tokens_that_name_none(issuer: TokenIssuer):
    anonymous = json.loads(issuer.jwks())
    del anonymous["keys"][0]["kid"]
    book = book_of(issuer, json.dumps(anonymous).encode())
    payload = jwt.decode(issuer.token(), options={"verify_signature": False})
    token = jwt.encode(payload, issuer._keys[issuer.newest], "RS256")
    assert book.grant(token, time.time()).tenant == "acme"


def test_nobody_is_admin_by_the_issuers_own_word_but_by_ours(issuer: TokenIssuer):
    assert grant(issuer, issuer.token(scope="admin")).scopes == frozenset()
    mapped = grant(
        issuer, issuer.token(scope=None, roles=["boss", "x", 3]), scopes_claim="roles", scopes={"boss": ("admin",)}
    )
    assert mapped.scopes == {"admin"}
    unmapped = grant(issuer, issuer.token(scope="infer:minilm"), scopes={"boss": ("admin",)})
    assert unmapped.scopes == frozenset()


def test_tenants_can_be_mapped_nested_or_fixed(issuer: TokenIssuer):
    token = issuer.token(org={"name": "Acme Corp."})
    assert grant(issuer, token, tenant_claim="org.name", tenants={"Acme Corp.": "acme"}).tenant == "acme"
    assert grant(issuer, issuer.token(tenant=None), tenant="fixed").tenant == "fixed"
    with pytest.raises(Unauthenticated, match="names no tenant"):
        grant(issuer, token, tenant_claim="org.name", tenants={"Other": "acme"})
    with pytest.raises(Unauthenticated, match="names no tenant"):
        grant(issuer, token, tenant_claim="org.name.deeper")


def test_symmetric_keys_and_private_parts_go_no_further(issuer: TokenIssuer):
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "hs", "alg": "HS256"}
    leaked = {**json.loads(issuer.jwks())["keys"][0], "kid": "leaked", "d": "private", "use": "sig"}
    keys = parse_key_set(issuer.jwks([secret, leaked]))
    assert set(keys) == {"k1", "leaked"}
    assert "d" not in keys["leaked"]
    with pytest.raises(InvalidInput, match="is no JWK set"):
        parse_key_set(b"<html>")


def test_without_issuers_tokens_are_not_taken():
    with pytest.raises(Unauthenticated, match="no issuer is configured"):
        TokenBook(()).grant("a.b.c", 0.0)
