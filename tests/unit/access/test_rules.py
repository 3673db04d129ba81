"""The rules of access: every fault is named, and nothing that could not be meant is taken."""

from pathlib import Path

import pytest

from app.access.peers import is_loopback
from app.access.rules import AccessRules, Quotas, read_rules
from app.errors import InvalidInput

GOOD = """
tenants:
  acme: {requests_per_s: 50, joules_per_day: 20000}
  "*": {requests_per_s: 5}
issuers:
  - issuer: https://login.example.org/
    audience: joulekeeper
    jwks: https://login.example.org/jwks.json
    scopes: {ml-admins: [admin]}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "access.yaml"
    path.write_text(text)
    return path


def test_rules_are_read_and_those_of_others_hold_for_whom_none_are_named(tmp_path: Path):
    rules = read_rules(write(tmp_path, GOOD))
    assert rules.quotas_of("acme") == Quotas(requests_per_s=50, joules_per_day=20000)
    assert rules.quotas_of("elsewhere") == Quotas(requests_per_s=5)
    assert rules.issuers[0].algorithms == ("RS256", "ES256")


def test_without_a_file_or_with_an_empty_one_there_are_no_rules(tmp_path: Path):
    assert read_rules(tmp_path / "none.yaml") == read_rules(write(tmp_path, "")) == AccessRules()


ISSUER = "issuers: [{{issuer: a, audience: b, jwks: {jwks}, algorithms: {algorithms}}}]"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tenants: {acme: {requests: 5}}", "tenants.acme.requests: Extra inputs"),
        ("tenants: {acme: {requests_per_s: 0}}", "greater than 0"),
        ("tenants: {a/b: {}}", "a tenant is"),
        (ISSUER.format(jwks="https://a/b", algorithms="[HS256]"), "issuers.0.algorithms.0"),
        (ISSUER.format(jwks="https://a/b", algorithms="[none]"), "issuers.0.algorithms.0"),
        (ISSUER.format(jwks="https://a/b", algorithms="[]"), "at least 1 item"),
        (ISSUER.format(jwks="http://a/b", algorithms="[RS256]"), "must come from an https URL or a file"),
        (ISSUER.format(jwks="ftp://a/b", algorithms="[RS256]"), "must come from an https URL or a file"),
        ("issuers: [{issuer: a, audience: b, jwks: /x, scopes: {x: [root]}}]", "scopes must be"),
        ("issuers: [{issuer: a, audience: b, jwks: /x, tenant: 'a b'}]", "a tenant is"),
        ("issuers: [{issuer: a, audience: b, jwks: /x}, {issuer: a, audience: c, jwks: /y}]", "stands there twice"),
        ("colour: red", "colour: Extra inputs"),
        ("- a", "valid dictionary"),
        ("a: [", "cannot be read"),
    ],
)
def test_what_could_not_be_meant_is_refused(tmp_path: Path, text: str, says: str):
    with pytest.raises(InvalidInput, match=r"access\.yaml") as caught:
        read_rules(write(tmp_path, text))
    assert says in str(caught.value)


def test_a_key_set_may_come_from_this_machine_without_tls(tmp_path: Path):
    text = ISSUER.format(jwks="http://127.0.0.1:8080/jwks.json", algorithms="[RS256]")
    assert read_rules(write(tmp_path, text)).issuers[0].jwks.startswith("http://127")


def test_peers_of_odd_shapes_are_strangers():
    assert not any(map(is_loopback, ("ipv4", "ipv6:", "localhost.evil.test", "127.0.0.1.evil.test", "0.0.0.0", "%lo")))
