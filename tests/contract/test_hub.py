"""A hub id through the hub's own client, from a local server that answers as the hub's API does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "pytorch_model.bin": b"pickle", "a.h5": b"x"}


class Hub(BaseHTTPRequestHandler):
    """GET /api/models/ORG/NAME/revision/REV and GET, HEAD /ORG/NAME/resolve/COMMIT/FILE."""

    files = FILES
    asked: list[str]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        self.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if path == "/api/models/acme/tone/revision/main":
            self._send(200, json.dumps(self._info()).encode(), with_body, {"content-type": "application/json"})
        elif path.startswith(f"/acme/tone/resolve/{COMMIT}/") and (name := path.rpartition("/")[2]) in FILES:
            headers = {"etag": f'"{hashlib.sha256(FILES[name]).hexdigest()}"', "x-repo-commit": COMMIT}
            self._send(200, self.files[name], with_body, headers)
        else:
            code = "RevisionNotFound" if "/acme/tone/" in path else "RepoNotFound"
            self._send(404, b"{}", with_body, {"x-error-code": code, "x-error-message": "not here"})

    def _info(self):
        siblings = []
        for name, content in FILES.items():
            siblings.append({"rfilename": name, "size": len(content), "blobId": "0" * 40})
            if name.endswith((".safetensors", ".bin")):
                digest = hashlib.sha256(content).hexdigest()
                siblings[-1]["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
        return {"id": "acme/tone", "modelId": "acme/tone", "sha": COMMIT, "siblings": siblings, "tags": []}

    def _send(self, status, body, with_body, headers):
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def hub():
    handler = type("Served", (Hub,), {"asked": [], "files": dict(FILES)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def command(tmp_path, hub_url, *words):
    """The command itself: the client reads HF_ENDPOINT when it is imported."""
    environment = os.environ | {
        "HF_ENDPOINT": hub_url,
        "HF_HOME": str(tmp_path / "hf"),
        "JOULEKEEPER_MODELS": str(tmp_path / "models"),
    }
    call = [sys.executable, "-m", "app", "models", *words]
    return subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_revision_is_resolved_to_its_commit_and_only_safe_files_are_fetched(hub, tmp_path):
    words = ("import", "tone", "hf:acme/tone@main", "--code", "tests.fixtures.echo:Upper")
    result = command(tmp_path, hub.url, *words)
    assert (result.returncode, result.stdout) == (0, "tone@1\n"), result.stderr
    card = json.loads(command(tmp_path, hub.url, "show", "tone", "--json").stdout)
    assert card["origin"] == f"hf:acme/tone@{COMMIT}"
    expected = {name: hashlib.sha256(FILES[name]).hexdigest() for name in ("config.json", "model.safetensors")}
    assert card["files"] == expected
    assert not [asked for asked in hub.asked if "pytorch_model.bin" in asked]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("acme/nobody@main", "is not on the hub"),
        ("acme/tone@v9", "is not on the hub"),
        ("acme/tone", "names no revision"),
        ("a b/c@main", "is no hub id"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(hub, tmp_path, reference, message):
    result = command(tmp_path, hub.url, "import", "tone", f"hf:{reference}", "--code", "tests.fixtures.echo:Upper")
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_the_one_listed_is_refused(hub, tmp_path):
    hub.files["model.safetensors"] = b"another" * 1000
    words = ("import", "tone", "hf:acme/tone@main", "--code", "tests.fixtures.echo:Upper")
    result = command(tmp_path, hub.url, *words)
    assert result.returncode != 0
    assert not (tmp_path / "models" / "tone" / "1").exists()
