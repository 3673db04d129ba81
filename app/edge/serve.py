"""What Serve tells an edge: where applications answer, and with which arguments they were deployed.

Knows nothing of what an edge makes of it. Does not import Ray: a process beside it that stays small. The HTTP door's
list costs Serve nothing (its HAProxy answers) and is asked every second; the dashboard's details cost the controller
some milliseconds.

    applications("127.0.0.1:8000")               # {"/v2/models/minilm": "minilm", "/": "console"}
    arguments("http://127.0.0.1:8265")           # {"minilm": {"name": "minilm", ...}, "console": {}}

Both raise Unavailable.
"""

import json
import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.errors import Unavailable

_PATIENCE_S = 3.0


def applications(door: str) -> dict[str, str]:
    """Prefix to application, as Serve's HTTP door `host:port` routes; models at zero replicas are among them."""
    routes = _get(f"http://{door}/-/routes", {})
    return {prefix: name for prefix, name in routes.items() if isinstance(name, str)}


def arguments(dashboard: str) -> dict[str, Mapping[str, Any]]:
    """Application to the arguments of its deployment file."""
    details = _get(f"{dashboard}/api/serve/applications/", _credentials())
    return {
        name: (application.get("deployed_app_config") or {}).get("args") or {}
        for name, application in details.get("applications", {}).items()
    }


def _get(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=_PATIENCE_S) as answer:
            told = json.load(answer)
    except (OSError, ValueError) as error:
        raise Unavailable(f"no answer from {url}: {error}") from error
    if not isinstance(told, dict):
        raise Unavailable(f"{url} answers {told!r}, which is not what Serve tells")
    return told


def _credentials() -> dict[str, str]:
    """The cluster's token where RAY_AUTH_MODE=token, from where Ray's own clients take it."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return {}
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not token and path.exists():
        token = path.read_text().strip()
    return {"authorization": f"Bearer {token}"} if token else {}
