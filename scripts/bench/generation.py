"""The generation engine by itself: many streams at once beside one after the other, and whether they say the same.

    python scripts/bench/generation.py [--quick] [--model DIRECTORY] [--streams N] [--tokens N] [--json FILE] ...

The model is a directory as the repository holds it; without one, a Llama of the pycoder job's shape with random weights
drawn widely. Streams have prompts of 4 to 3/4 of the context less the answer, drawn once with a fixed seed. Sides, in
turns and every second round backwards: `batched`, all streams submitted at once; `alone`, the same engine with one
sequence at a time; `generate`, transformers' own generate(), one prompt after the other; and `stock`, transformers' own
continuous batching with pages of the same size. Prefixes are not shared, so that every side computes every prompt.
Bars: batched >= 3 x the faster of `alone` and `generate` in tokens/s; each stream's tokens equal those of `generate`,
or differ first where the two likeliest tokens are less than 0.001 apart in logits.
"""

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig, LlamaConfig  # noqa: E402

from app.domain.generation import Ending, Prompt, Sampling, Step, Token  # noqa: E402
from app.models.generation.continuous import ContinuousEngine  # noqa: E402
from app.models.generation.network import Network  # noqa: E402
from app.models.generation.options import EngineOptions  # noqa: E402

MIN_SPEEDUP = 3.0
MAX_GAP = 1e-3
SIDES = ("batched", "alone", "generate", "stock")
CPU = torch.device("cpu")
Outputs = dict[str, list[int]]


@dataclass
class Clocked:
    """A listener that notes when each token came."""

    given: Outputs = field(default_factory=dict)
    times_s: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0
    left: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def tokens(self, prompt_id: str, tokens: Sequence[Token]) -> None:
        self.given.setdefault(prompt_id, []).extend(token.id for token in tokens)
        self.times_s.setdefault(prompt_id, []).append(time.perf_counter())

    def ended(self, prompt_id: str, ending: Ending, reason: str) -> None:
        if ending == "failed":
            raise SystemExit(f"{prompt_id} failed: {reason}")
        self.left -= 1
        if not self.left:
            self.done.set()

    def stepped(self, step: Step) -> None:
        self.steps += 1

    def gaps_ms(self) -> list[float]:
        """Milliseconds from token to token, of all streams."""
        return [
            1000 * (after - before) for times in self.times_s.values() for before, after in itertools.pairwise(times)
        ]


