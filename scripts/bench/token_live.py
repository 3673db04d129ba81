"""A real engine on this machine, on the books: many streams at once against one after the other, and every receipt.

The engine computes in this process with a small random model (no download); the meter runs beside it, on the modelled
CPU. Prompts and answers have mixed lengths. Knows nothing of Serve: what a server adds is measured elsewhere.
"""

import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine_in_process import CLOCKS, open_engine
from side_by_side import Cast

from app.domain.account import request_account, warm_account
from app.domain.generation import Ending, Prompt, Sampling, Step, Token
from app.engine.phases import PhasedSlice
from app.ledger.journal import read_epoch
from app.models.generation.options import EngineOptions

SPEEDUP_BAR = 3.0
_STREAMS = 64
_SETTLE_S = 5.0
_ANSWER_S = 300.0


@dataclass
class Streams:
    """The listener: puts the engine on the books, and notes when each stream had a token."""

    account: object = field(default_factory=lambda: request_account("bench", "live", "1"))
    steps: object = None
    """The StepClient, once the engine's shape is known."""
    times_s: dict[str, list[float]] = field(default_factory=dict)
    works: dict[str, PhasedSlice] = field(default_factory=dict)
    endings: dict[str, Ending] = field(default_factory=dict)
    left: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def stepped(self, step: Step) -> None:
        self.steps.stepped(step)

    def tokens(self, prompt_id: str, tokens: Sequence[Token]) -> None:
        self.steps.tokens(prompt_id, len(tokens))
        self.times_s[prompt_id] += [time.monotonic()] * len(tokens)

    def ended(self, prompt_id: str, ending: Ending, reason: str) -> None:
        self.steps.ended(prompt_id)
        self.endings[prompt_id] = ending
        self.left.release()

    def play(self, engine: object, prompts: Sequence[Prompt], together: bool) -> float:
        """Tokens per second of `prompts`, all at once or one after the other."""
        begun = time.monotonic()
        for prompt in prompts:
            self.times_s[prompt.id] = []
            self.works[prompt.id] = self.steps.begin(self.account, [prompt.id])
            engine.submit(prompt)
            if not together and not self.left.acquire(timeout=_ANSWER_S):
                raise RuntimeError(f"{prompt.id} did not end within {_ANSWER_S:.0f} s")
        for prompt in prompts if together else ():
            if not self.left.acquire(timeout=_ANSWER_S):
                raise RuntimeError(f"{prompt.id} or another did not end within {_ANSWER_S:.0f} s")
        made = sum(len(self.times_s[prompt.id]) for prompt in prompts)
        return made / (time.monotonic() - begun)

    def gaps_ms(self, prompts: Sequence[Prompt]) -> list[float]:
        return sorted(
            (later - earlier) * 1e3
            for prompt in prompts
            for earlier, later in zip(self.times_s[prompt.id], self.times_s[prompt.id][1:], strict=False)
        )


def prompts_of(side: str, count: int) -> list[Prompt]:
    """Of 8 to 256 tokens, answers of 16 to 96, the same for every side."""
    chance = random.Random(5)
    return [
        Prompt(
            f"{side}-{n}",
            tuple(chance.randrange(256) for _ in range(round(8 * 32 ** chance.random()))),
            Sampling(max_tokens=chance.randint(16, 96), temperature=0.0),
        )
        for n in range(count)
    ]


def measured(quick: bool) -> dict:
    """Two rounds of both sides, in turns, on one engine."""
    with tempfile.TemporaryDirectory(prefix="tokens-live-") as directory:
        environment = {
            "JOULEKEEPER_STATE_DIR": str(Path(directory) / "state"),
            "JOULEKEEPER_MACHINE": "bench",
            "JOULEKEEPER_SENSORS": "cpu_model",
        }
        os.environ.update(environment)
        with Cast(Path(directory), environment) as cast:
            cast.start("meter", sys.executable, "joulekeeper_meter.py")
            cast.hear("meter", "ready")
            return _measured(cast, Path(directory), 1 if quick else 3)


