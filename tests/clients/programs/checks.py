"""Runs the checks of one client program against the doors it is given, and prints a JSON object: check to outcome.

Knows nothing of the package or of pytest: it runs in the client's own environment. A check is a function that takes
`Doors` and raises what it finds wrong; its outcome is "ok" or the traceback.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Doors:
    """Where to knock."""

    http: str
    """host:port."""
    grpc: str
    """host:port."""
    ca: str
    """File with the certificate authority of TLS; empty: plain."""
    names_application: bool
    """Whether gRPC calls must name the application in their metadata, as without the edge."""

    def metadata(self, application: str) -> dict[str, str]:
        """Metadata of a call to `application`."""
        return {"application": application} if self.names_application else {}


def run(*checks: Callable[[Doors], None]) -> None:
    """Run those `checks` that the command line does not leave out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--http-door", required=True)
    parser.add_argument("--grpc-door", required=True)
    parser.add_argument("--ca", default="")
    parser.add_argument("--names-application", action="store_true")
    arguments = parser.parse_args()
    doors = Doors(arguments.http_door, arguments.grpc_door, arguments.ca, arguments.names_application)
    outcomes = {}
    for check in checks:
        try:
            check(doors)
            outcomes[check.__name__] = "ok"
        except BaseException:
            outcomes[check.__name__] = traceback.format_exc()
    json.dump(outcomes, sys.stdout)
