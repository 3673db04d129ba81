"""Tickets: short-lived tokens by which the console asks models in the name of a tenant whose work it kept for later.

No key of a client is ever kept. The office signs with a private key of its own (0600 in the directory of access); gates
believe it as they believe any issuer, by a public key set beside it. A ticket opens what it names and no more: one
tenant, the scopes of the work, ten minutes; never `admin`. Knows nothing of HTTP or Ray.

    office = TicketOffice(directory, clock)
    authorization = office.ticket("acme", ["infer:minilm"], "batch_1")         # "Bearer eyJ..."
    own_issuers(directory)                                                     # what the desk adds to its rules
"""

import json
from collections.abc import Sequence
from pathlib import Path

from app.access.private_files import make_private_directory, replace_private
from app.access.rules import IssuerRules
from app.access.scopes import ADMIN, checked_scopes, checked_tenant
from app.clock import Clock
from app.errors import InvalidInput, Unavailable
from app.units import NS_PER_S

ISSUER, AUDIENCE = "joulekeeper:batches", "joulekeeper:models"
PRIVATE_FILE, PUBLIC_FILE = "batches-key.pem", "batches-jwks.json"
LASTS_S = 600.0
_RENEWED_S = 120.0
"""Before it expires: a request may wait in a model's queue."""


class TicketOffice:
    """For one thread. Makes its key pair when first needed; raises Unavailable where it cannot."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory, self._clock = directory, clock
        self._key: object = None
        self._key_id = ""
        self._made: dict[tuple[str, frozenset[str], str], tuple[str, float]] = {}

    def ticket(self, tenant: str, scopes: Sequence[str], work: str) -> str:
        """The value of `authorization`; the same one until shortly before it expires. Raises InvalidInput."""
        held = checked_scopes(scopes)
        if ADMIN in held:
            raise InvalidInput("a ticket never has the scope admin; name the models")
        now_s = self._clock.wall_ns() / NS_PER_S
        asked = (checked_tenant(tenant), held, work)
        text, expires_s = self._made.get(asked, ("", 0.0))
        if now_s >= expires_s - _RENEWED_S:
            self._made = {key: made for key, made in self._made.items() if made[1] > now_s}
            text, expires_s = self._signed(*asked, now_s), now_s + LASTS_S
            self._made[asked] = (text, expires_s)
        return f"Bearer {text}"

    def open(self) -> None:
        """Have the key pair: gates hear of it within seconds, so it is made before the first ticket is needed."""
        if self._key is not None:
            return
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        path = self._directory / PRIVATE_FILE
        try:
            if not path.exists() or not (self._directory / PUBLIC_FILE).exists():
                _make_pair(self._directory)
            self._key = load_pem_private_key(path.read_bytes(), None)
            self._key_id = json.loads((self._directory / PUBLIC_FILE).read_bytes())["keys"][0]["kid"]
        except (OSError, ValueError, LookupError) as error:
            raise Unavailable(f"{path}: the key that signs tickets cannot be had: {error}") from error

    def _signed(self, tenant: str, scopes: frozenset[str], work: str, now_s: float) -> str:
        import jwt

        self.open()
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": work,
            "tenant": tenant,
            "scope": " ".join(sorted(scopes)),
            "exp": int(now_s + LASTS_S),
        }
        return jwt.encode(payload, self._key, algorithm="EdDSA", headers={"kid": self._key_id})  # type: ignore[arg-type]


def own_issuers(directory: Path) -> tuple[IssuerRules, ...]:
    """The office as an issuer; nobody where it never had to sign."""
    path = directory / PUBLIC_FILE
    if not path.exists():
        return ()
    return (IssuerRules(issuer=ISSUER, audience=AUDIENCE, jwks=str(path), algorithms=("EdDSA",), leeway_s=5.0),)


def _make_pair(directory: Path) -> None:
    import jwt
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = Ed25519PrivateKey.generate()
    public = jwt.get_algorithm_by_name("EdDSA").to_jwk(private.public_key(), as_dict=True)
    public |= {"kid": public["x"][:16], "use": "sig", "alg": "EdDSA"}
    make_private_directory(directory)
    replace_private(directory / PRIVATE_FILE, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    replace_private(directory / PUBLIC_FILE, json.dumps({"keys": [public]}).encode())