def _measured(cast: Cast, directory: Path, rounds: int) -> dict:
    from app.metering.client import WorkClient  # reads its settings when it is opened
    from app.metering.step_client import StepClient
    from app.policy.step_price import StepPrice

    client, streams = WorkClient.open(warm_account("live", "1")), Streams()
    rates: dict[str, list[float]] = {"together": [], "alone": []}
    gaps_ms: list[float] = []
    options = EngineOptions(max_sequences=_STREAMS, max_queued=_STREAMS, prefix_cache_share=0.0)
    with open_engine(None, streams, options, CLOCKS["wall"]) as engine:
        streams.steps = StepClient(client, StepPrice(engine.geometry))
        streams.play(engine, prompts_of("warm", 4), together=True)
        for n in range(rounds):
            for side in ("together", "alone") if n % 2 == 0 else ("alone", "together"):
                prompts = prompts_of(f"{side}{n}", _STREAMS)
                rates[side].append(streams.play(engine, prompts, side == "together"))
                if side == "together":
                    gaps_ms += streams.gaps_ms(prompts)
    time.sleep(_SETTLE_S)
    cast.tell("stop", {})
    cast.hear("meter", "answer")
    told = [work.told() for work in streams.works.values()]
    receipts = [each for each in told if each is not None and not each.whole.provisional]
    client.close()
    posted_uj = _posted_uj(directory / "state" / "journal")
    tokens = sum(each.tokens for each in receipts)
    gaps_ms.sort()
    return {
        "tokens_per_s": {side: statistics.median(found) for side, found in rates.items()},
        "speedup": statistics.median(rates["together"]) / statistics.median(rates["alone"]),
        "inter_token_ms": {"p50": gaps_ms[len(gaps_ms) // 2], "p95": gaps_ms[int(0.95 * len(gaps_ms))]},
        "requests": len(told),
        "unsettled": len(told) - len(receipts),
        "failed": sum(ending not in ("stop", "length") for ending in streams.endings.values()),
        "receipts_uj": sum(each.whole.energy_uj for each in receipts),
        "prefill_uj": sum(each.prefill_uj for each in receipts),
        "posted_uj": posted_uj,
        "uj_per_token": sum(each.whole.energy_uj for each in receipts) / max(1, tokens),
    }


def _posted_uj(journal: Path) -> int:
    """To the account of requests, by the journal's lines alone."""
    return sum(
        posting["energy_uj"]
        for path in sorted(journal.glob("*.journal"))
        for batch in read_epoch(path)
        for posting in batch.body["postings"]
        if posting["account"]["name"] == "request"
    )


def print_table(live: dict) -> None:
    rates, gaps = live["tokens_per_s"], live["inter_token_ms"]
    print(f"\n{_STREAMS} streams together {rates['together']:.0f} tokens/s, alone {rates['alone']:.0f}: ", end="")
    print(f"{live['speedup']:.1f} x; between two tokens of a stream p50 {gaps['p50']:.1f} ms, p95 {gaps['p95']:.1f} ms")
    print(f"{live['requests']} receipts: {live['receipts_uj']} uJ, {live['prefill_uj']} uJ of it prefill, ", end="")
    print(f"{live['uj_per_token']:.0f} uJ per token; the ledger's account: {live['posted_uj']} uJ")


def verdicts(live: dict) -> list[tuple[str, str, str, bool]]:
    difference_uj = live["receipts_uj"] - live["posted_uj"]
    speedup = live["speedup"]
    return [
        ("tokens/s together over alone", f"{speedup:.2f}", f">= {SPEEDUP_BAR:g}", speedup >= SPEEDUP_BAR),
        ("receipts against the account of requests, uJ", str(difference_uj), "0", difference_uj == 0),
        ("receipts not settled", str(live["unsettled"]), "0", live["unsettled"] == 0),
        ("streams that failed", str(live["failed"]), "0", live["failed"] == 0),
    ]
