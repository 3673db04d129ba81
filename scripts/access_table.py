"""Writes docs/serving/access-table.md: starts a cluster with access required and asks every route in every wrong way.

Takes Ray's default ports; ends what it started. Knows nothing of what should be: tests/ray/guarded/test_access.py does.

    python scripts/access_table.py
"""

import importlib
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_HEAD = """\
<!-- Written by `scripts/access_table.py` on a real cluster; tests/ray/guarded/test_access.py fails when it differs. -->
# Who gets in: what every route gave

One cluster of one machine, Ray 2.60 in Serve's fast mode, `JOULEKEEPER_ACCESS=required`, a model `echo`. Columns: a
key of tenant acme with `infer:echo`, `infer:nowhere` and `read:report`; a key with `admin`; a token of an issuer with
what the first key has; nothing; a key that was never made; a key of acme with `infer:another` alone; a key like the
first, of another tenant (the receipt asked for is acme's; by POST it is told as missing, and reports hold that tenant's
own figures); a token that has expired; a token signed by another key under the right id; a key whose tenant has used up
its requests. In the last column questions about a model by gRPC, which no quota counts, are answered.
[What it all means](access.md).

"""
_OWN = """\
## Ray's own doors

Asked without any key; the second figure is from the machine's own address instead of loopback, with `http_options.host`
127.0.0.1. They know nothing of Joulekeeper's keys: [what to do about them](access.md#rays-own-doors).

| door | over loopback | from elsewhere |
|---|---|---|
"""


def main() -> None:
    """Start, ask, write."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    sys.path.insert(0, str(ROOT))
    access = importlib.import_module("tests.ray.guarded.test_access")
    table = importlib.import_module("tests.fixtures.access_table")
    clusters = importlib.import_module("tests.fixtures.ray_cluster")
    with tempfile.TemporaryDirectory() as directory:
        state_dir = Path(directory)
        guarded = access.Guarded(state_dir, table.House(state_dir))
        with clusters.RayCluster(guarded.state_dir, environment={"JOULEKEEPER_ACCESS": "required"}) as cluster:
            cluster.deploy(table.config())
            guarded.fill()
            own = list(table.rays_doors(table.own_address()))
    lines = [f"| {door} | {near} | {far} |" for door, near, far in own]
    access.TABLE.write_text(_HEAD + table.as_markdown(guarded.rows) + "\n" + _OWN + "\n".join(lines) + "\n")
    print(f"wrote {access.TABLE.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
