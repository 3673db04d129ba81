"""Waits until a model is ready, telling meanwhile what Serve says about it. Standard library only.

Knows nothing of how the model was deployed or what it takes: asking whether it is ready wakes one that sleeps at zero
replicas, as any request does. Exit status 0: it is ready; 1: Serve gave up on it or the time is over, with Serve's own
words.

    python scripts/await_model.py --url http://127.0.0.1:8000/v2/models/minilm/ready --application minilm
"""

import argparse
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FAILED = ("DEPLOY_FAILED",)
_RETRY_S = 0.5


def summary(applications: Mapping[str, Any], name: str) -> str:
    """What Serve says of one application in a line: `DEPLOYING; Encoder UPDATING, 1 STARTING`."""
    application = applications.get(name)
    if application is None:
        return "not known to Serve yet"
    parts = [str(application.get("status", "?"))]
    for title, deployment in application.get("deployments", {}).items():
        states = [replica["state"] for replica in deployment.get("replicas", [])]
        counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "0 replicas"
        parts.append(f"{title} {deployment.get('status', '?')}, {counts}")
    return "; ".join(parts)


def failure(applications: Mapping[str, Any], name: str) -> str:
    """Why Serve gave up on an application; empty as long as it has not."""
    application = applications.get(name, {})
    if application.get("status") not in _FAILED:
        return ""
    messages = [application.get("message", "")]
    messages += [deployment.get("message", "") for deployment in application.get("deployments", {}).values()]
    return "\n".join(dict.fromkeys(message for message in messages if message)) or application["status"]


class Watch:
    """Polls Serve's REST interface, prints every change, remembers a failure."""

    def __init__(self, dashboard: str, application: str, started_s: float) -> None:
        self.failure = ""
        self._url = f"{dashboard}/api/serve/applications/"
        self._application = application
        self._started_s = started_s
        self._last = ""

    def poll(self) -> None:
        """Ask once. A dashboard that does not answer is no news."""
        request = urllib.request.Request(self._url, headers=_token_header())
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                applications = json.load(answer).get("applications", {})
        except (OSError, ValueError):
            return
        line = summary(applications, self._application)
        if line != self._last:
            print(f"[{time.monotonic() - self._started_s:3.0f}s] {self._application}: {line}", flush=True)
            self._last = line
        self.failure = failure(applications, self._application)

    def run(self, done: threading.Event) -> None:
        """Poll until `done`."""
        while not done.wait(1.0):
            self.poll()


def answers(url: str, timeout_s: float) -> str:
    """Ask once whether the model is ready. Empty: it is; otherwise what came instead."""
    request = urllib.request.Request(url, headers=_key_header())
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            text = answer.read(300).decode(errors="replace").strip()
        found = json.loads(text)
        return "" if isinstance(found, dict) and found.get("ready") else f"not ready: {text}"
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}: {error.read(300).decode(errors='replace').strip()}"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def wait(url: str, watch: Watch, deadline_s: float) -> str:
    """Ask until it answers. Empty: it did; otherwise why we stopped asking."""
    reason = "no time was given"
    while (left_s := deadline_s - time.monotonic()) > 0:
        reason = answers(url, min(60.0, left_s))
        if not reason:
            return ""
        if watch.failure:
            return f"Serve gave up:\n{watch.failure}"
        time.sleep(_RETRY_S)
    return f"no answer in time; the last one was {reason}"


def _key_header() -> dict[str, str]:
    """The API key in AWAIT_KEY, where access is required."""
    key = os.environ.get("AWAIT_KEY", "")
    return {"x-api-key": key} if key else {}


def _token_header() -> dict[str, str]:
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return {}
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    token = os.environ.get("RAY_AUTH_TOKEN") or (path.read_text() if path.exists() else "")
    return {"Authorization": f"Bearer {token.strip()}"}


def main() -> int:
    """Wait as the arguments say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--application", required=True)
    parser.add_argument("--dashboard", default="http://127.0.0.1:8265")
    parser.add_argument("--timeout-s", type=float, default=180.0)
    parser.add_argument("--elapsed-s", type=float, default=0.0, help="added to the printed times")
    args = parser.parse_args()
    now_s = time.monotonic()
    watch, done = Watch(args.dashboard, args.application, now_s - args.elapsed_s), threading.Event()
    thread = threading.Thread(target=watch.run, args=(done,), daemon=True)
    thread.start()
    reason = wait(args.url, watch, now_s + args.timeout_s)
    done.set()
    thread.join()
    if reason:
        print(f"{args.application} is not ready at {args.url}: {reason}", file=sys.stderr)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
