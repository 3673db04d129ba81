"""Key sets over real HTTP: fetched, rotated, out of reach, and hostile; and TLS to the store is passed on."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

from app.access.desk import KEYS_FILE, RULES_FILE, AccessDesk
from app.access.gate import Gate
from app.access.jwks import fetch
from app.clock import ManualClock
from app.errors import Unauthenticated, Unavailable
from app.ledger.database import _engine, _parsed
from app.units import NS_PER_S
from tests.fixtures.tokens import AUDIENCE, TokenIssuer

ISSUER = "https://issuer.test/"


class Source:
    """An issuer's web server."""

    def __init__(self) -> None:
        self.issuer = TokenIssuer(ISSUER)
        self.status, self.body = 200, b""
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = source.body or source.issuer.jwks()
                self.send_response(source.status)
                self.send_header("location", "http://169.254.169.254/")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/jwks.json"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source()
    yield source
    source.close()


class Site:
    """A desk and a gate, ten seconds a step, so that nothing is held back for having been tried just now."""

    def __init__(self, directory: Path, jwks: str) -> None:
        rules = {"issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "jwks": jwks, "refresh_s": 60, "keep_s": 300}]}
        (directory / RULES_FILE).write_text(yaml.safe_dump(rules))
        self.clock = ManualClock()
        self.desk, self.gate = AccessDesk(directory, lambda _: {}, self.clock), Gate.required(self.clock)
        self.step()

    def step(self, seconds: float = 10) -> None:
        self.clock.advance(int(seconds * NS_PER_S))
        self.desk.keep_up()
        self.gate.renew(self.desk.answer(self.gate.poll("g")))

    def admits(self, token: str) -> bool:
        try:
            self.gate.admit(f"Bearer {token}", "infer:minilm")
        except Unauthenticated:
            return False
        return True


def test_a_key_set_is_fetched_and_its_rotation_followed(source: Source, tmp_path: Path):
    site = Site(tmp_path, source.url)
    old = source.issuer.token()
    assert site.admits(old)
    source.issuer.rotate("k2", kind="ec")
    new = source.issuer.token()
    assert not site.admits(new)  # which has the set fetched again
    site.step()
    site.step()
    assert site.admits(new)
    assert site.admits(old)
    source.issuer.rotate("k3", keep=False)
    site.step(61)
    assert not site.admits(old)


@pytest.mark.parametrize("status", [500, 302])
def test_an_outage_keeps_the_last_keys_for_as_long_as_the_rules_say(source: Source, tmp_path: Path, status: int):
    site = Site(tmp_path, source.url)
    token = source.issuer.token()
    source.status = status
    site.step(120)
    assert site.admits(token)
    assert "cannot be had" in site.desk.warnings[0]
    site.step(301)
    assert not site.admits(token)
    source.status = 200
    site.step()
    assert site.admits(token)
    assert site.desk.warnings == ()


def test_a_server_that_is_gone_or_talks_nonsense_is_an_outage(source: Source, tmp_path: Path):
    source.body = b"<html>maintenance</html>"
    site = Site(tmp_path, source.url)
    assert not site.admits(source.issuer.token())
    assert "no JWK set" in site.desk.warnings[0]
    source.body = b"x" * (2 * 1024 * 1024)
    with pytest.raises(Unavailable, match="more than"):
        fetch(source.url)
    source.close()
    with pytest.raises(Unavailable, match="ConnectError"):
        fetch(source.url)


def test_a_key_set_may_be_a_file_that_changes(tmp_path: Path):
    issuer, path = TokenIssuer(ISSUER), tmp_path / "jwks.json"
    path.write_bytes(issuer.jwks())
    site = Site(tmp_path, str(path))
    assert site.admits(issuer.token())
    path.unlink()
    with pytest.raises(Unavailable, match="No such file"):
        fetch(str(path))
    assert (tmp_path / KEYS_FILE).exists() is False


def test_tls_to_postgresql_is_passed_on_to_the_driver():
    url = (
        "postgresql://books:secret@db.example.org/books?sslmode=verify-full&sslrootcert=/etc/ca.pem&sslcert=/etc/c.pem"
    )
    engine = _engine(url)
    _, arguments = engine.dialect.create_connect_args(_parsed(url))
    assert engine.dialect.driver == "psycopg"
    assert arguments["sslmode"] == "verify-full"
    assert (arguments["sslrootcert"], arguments["sslcert"]) == ("/etc/ca.pem", "/etc/c.pem")
    assert "secret" not in repr(engine.url)
    assert "secret" in make_url(url).render_as_string(hide_password=False)
