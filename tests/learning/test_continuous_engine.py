"""The continuous engine on a tiny model: what comes out, what each step says, who waits, who leaves, what is left."""

import gc
import random
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from app.domain.generation import Prompt, Sampling
from app.errors import Busy, InvalidInput, TooLarge, Unavailable
from app.models.generation.continuous import ContinuousEngine
from app.models.generation.network import Network
from app.models.generation.options import EngineOptions
from app.models.generation.passes import Layout
from tests.fixtures.language_model import CONTEXT, END, VOCABULARY, Heard, reference, write_language_model

CPU = torch.device("cpu")
GREEDY = Sampling(max_tokens=12, temperature=0)
Start = Callable[..., tuple[ContinuousEngine, Heard]]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("tiny")
    write_language_model(found)
    return found


@pytest.fixture
def start(directory: Path) -> Iterator[Start]:
    """Starts engines, and closes them; no token ends a text unless it is said."""
    engines: list[ContinuousEngine] = []

    def started(end_tokens: frozenset[int] = frozenset(), **options: Any) -> tuple[ContinuousEngine, Heard]:
        heard = Heard()
        chosen = EngineOptions(**{"page_tokens": 4, "prefill_tokens": 16} | options)
        network = Network.load(directory, CPU, chosen)
        assert network.end_tokens == {END}
        network.end_tokens = end_tokens
        engines.append(ContinuousEngine(network, heard, chosen))
        return engines[-1], heard

    yield started
    for engine in engines:
        engine.close()


def tokens(seed: int, count: int) -> tuple[int, ...]:
    drawn = random.Random(seed)
    return tuple(drawn.randrange(1, VOCABULARY) for _ in range(count))


@lru_cache(256)
def alone(directory: Path, prompt: tuple[int, ...], count: int) -> list[int]:
    """What transformers' own generate() gives, greedily, whatever the end token."""
    found = reference(directory).generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False)
    return [int(token) for token in found[0, len(prompt) :]]


def assert_same(directory: Path, prompt: tuple[int, ...], given: list[int], wanted: list[int]) -> None:
    """Equal, or different first where the two likeliest tokens are nearly as likely."""
    if given == wanted:
        return
    place = next(n for n in range(len(wanted) + 1) if given[: n + 1] != wanted[: n + 1])
    with torch.inference_mode():
        logits = reference(directory)(torch.tensor([[*prompt, *wanted[:place]]])).logits[0, -1]
    best, second = logits.topk(2).values.tolist()
    assert best - second < 1e-3, (given, wanted)


@pytest.mark.parametrize("shelved", [True, False], ids=["as on a CPU", "as on an accelerator"])
def test_many_at_once_give_what_each_gives_alone(start: Start, directory: Path, shelved: bool) -> None:
    engine, heard = start(max_sequences=64)
    engine._layout = Layout(engine._pager.pages(), shelved=shelved)
    prompts = {f"p{n}": tokens(n, 1 + n) for n in range(64)}
    for prompt_id, prompt in prompts.items():
        engine.submit(Prompt(prompt_id, prompt, GREEDY))
    heard.wait(*prompts)
    for prompt_id, prompt in prompts.items():
        assert_same(directory, prompt, heard.ids(prompt_id), alone(directory, prompt, 12))
        assert heard.endings[prompt_id] == ("length", "")


def test_steps_say_who_had_how_many_tokens(start: Start) -> None:
    engine, heard = start()
    prompt = tokens(1, 40)
    engine.submit(Prompt("a", prompt, GREEDY))
    heard.wait("a")
    works = [work for step in heard.steps for work in step.works]
    # 40 prompt tokens in chunks of 16, then one generated token a step: the last one is not fed back.
    assert [work.prefill_tokens for work in works[:3]] == [16, 16, 8]
    assert [work.context_tokens for work in works[:3]] == [0, 16, 32]
    decoded = [work for work in works if work.decode_tokens]
    assert len(decoded) == 12 - 1
    assert [work.context_tokens for work in decoded] == list(range(40, 40 + len(decoded)))
    assert all(work.cached_tokens == 0 for work in works)
    edges = [edge for step in heard.steps for edge in (step.start_ns, step.end_ns)]
    assert edges == sorted(edges)