@dataclass(frozen=True)
class Run:
    """One side, once."""

    seconds: float
    tokens: int
    outputs: Outputs
    gaps_ms: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def write_model(directory: Path) -> None:
    """A Llama of pycoder's shape; weights drawn widely, so that most choices are clear."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.08,
        eos_token_id=None,
        bos_token_id=None,
        dtype=torch.float32,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)


def draw_prompts(count: int, vocabulary: int, longest: int) -> dict[str, tuple[int, ...]]:
    drawn = random.Random(1)
    return {
        f"stream-{n}": tuple(drawn.randrange(1, vocabulary) for _ in range(drawn.randrange(4, longest)))
        for n in range(count)
    }


def engine_side(directory: Path, prompts: dict[str, tuple[int, ...]], count: int, at_once: int) -> Run:
    heard = Clocked(left=len(prompts))
    options = EngineOptions(max_sequences=at_once, max_queued=len(prompts), prefix_cache_share=0)
    engine = ContinuousEngine(Network.load(directory, CPU, options), heard, options)
    try:
        started = time.perf_counter()
        for prompt_id, tokens in prompts.items():
            engine.submit(Prompt(prompt_id, tokens, Sampling(max_tokens=count, temperature=0)))
        heard.done.wait()
        seconds = time.perf_counter() - started
    finally:
        engine.close()
    return Run(seconds, sum(map(len, heard.given.values())), heard.given, tuple(heard.gaps_ms()))


def generate_side(model: Any, prompts: dict[str, tuple[int, ...]], count: int) -> Run:
    outputs, started = {}, time.perf_counter()
    with torch.inference_mode():
        for prompt_id, tokens in prompts.items():
            ids = torch.tensor([tokens])
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0
            )
            outputs[prompt_id] = found[0, len(tokens) :].tolist()
    return Run(time.perf_counter() - started, sum(map(len, outputs.values())), outputs)


def stock_side(model: Any, prompts: dict[str, tuple[int, ...]], count: int) -> Run:
    settings = ContinuousBatchingConfig(
        page_size=16,
        num_blocks=4096,
        max_batch_tokens=512,
        max_requests_per_batch=len(prompts),
        allow_block_sharing=False,
    )
    wanted = GenerationConfig(max_new_tokens=count, do_sample=False, eos_token_id=-1, pad_token_id=0)
    started = time.perf_counter()
    found = model.generate_batch(
        [list(tokens) for tokens in prompts.values()],
        generation_config=wanted,
        continuous_batching_config=settings,
        warmup=False,
    )
    seconds = time.perf_counter() - started
    outputs = {name: given.generated_tokens for name, given in zip(prompts, found.values(), strict=True)}
    return Run(seconds, sum(map(len, outputs.values())), outputs)


def clear_differences(model: Any, prompts: dict[str, tuple[int, ...]], given: Outputs, wanted: Outputs) -> list[str]:
    """Streams that differ first where the likeliest token was clear."""
    wrong = []
    for prompt_id, tokens in prompts.items():
        ours, theirs = given[prompt_id], wanted[prompt_id]
        if ours == theirs:
            continue
        place = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), -1)
        with torch.inference_mode():
            logits = model(torch.tensor([[*tokens, *theirs[:place]]])).logits[0, -1].float()
        best, second = logits.topk(2).values.tolist()
        if place < 0 or best - second >= MAX_GAP:
            wrong.append(f"{prompt_id} at {place}, {best - second:.4f} apart")
    return wrong


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    config = json.loads((directory / "config.json").read_text())
    longest = max(5, (config["max_position_embeddings"] - options.tokens) * 3 // 4)
    prompts = draw_prompts(options.streams, config["vocab_size"], longest)
    model = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="sdpa").eval()
    model.generation_config.eos_token_id = None
    sides: dict[str, Callable[[], Run]] = {
        "batched": lambda: engine_side(directory, prompts, options.tokens, len(prompts)),
        "alone": lambda: engine_side(directory, prompts, options.tokens, 1),
        "generate": lambda: generate_side(model, prompts, options.tokens),
        "stock": lambda: stock_side(model, prompts, options.tokens),
    }
    runs: dict[str, list[Run]] = {side: [] for side in options.sides}
    for number in range(options.rounds):
        for side in options.sides if number % 2 == 0 else options.sides[::-1]:
            runs[side].append(sides[side]())
            print(f"round {number + 1}: {side} {runs[side][-1].rate:.0f} tokens/s", file=sys.stderr, flush=True)
    return figures(options, model, prompts, runs)


def figures(
    options: argparse.Namespace, model: Any, prompts: dict[str, tuple[int, ...]], runs: dict[str, list[Run]]
) -> dict[str, Any]:
    rates = {side: statistics.median(run.rate for run in those) for side, those in runs.items()}
    gaps = sorted(gap for run in runs["batched"] for gap in run.gaps_ms)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    wanted = runs["generate"][0].outputs
    return {
        "tokens_per_s": {side: round(rate, 1) for side, rate in rates.items()},
        "speedup": round(rates["batched"] / max(rates[side] for side in ("alone", "generate") if side in rates), 2),
        "inter_token_ms": {f"p{share}": round(gaps[len(gaps) * share // 100], 1) for share in (50, 95, 99)},
        "equal_streams": sum(runs["batched"][0].outputs[name] == wanted[name] for name in prompts),
        "clear_differences": clear_differences(model, prompts, runs["batched"][0].outputs, wanted),
        "streams": len(prompts),
        "prompt_tokens": sum(map(len, prompts.values())),
        "new_tokens": options.tokens,
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")}
        | {"python": platform.python_version()},
        "commit": commit.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under two minutes: one round, 16 streams, without stock")
    parser.add_argument("--model", type=Path, help="directory of a language model")
    parser.add_argument("--streams", type=int)
    parser.add_argument("--tokens", type=int, help="new tokens of each stream")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--sides", type=lambda text: tuple(text.split(",")), help=f"of {', '.join(SIDES)}")
    parser.add_argument("--threads", type=int, help="of torch; as many as there are CPUs by default")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    options.streams = options.streams or (16 if options.quick else 64)
    options.tokens = options.tokens or (32 if options.quick else 96)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.sides = options.sides or (SIDES[:3] if options.quick else SIDES)
    if not {"batched", "generate"} <= {*options.sides} <= {*SIDES}:
        parser.error(f"sides are of {', '.join(SIDES)}, batched and generate among them")
    return options


def main() -> int:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.model or Path(temporary)
        if not options.model:
            write_model(directory)
        found = measure(options, directory)
    print(f"{'side':<10} {'tokens/s':>10}")
    for side, rate in found["tokens_per_s"].items():
        print(f"{side:<10} {rate:>10.0f}")
    print(f"inter-token ms: {found['inter_token_ms']}; equal streams: {found['equal_streams']} of {found['streams']}")
    missed = [f"speedup {found['speedup']} < {MIN_SPEEDUP}"] if found["speedup"] < MIN_SPEEDUP else []
    missed += found["clear_differences"]
    print("\n".join(missed) or f"met: batched {found['speedup']} x one at a time, no clear difference")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    print(json.dumps(found))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
