"""Two workers of torch's own DDP, one of them slow: the other is seen to wait, and for how long."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLOW_S, STEPS = 0.04, 20


@pytest.mark.timeout(120)
def test_the_worker_that_waits_for_a_slow_one_is_seen_to_wait(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fixtures.straggler"]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), str(SLOW_S), str(STEPS)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        told, _ = workers[0].communicate(timeout=100)
        assert workers[1].wait(timeout=30) == 0
    finally:
        for worker in workers:
            worker.kill()
    (fast_s, fast_steps_s), (slow_s, slow_steps_s) = json.loads(told)
    # The slow one sleeps 0.04 s in each of 20 steps, and nobody waits for the fast one but by chance.
    assert 0.8 * SLOW_S * STEPS < fast_s <= fast_steps_s
    assert slow_s < 0.3 * fast_s
    assert slow_steps_s >= SLOW_S * STEPS