def test_a_prompt_that_begins_alike_takes_whole_pages_from_the_cache(start: Start) -> None:
    engine, heard = start()
    common = tokens(2, 30)
    engine.submit(Prompt("first", common, GREEDY))
    heard.wait("first")
    heard.steps.clear()
    engine.submit(Prompt("again", common, GREEDY))
    engine.submit(Prompt("other", (*common, 7, 8, 9), GREEDY))
    heard.wait("again", "other")
    assert heard.ids("again") == heard.ids("first")
    works = [work for step in heard.steps for work in step.works]
    # 30 tokens are 7 whole pages of 4 and a rest; what was generated after them is another continuation.
    assert {work.prompt_id: work.cached_tokens for work in works if work.cached_tokens} == {"again": 28, "other": 28}
    assert sum(work.prefill_tokens for work in works if work.prompt_id == "again") == 2
    assert next(work.context_tokens for work in works if work.prompt_id == "again") == 28


def test_without_a_share_for_prefixes_nothing_is_kept(start: Start) -> None:
    engine, heard = start(prefix_cache_share=0)
    for prompt_id in ("a", "b"):
        engine.submit(Prompt(prompt_id, tokens(2, 30), GREEDY))
        heard.wait(prompt_id)
    assert all(work.cached_tokens == 0 for step in heard.steps for work in step.works)
    assert heard.ids("a") == heard.ids("b")


def test_a_seed_gives_the_same_tokens_whatever_runs_beside(start: Start) -> None:
    engine, heard = start(max_sequences=16)
    drawn = Sampling(max_tokens=20, temperature=1.5, top_p=0.9, top_k=100, seed=11)
    engine.submit(Prompt("alone", tokens(3, 9), drawn))
    heard.wait("alone")
    for n in range(10):
        engine.submit(Prompt(f"noise{n}", tokens(50 + n, 5 + n), Sampling(max_tokens=20, temperature=1 + n / 10)))
    engine.submit(Prompt("among", tokens(3, 9), drawn))
    engine.submit(Prompt("otherwise", tokens(3, 9), Sampling(max_tokens=20, temperature=1.5, seed=12)))
    heard.wait("among", "otherwise", *(f"noise{n}" for n in range(10)))
    assert heard.ids("among") == heard.ids("alone") != heard.ids("otherwise")


