"""The governor of concurrency against the best fixed limit of sequences that meets the latency objectives.

    python scripts/bench/governor_tokens.py [--gap-ms 50] [--quick] [--json FILE]
    python scripts/bench/governor_tokens.py --live [--model DIRECTORY] [--clock cpu] [--quick] [--json FILE]

Offline: measured runs of language models, ML.ENERGY leaderboard v2 (of gaps between tokens it has the mean alone, which
is taken for the p90) and benchmark v3 (p90), governor_tokens_offline.py. Bar: J per token <= 1.10 x the best limit
feasible under a p90 gap of 50 ms, median over models, for each of the two.
Live: governor_tokens_live.py, our engine in this process under prompts at chance times, fixed limits swept in the same
run. Bar: J per token <= 1.15 x the best fixed limit that meets the objectives, and the objectives met.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import governor_tokens_offline  # noqa: E402

DATA = ROOT.parent / "shared" / "data"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--model", type=Path, help="a directory as training publishes it; without: a tiny random one")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where the machine is busy")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--gap-ms", type=float, default=50.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.live:
        import governor_tokens_live

        result, met = governor_tokens_live.run(options.model, options.gap_ms, options.quick, options.clock)
    else:
        result, met = governor_tokens_offline.run(options.data, options.gap_ms, options.quick)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps(result))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
