"""The bars of the serving benchmark: ratios are taken within a round, and what was not measured is not judged."""

import pytest
from bench.serving_verdicts import Figures, Verdict, verdicts

Rates = dict[str, dict[str, dict[int, float]]]


def cell(requests_per_s: float, p50_ms: float = 1.0) -> dict[str, float]:
    return {"requests_per_s": requests_per_s, "p50_ms": p50_ms, "side_cpu_us": 1.0}


def a_round(rates: Rates, loop: dict[str, float] | None = None) -> dict:
    """By side, workload and clients."""
    sides = {
        side: {
            "idle_share": 0.0,
            "cells": {name: {str(c): cell(rate) for c, rate in by.items()} for name, by in cells.items()},
        }
        for side, cells in rates.items()
    }
    return {"sides": sides, "torch_loop": loop or {}}


def judged(*rounds: dict) -> dict[str, Verdict]:
    sides = list(dict.fromkeys(side for each in rounds for side in each["sides"]))
    return {verdict.what: verdict for verdict in verdicts(Figures(rounds, sides, []))}


def test_a_ratio_is_the_median_of_the_rounds_ratios_so_that_a_slow_minute_hits_both_sides() -> None:
    # The ratios are 0.95, 0.95 and 0.8; the ratio of the medians would be 950 / 2000.
    rates = [(950, 1000), (3800, 4000), (800, 2000 / 2)]
    rounds = [a_round({"joulekeeper": {"noop": {1: a}}, "ray-same-flags": {"noop": {1: b}}}) for a, b in rates]

    verdict = judged(*rounds)["noop, c=1, over ray-same-flags"]

    assert verdict.measured == pytest.approx(0.95)
    assert verdict.met


def test_a_bar_that_is_missed_is_told_so() -> None:
    rates: Rates = {"joulekeeper": {"mlp": {8: 740}}, "fastapi": {"mlp": {8: 1000}}, "litserve": {"mlp": {8: 240}}}
    found = judged(a_round(rates))

    assert not found["mlp, c=8, over fastapi"].met
    assert found["mlp, c=8, over litserve"].met


def test_a_side_or_round_without_its_pair_gives_no_verdict() -> None:
    ours, theirs = a_round({"joulekeeper": {"noop": {1: 10}}}), a_round({"fastapi": {"noop": {1: 10}}})
    assert judged(ours, theirs) == {}


def test_minilm_is_held_against_whichever_peer_is_best_and_against_the_bare_loop() -> None:
    rates: Rates = {side: {"minilm": {64: rate}} for side, rate in (("joulekeeper", 95), ("a", 50), ("b", 100))}
    found = judged(a_round(rates, loop={"1": 50.0, "8": 100.0}))

    assert found["minilm, c=64, over the best peer (b)"] == (
        "minilm, c=64, over the best peer (b)",
        pytest.approx(0.95),
        ">= 1.0",
        False,
    )
    assert found["minilm, c=64, over a bare torch loop"].measured == pytest.approx(0.95)
    assert found["minilm, c=64, over a bare torch loop"].met


def test_added_latency_is_judged_with_one_client_alone() -> None:
    one = a_round({"joulekeeper": {"noop": {1: 1, 8: 1}}, "ray-same-flags": {"noop": {1: 1, 8: 1}}})
    one["sides"]["joulekeeper"]["cells"]["noop"]["1"]["p50_ms"] = 1.6

    added = [verdict for what, verdict in judged(one).items() if "p50 added" in what]

    assert [(verdict.measured, verdict.met) for verdict in added] == [(pytest.approx(0.6), False)]
