"""How much of a real trace our prefix cache finds again, and what that saves.

    python scripts/bench/prefix_cache.py [--trace FILE] [--quick] [--json FILE]
    python scripts/bench/prefix_cache.py --live [--model DIRECTORY] [--clock cpu] [--trace FILE] [--quick] [--json FILE]

The trace: 12,031 conversations of an hour at Moonshot AI (Mooncake, FAST 2025), each prompt as hashes of its blocks of
512 tokens; equal hashes are equal prefixes. Offline the engine's own cache (app/models/generation/paging.py: pages kept
after their prompt has ended, the longest unused leaving first) is asked for each prompt in turn, in caches of several
sizes; beside it the same cache with the library's own eviction (all at once when space runs out) and one that never
forgets. Prompts do not overlap in time: what runs at once would hold pages, too.
Live: prefix_cache_live.py, the engine with and without its prefix cache on prompts of that trace; energy saved per hit.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import prefix_cache_trace  # noqa: E402

TRACE = ROOT.parent / "shared" / "data" / "trace_mooncake_fast25" / "conversation_trace.jsonl.gz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--model", type=Path, help="a directory as training publishes it; without: a tiny random one")
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where the machine is busy")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    requests = prefix_cache_trace.read(options.trace)
    if options.live:
        import prefix_cache_live

        result = prefix_cache_live.run(requests, options.model, options.quick, options.clock)
    else:
        import prefix_cache_sizes

        result = prefix_cache_sizes.run(requests, options.quick)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
