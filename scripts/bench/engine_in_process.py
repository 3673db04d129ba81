"""Our generation engine in this process, and what it uses: for benchmarks without Ray and without a ledger.

Energy is the modelled counter of app/sensors/cpu_model.py with the CPU time of this process for the busy time of the
host, so that other processes on the machine do not count: idle power of all CPUs for the time that passes, active power
for the CPU seconds used. No model is downloaded: without a directory a small random one is made.

An engine that is never without work can be timed by the CPU time of its process instead of the clock on the wall: what
it would take on a core of its own, on a machine that has none to give.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from app.clock import Clock, SystemClock
from app.models.generation.continuous import ContinuousEngine
from app.models.generation.engine import Listener
from app.models.generation.network import Network
from app.models.generation.options import EngineOptions
from app.sensors.cpu_model import TYPICAL_CPU, modelled_uj

CONTEXT_TOKENS = 1024


def random_model(directory: Path, layers: int = 4, hidden: int = 256) -> Path:
    """A Llama-shaped model with random weights and no end token."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128),
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


class CpuTimeClock(SystemClock):
    """Stands still while this process does not run."""

    def monotonic_ns(self) -> int:
        return self.cpu_ns()


CLOCKS: dict[str, Clock] = {"wall": SystemClock(), "cpu": CpuTimeClock()}


@contextmanager
def open_engine(
    model: Path | None, listener: Listener, options: EngineOptions, clock: Clock
) -> Iterator[ContinuousEngine]:
    """One CPU for the engine, the others for whoever asks it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="engine-") as directory:
        network = Network.load(model or random_model(Path(directory)), torch.device("cpu"), options)
        engine = ContinuousEngine(network, listener, options, clock)
        try:
            yield engine
        finally:
            engine.close()


class ProcessEnergy:
    """The modelled counter, read by differences."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._cpus = clock, os.cpu_count() or 1
        self._at_ns, self._cpu_ns = clock.monotonic_ns(), clock.cpu_ns()

    def since_last(self) -> int:
        """Microjoules since it was asked last, or made."""
        at_ns, cpu_ns = self._clock.monotonic_ns(), self._clock.cpu_ns()
        used_uj = modelled_uj(TYPICAL_CPU, self._cpus, at_ns - self._at_ns, cpu_ns - self._cpu_ns)
        self._at_ns, self._cpu_ns = at_ns, cpu_ns
        return used_uj
