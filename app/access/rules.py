"""The rules of access: what tenants may use, and whose tokens are believed; read from one YAML file.

Knows nothing of keys, which are made by command and kept elsewhere. Everything is refused that could not be meant:
unknown keys, symmetric algorithms from a key set that anybody can read, key sets over plain HTTP.

    tenants:
      acme: {requests_per_s: 50, tokens_per_min: 100000, joules_per_day: 20000, gco2e_per_day: 5}
      "*": {requests_per_s: 5}                                     # every tenant that is not named
    issuers:
      - issuer: https://login.example.org/
        audience: joulekeeper
        jwks: https://login.example.org/.well-known/jwks.json      # or the path of a file
        scopes: {ml-users: ["infer:*"], ml-admins: [admin]}        # what the token's words mean here
"""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from app.access.scopes import checked_scopes, checked_tenant
from app.errors import InvalidInput

OTHERS = "*"
"""The tenant whose quotas hold for every tenant without quotas of its own, for each of them alone."""

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip
"""Signatures that only the issuer can make. HS*: whoever can check one can make one; none: anybody can."""


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quotas(_Rules):
    """What one tenant may use. None: without bound."""

    requests_per_s: float | None = Field(default=None, gt=0)
    """Requests a second, averaged over the two seconds of a lease."""
    tokens_per_min: float | None = Field(default=None, gt=0)
    """Units of work a minute as the model counts them: tokens of text models, rows of others."""
    joules_per_day: float | None = Field(default=None, gt=0)
    """Energy of its requests and jobs on the books since midnight, UTC."""
    gco2e_per_day: float | None = Field(default=None, gt=0)
    """The carbon of that energy."""

    @property
    def are_daily(self) -> bool:
        """Whether the ledger has to be asked."""
        return self.joules_per_day is not None or self.gco2e_per_day is not None


class IssuerRules(_Rules):
    """One issuer of JSON web tokens (RFC 7519) and what its tokens mean here."""

    issuer: str = Field(min_length=1)
    """The `iss` of its tokens, to the letter."""
    audience: str = Field(min_length=1)
    """The `aud` that its tokens must have, ours."""
    jwks: str = Field(min_length=1)
    """Where its key set (RFC 7517) is: an https URL, http on loopback, or the path of a file."""
    algorithms: tuple[Algorithm, ...] = Field(default=("RS256", "ES256"), min_length=1)
    """Signature algorithms that are believed."""
    leeway_s: float = Field(default=30.0, ge=0, le=300)
    """How far the issuer's clock may be from ours."""
    refresh_s: float = Field(default=300.0, ge=5)
    """Age at which the key set is fetched again; a token with an unknown key id has it fetched sooner."""
    keep_s: float = Field(default=86_400.0, ge=60)
    """How long the last key set is believed while its source does not answer."""
    tenant: str = ""
    """Tenant of all its tokens; empty: each names its own in `tenant_claim`."""
    tenant_claim: str = "tenant"
    """Claim that names the tenant; a dot goes one deeper: `resource.tenant`."""
    tenants: Mapping[str, str] = {}
    """What the values of that claim mean here. Empty: the value is the tenant."""
    scopes_claim: str = "scope"
    """Claim with the scopes: one text with blanks between them, or a list."""
    scopes: Mapping[str, tuple[str, ...]] = {}
    """What the values of that claim mean here. Empty: `infer:...` and `read:report` mean themselves, and nobody is
    admin: an issuer's own `admin` need not be ours."""

    @field_validator("jwks")
    @classmethod
    def _where_nobody_listens(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme in ("", "file") or parts.scheme == "https" or _is_loopback(parts.hostname or ""):
            return value
        raise ValueError("a key set must come from an https URL or a file: whoever alters it on its way makes tokens")

    @field_validator("scopes")
    @classmethod
    def _known_scopes(cls, value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for meant in value.values():
            _as_value_error(checked_scopes, meant)
        return value

    @model_validator(mode="after")
    def _known_tenants(self) -> Self:
        for name in (*self.tenants.values(), *filter(None, [self.tenant])):
            _as_value_error(checked_tenant, name)
        return self


class AccessRules(_Rules):
    """The whole file."""

    tenants: Mapping[str, Quotas] = {}
    issuers: tuple[IssuerRules, ...] = ()

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [issuer.issuer for issuer in self.issuers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"issuer {twice[0]!r} stands there twice; join the two")
        for name in self.tenants.keys() - {OTHERS}:
            _as_value_error(checked_tenant, name)
        return self

    def quotas_of(self, tenant: str) -> Quotas | None:
        """The quotas of a tenant; None: it has none."""
        return self.tenants.get(tenant) or self.tenants.get(OTHERS)


def read_rules(path: Path) -> AccessRules:
    """The rules in a file; none without one. Raises InvalidInput naming every fault."""
    try:
        found: Any = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return AccessRules()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    try:
        return AccessRules.model_validate(found or {})
    except ValidationError as error:
        raise InvalidInput(f"{path}: {'; '.join(map(_sentence, error.errors()))}") from error


def _sentence(fault: ErrorDetails) -> str:
    place = ".".join(map(str, fault["loc"])) or "the file"
    return f"{place}: {fault['msg'].removeprefix('Value error, ')}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _as_value_error(check: Any, value: object) -> None:
    try:
        check(value)
    except InvalidInput as error:
        raise ValueError(str(error)) from error
