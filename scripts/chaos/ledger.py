"""Chaos for the ledger: under serving and training on two nodes everything is killed, then the books are examined.

    python scripts/chaos/ledger.py --kills 100 --seed 1 [--store postgresql|sqlite] [--quick] [--json FILE]

SIGKILL of meters, the accountant, replicas, training workers, the second node's raylet and PostgreSQL, in an order that
the seed decides. Bars: the audit 0 uJ off, nothing posted twice, a receipt for every request that was answered, at most
2 % of the energy in `gap`, each joule of it explained. Exit status 1 if one is missed.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.chaos.course import STORES, Course  # noqa: E402

GAP_BAR = 0.02
GAPS_SHOWN = 25


def judged(result: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """(what, measured, bar, met)."""
    off_uj = sum(map(abs, result["off_uj"].values()))
    script_uj = sum(map(abs, result["script_off_uj"].values()))
    receipts, requests = result["receipts"], result["requests"]
    missing = receipts["lost"] + receipts["provisional"] + requests["without_receipt_id"]
    twice = f"{result['posted_twice']} twice, {result['holes']} holes"
    share, unexplained = result["gap_share"], result["gap_unexplained_uj"]
    killed, outages = sum(result["kills"].values()), result["outages"]
    return [
        ("kills", str(killed), f"{result['asked']}", killed == result["asked"]),
        ("audit", f"{off_uj} uJ off, {len(result['audit_faults'])} faults", "0, 0", result["audit_ok"] and not off_uj),
        ("postings against the script's counters", f"{script_uj} uJ off", "0", not script_uj),
        ("ranges of readings booked", twice, "0, 0", not (result["posted_twice"] or result["holes"])),
        ("answered without a settled receipt", f"{missing} of {requests['answered']}", "0", not missing),
        ("energy in gap", f"{share:.2%}", f"<= {GAP_BAR:.0%}", share <= GAP_BAR),
        ("gap that no kill explains", f"{unexplained} uJ", "0", not unexplained),
        ("times without a database that the status hid", str(outages.get("silent", 0)), "0", not outages.get("silent")),
    ]


def print_table(result: dict[str, Any]) -> None:
    kills = ", ".join(f"{count} {kind}" for kind, count in result["kills"].items())
    print(f"killed in {result['killing_s']:.0f} s: {kills}")
    print(f"times without a database: {result['outages']}")
    print(f"requests: {result['requests']}; jobs: {result['jobs']}; receipts: {result['receipts']}")
    print(f"{result['batches']} batches of {result['meters']} meters, {result['energy_uj'] / 1e6:.0f} J")
    print(f"seconds without a meter: {result['without_meter_s']}; {result['undelivered']} batches not delivered")
    print(f"{'in gap':>14} {'device':12} {'node':8} {'from s':>8} {'seconds':>8}  why")
    for gap in result["gaps"][:GAPS_SHOWN]:
        why = gap["why"] or "UNEXPLAINED"
        print(
            f"{gap['energy_uj']:11d} uJ {gap['device'][:12]:12} {gap['node']:8} {gap['from_s']:8.1f} "
            f"{gap['seconds']:8.1f}  {why}"
        )
    for fault in result["audit_faults"][:10]:
        print(f"audit: {fault}")
    for lost in result["receipts"]["lost_first"]:
        print(f"receipt: {lost}")
    for what, measured, bar, met in judged(result):
        print(f"{what}: {measured} (bar {bar}) {'met' if met else 'MISSED'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="decides order, node and pause of the kills")
    parser.add_argument("--pause-s", type=float, default=7.0, help="mean seconds between two kills")
    parser.add_argument("--store", choices=STORES, default="postgresql", help="where the books are kept")
    parser.add_argument("--quick", action="store_true", help="10 kills, about two minutes")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--keep", action="store_true", help="leave the directory of the run")
    options = parser.parse_args()
    if options.quick:
        options.kills, options.pause_s = min(options.kills, 10), min(options.pause_s, 2.5)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    course = Course(options.kills, options.seed, options.pause_s, options.store, options.keep)
    result = course.run()
    versions = {name: metadata.version(name) for name in ("ray", "torch", "sqlalchemy")}
    result |= {"versions": versions | {"python": platform.python_version()}, "cpus": os.cpu_count()}
    result["date"] = time.strftime("%Y-%m-%d")
    print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps({what: measured for what, measured, _, _ in judged(result)}))
    return 0 if all(met for *_, met in judged(result)) else 1


if __name__ == "__main__":
    sys.exit(main())