def test_logarithmic_probabilities_are_the_models_own(start: Start, directory: Path) -> None:
    engine, heard = start()
    prompt = tokens(4, 6)
    engine.submit(Prompt("a", prompt, Sampling(max_tokens=3, temperature=0.7, seed=1, top_logprobs=4)))
    engine.submit(Prompt("b", prompt, Sampling(max_tokens=3, temperature=0, top_logprobs=0)))
    engine.submit(Prompt("c", prompt, Sampling(max_tokens=3, temperature=0)))
    heard.wait("a", "b", "c")
    with torch.inference_mode():
        wanted = reference(directory)(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    first = heard.given["a"][0]
    assert first.logprob == pytest.approx(float(wanted[first.id]), abs=1e-4)
    assert [token for token, _ in first.top] == wanted.topk(4).indices.tolist()
    assert heard.given["b"][0].logprob == pytest.approx(float(wanted.max()), abs=1e-4)
    assert heard.given["b"][0].top == ()
    assert heard.given["c"][0].logprob is None


def test_an_end_token_stops_and_is_not_told(start: Start, directory: Path) -> None:
    wanted = alone(directory, tokens(1, 5), 4)
    assert wanted[2] not in wanted[:2]
    engine, heard = start(end_tokens=frozenset({wanted[2]}))
    engine.submit(Prompt("a", tokens(1, 5), GREEDY))
    heard.wait("a")
    assert (heard.ids("a"), heard.endings["a"]) == (wanted[:2], ("stop", ""))


def test_a_continuation_ends_where_the_context_does(start: Start) -> None:
    engine, heard = start()
    engine.submit(Prompt("a", tokens(1, CONTEXT - 3), Sampling(max_tokens=1000, temperature=0)))
    heard.wait("a")
    assert heard.endings["a"][0] == "length"
    assert len(heard.ids("a")) == 3


def test_a_cancelled_prompt_frees_its_place_at_once(start: Start) -> None:
    engine, heard = start(max_sequences=1)
    engine.submit(Prompt("long", tokens(1, 4), Sampling(max_tokens=10_000, temperature=0)))
    engine.submit(Prompt("next", tokens(2, 4), GREEDY))
    engine.submit(Prompt("given up", tokens(3, 4), GREEDY))
    heard.wait("long", tokens=1)
    engine.cancel("given up")
    engine.cancel("long")
    engine.cancel("nobody")
    heard.wait("long", "next", "given up")
    assert heard.endings["long"] == heard.endings["given up"] == ("cancelled", "")
    assert heard.endings["next"][0] == "length"
    assert "given up" not in heard.given
    engine.cancel("next")
    assert (engine.load.running, engine.load.waiting) == (0, 0)


def test_a_full_queue_says_when_to_come_again(start: Start) -> None:
    engine, heard = start(max_sequences=1, max_queued=2)
    endless = Sampling(max_tokens=10_000, temperature=0)
    for n in range(3):
        engine.submit(Prompt(f"p{n}", tokens(n, 4), endless))
    with pytest.raises(Busy, match="at most 2 may") as refused:
        engine.submit(Prompt("p3", tokens(3, 4), endless))
    assert 0 < refused.value.retry_after_s <= 60
    engine.cancel("p1")
    heard.wait("p1")
    engine.submit(Prompt("p3", tokens(3, 4), GREEDY))


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        (Prompt("a", tokens(1, CONTEXT), GREEDY), TooLarge, f"the prompt has {CONTEXT} tokens; the context holds"),
        (Prompt("a", (), GREEDY), InvalidInput, "without tokens"),
        (Prompt("a", (1, VOCABULARY), GREEDY), InvalidInput, f"token {VOCABULARY} is outside the vocabulary"),
        (Prompt("a", (-1,), GREEDY), InvalidInput, "token -1 is outside"),
        (Prompt("a", (1,), Sampling(max_tokens=0)), InvalidInput, "max_tokens must be >= 1, got 0"),
        (Prompt("a", (1,), Sampling(max_tokens=1, temperature=-0.1)), InvalidInput, "temperature must be >= 0"),
        (Prompt("a", (1,), Sampling(max_tokens=1, temperature=float("nan"))), InvalidInput, "temperature"),
        (Prompt("a", (1,), Sampling(max_tokens=1, top_p=0)), InvalidInput, r"top_p must be in \(0, 1\], got 0"),
        (Prompt("a", (1,), Sampling(max_tokens=1, top_k=-1)), InvalidInput, "top_k must be >= 0, got -1"),
        (Prompt("a", (1,), Sampling(max_tokens=1, top_logprobs=65)), InvalidInput, "top_logprobs must be <= 64"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(
    start: Start, prompt: Prompt, error: type[Exception], message: str
) -> None:
    engine, heard = start()
    with pytest.raises(error, match=message):
        engine.submit(prompt)
    assert (engine.load.running, engine.load.waiting, heard.steps) == (0, 0, [])


def test_two_prompts_of_one_name_are_refused(start: Start) -> None:
    engine, heard = start()
    engine.submit(Prompt("a", (1,), Sampling(max_tokens=10_000, temperature=0)))
    with pytest.raises(InvalidInput, match="'a' is in use"):
        engine.submit(Prompt("a", (2,), GREEDY))
    engine.cancel("a")
    heard.wait("a")


def test_the_limit_holds_from_the_next_step(start: Start) -> None:
    engine, heard = start(max_sequences=2)
    for n in range(8):
        engine.submit(Prompt(f"p{n}", tokens(n, 3), GREEDY))
    heard.wait("p0", "p1")
    narrow = max(len(step.works) for step in heard.steps)
    engine.limit(5)
    heard.wait(*(f"p{n}" for n in range(8)))
    wide = max(len(step.works) for step in heard.steps)
    assert (narrow, wide) == (2, 5)
    with pytest.raises(InvalidInput, match="max_sequences must be >= 1, got 0"):
        engine.limit(0)


def test_when_the_cache_is_full_sequences_take_turns_and_nothing_is_lost(start: Start, directory: Path) -> None:
    engine, heard = start(max_sequences=8, cache_tokens=CONTEXT, prefix_cache_share=0.5)
    asked = Sampling(max_tokens=40, temperature=0)
    prompts = {f"p{n}": tokens(n, 20) for n in range(6)}
    for prompt_id, prompt in prompts.items():
        engine.submit(Prompt(prompt_id, prompt, asked))
    heard.wait(*prompts)
    for prompt_id, prompt in prompts.items():
        assert_same(directory, prompt, heard.ids(prompt_id), alone(directory, prompt, 40))
    computed = sum(work.prefill_tokens for step in heard.steps for work in step.works)
    assert computed > 6 * 20, "some must have been computed again"
    assert engine.load.free_cache_share == 1


def test_a_row_without_numbers_fails_alone(start: Start, directory: Path) -> None:
    engine, heard = start(prefix_cache_share=0)
    network: Any = engine._network
    logits = network.logits

    def spoilt(given: Any) -> torch.Tensor:
        found: torch.Tensor = logits(given)
        found[given.tokens[given.emitting] == 77] = torch.nan
        return found

    network.logits = spoilt
    engine.submit(Prompt("bad", (5, 77), GREEDY))
    engine.submit(Prompt("good", (5, 78), Sampling(max_tokens=1, temperature=0)))
    heard.wait("bad", "good")
    assert heard.endings["bad"] == ("failed", "the model gave no numbers (NaN) for the next token")
    assert heard.endings["good"] == ("length", "")


def test_a_failing_step_fails_its_sequences_and_the_engine_goes_on(start: Start) -> None:
    engine, heard = start(max_sequences=1)
    network: Any = engine._network
    logits, faults = network.logits, [RuntimeError("out of memory"), RuntimeError("out of memory")]

    def failing(given: Any) -> torch.Tensor:
        if faults:
            raise faults.pop()
        found: torch.Tensor = logits(given)
        return found

    network.logits = failing
    for prompt_id in ("a", "b", "c"):
        engine.submit(Prompt(prompt_id, tokens(1, 5), GREEDY))
    heard.wait("a", "b", "c")
    assert heard.endings["a"] == heard.endings["b"] == ("failed", "RuntimeError: out of memory")
    assert heard.endings["c"][0] == "length"
    assert engine.load.free_cache_share == 1


def test_an_engine_whose_steps_all_fail_says_that_it_is_out_of_order(start: Start) -> None:
    engine, heard = start(max_sequences=1)
    network: Any = engine._network

    def failing(given: Any) -> torch.Tensor:
        raise RuntimeError("device lost")

    network.logits = failing
    for prompt_id in ("a", "b", "c", "d"):
        engine.submit(Prompt(prompt_id, tokens(1, 5), GREEDY))
    heard.wait("a", "b", "c", "d")
    assert [heard.endings[each][0] for each in ("a", "b", "c", "d")] == ["failed"] * 4
    with pytest.raises(Unavailable, match="out of order: 3 steps in a row failed: device lost"):
        engine.submit(Prompt("e", (1,), GREEDY))


def test_a_listener_that_fails_stops_nobody(start: Start) -> None:
    engine, heard = start()

    def failing(step: Any) -> None:
        raise ValueError("listener")

    heard.stepped = failing  # type: ignore[method-assign]
    engine.submit(Prompt("a", tokens(1, 5), GREEDY))
    heard.wait("a")
    assert heard.endings["a"][0] == "length"


def test_closing_ends_everything_and_leaves_no_thread(start: Start) -> None:
    engine, heard = start(max_sequences=1)
    endless = Sampling(max_tokens=10_000, temperature=0)
    engine.submit(Prompt("runs", tokens(1, 5), endless))
    engine.submit(Prompt("waits", tokens(2, 5), endless))
    heard.wait("runs", tokens=1)
    engine.close()
    engine.close()
    assert heard.endings == dict.fromkeys(("runs", "waits"), ("cancelled", "the engine was closed"))
    assert not [thread for thread in threading.enumerate() if thread.name == "generation"]
    with pytest.raises(Unavailable, match="the engine was closed"):
        engine.submit(Prompt("late", (1,), GREEDY))
    with pytest.raises(Unavailable, match="the engine was closed"):
        engine.embed("late", [[1]])


def test_embeddings_are_the_mean_of_the_last_hidden_states(start: Start, directory: Path) -> None:
    engine, heard = start()
    texts = [tokens(1, 7), tokens(2, 30), tokens(3, 1)]
    given = torch.tensor(engine.embed("e", texts))
    with torch.inference_mode():
        wanted = [reference(directory).model(torch.tensor([text])).last_hidden_state[0].mean(0) for text in texts]
    assert torch.allclose(given, torch.nn.functional.normalize(torch.stack(wanted), dim=-1), atol=1e-5)
    # 16 tokens a step at most, one text at least: 7, then 30, then 1.
    assert [work for step in heard.steps for work in step.works if work.prefill_tokens not in (7, 30, 1)] == []
    assert sum(work.prefill_tokens for step in heard.steps for work in step.works) == 38
    assert engine.embed("nothing", []) == []
    with pytest.raises(TooLarge, match="a text has 97 tokens"):
        engine.embed("e", [tokens(1, 97)])


def test_a_thousand_comings_and_goings_leave_nothing_behind(start: Start) -> None:
    engine, heard = start(max_sequences=8, max_queued=8, cache_tokens=1024)
    drawn = random.Random(0)
    process = psutil.Process()

    def cycle(first: int, count: int) -> None:
        names = []
        for n in range(first, first + count):
            sampling = Sampling(max_tokens=drawn.randrange(1, 9), temperature=drawn.choice([0, 1.0]), seed=n)
            try:
                engine.submit(Prompt(f"p{n}", tokens(drawn.randrange(40), drawn.randrange(1, 40)), sampling))
            except Busy:
                heard.wait(names[-1])
                continue
            names.append(f"p{n}")
            if drawn.random() < 0.3:
                engine.cancel(f"p{n}")
        heard.wait(*names)
        heard.given.clear()
        heard.endings.clear()
        heard.steps.clear()

    cycle(0, 300)
    gc.collect()
    before = process.memory_info().rss
    cycle(300, 1000)
    gc.collect()
    grown = process.memory_info().rss - before
    pager: Any = engine._pager
    pending: Any = engine._pending
    assert (engine.load.running, engine.load.waiting, engine.load.free_cache_share) == (0, 0, 1)
    left = [engine._layout._shelves._shelves] if engine._layout._shelves else []
    left += [engine._running, pager._new, pager._planned, pending._cancelled, pending._embeddings]
    left += [pager._pages.block_table, pager._pages.ledger.shared_ref_counts]
    left += [pager._scheduler.active_requests, pager._scheduler.waiting_requests]
    assert not any(left)
    assert grown < 24 * 1024 * 1024
