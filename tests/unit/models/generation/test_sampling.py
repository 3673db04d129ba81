"""Choosing tokens: filters, seeds, probabilities, and rows that do not touch each other."""

import math
from collections import Counter

import pytest
import torch

from app.domain.generation import Sampling
from app.models.generation.sampling import Drawer, choose


def ids(logits: torch.Tensor, *samplings: Sampling) -> list[int | None]:
    return [token.id if token else None for token in choose(logits, [Drawer(each) for each in samplings])]


def test_a_greedy_row_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0]])
    assert ids(logits, *[Sampling(max_tokens=1, temperature=0)] * 2) == [1, 0]


def test_drawn_tokens_come_as_often_as_they_are_likely() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = probabilities.log().expand(4000, 4)
    drawn = Counter(ids(logits, *(Sampling(max_tokens=1, seed=n) for n in range(4000))))
    # Standard deviation of a share of 0.5 over 4000 draws: sqrt(0.25 / 4000) = 0.008.
    for token, probability in enumerate(probabilities.tolist()):
        assert drawn[token] / 4000 == pytest.approx(probability, abs=0.03)


def test_temperature_sharpens_and_flattens() -> None:
    logits = torch.tensor([0.8, 0.2]).log().expand(2000, 2)
    cold, hot = (
        ids(logits, *(Sampling(max_tokens=1, temperature=heat, seed=n) for n in range(2000))).count(0) / 2000
        for heat in (0.5, 2.0)
    )
    # 0.8^2 / (0.8^2 + 0.2^2) = 0.941; sqrt(0.8) / (sqrt(0.8) + sqrt(0.2)) = 0.667
    assert (cold, hot) == (pytest.approx(0.941, abs=0.03), pytest.approx(0.667, abs=0.04))


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        (Sampling(max_tokens=1, top_k=1), {0}),
        (Sampling(max_tokens=1, top_k=2), {0, 2}),
        (Sampling(max_tokens=1, top_p=0.5), {0}),
        (Sampling(max_tokens=1, top_p=0.55), {0, 2}),
        (Sampling(max_tokens=1, top_p=0.81), {0, 1, 2}),
        (Sampling(max_tokens=1, top_p=1e-9), {0}),
        (Sampling(max_tokens=1, top_k=3, top_p=0.8), {0, 2}),
        (Sampling(max_tokens=1, top_k=99), {0, 1, 2, 3}),
    ],
)
def test_filters_leave_out_what_they_say(sampling: Sampling, possible: set[int]) -> None:
    # Of the first three alone: 0.5 / 0.95 = 0.526 and 0.3 / 0.95 = 0.316, together 0.842.
    logits = torch.tensor([0.5, 0.15, 0.3, 0.05]).log().expand(600, 4)
    drawers = [Drawer(Sampling(1, 1.0, sampling.top_p, sampling.top_k, seed=n)) for n in range(600)]
    assert {token.id for token in choose(logits, drawers) if token} == possible


def test_a_row_is_drawn_the_same_whatever_stands_beside_it() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 50)
    mine = Sampling(max_tokens=1, temperature=1.3, top_p=0.8, seed=5)
    others = [
        Sampling(max_tokens=1, temperature=0),
        Sampling(max_tokens=1, temperature=0.1, top_k=3),
        Sampling(max_tokens=1, top_logprobs=3),
    ]
    alone = ids(logits[:1], mine)
    assert ids(logits[:4], mine, *others)[0] == alone[0]
    assert ids(logits[[1, 2, 3, 0]], *others, mine)[3] == alone[0]


def test_a_drawer_goes_on_where_it_was() -> None:
    logits = torch.zeros(1, 1000)
    first = Drawer(Sampling(max_tokens=9, seed=3))
    drawn = [choose(logits, [first])[0] for _ in range(5)]
    second = Drawer(Sampling(max_tokens=9, seed=3))
    assert [choose(logits, [second])[0] for _ in range(5)] == drawn
    assert len({token.id for token in drawn if token}) > 1


def test_without_a_seed_draws_differ() -> None:
    logits = torch.zeros(20, 10_000)
    assert len(set(ids(logits, *[Sampling(max_tokens=1)] * 20))) > 1


def test_probabilities_are_told_as_they_were_before_the_filters() -> None:
    logits = torch.tensor([[math.log(0.7), math.log(0.2), math.log(0.1)]])
    (token,) = choose(logits, [Drawer(Sampling(1, temperature=0.2, top_k=1, seed=1, top_logprobs=2))])
    assert token is not None
    assert token.logprob == pytest.approx(math.log(0.7))
    assert token.top == ((0, pytest.approx(math.log(0.7))), (1, pytest.approx(math.log(0.2))))


def test_more_alternatives_than_tokens_are_all_tokens() -> None:
    (token,) = choose(torch.zeros(1, 3), [Drawer(Sampling(1, temperature=0, top_logprobs=20))])
    assert token is not None
    assert len(token.top) == 3


@pytest.mark.parametrize("fault", [torch.nan, torch.inf])
def test_a_row_without_numbers_gives_nothing_and_harms_nobody(fault: float) -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, fault], [1.0, 0.0]])
    wanted = [
        Sampling(max_tokens=1, temperature=0),
        Sampling(max_tokens=1, seed=1),
        Sampling(max_tokens=1, temperature=0),
    ]
    assert ids(logits, *wanted)[::2] == [1, 0]
    assert ids(logits, *wanted)[1] is None
