"""Plans of engines that fit a foreign truth: power over time is given, steps are made that could have drawn it.

Above a device's floor (its lowest power and a tenth) it works. Of the working powers those above the middle of the
lowest and the highest are prefill, one prompt for each piece of time; the others are decode, in steps of 25 ms, of all
prompts that are open, alike. A prompt is open from its prefill to the next time the device is idle. Where there is one
working power only, each piece of work is one prompt that decodes.
"""

from dataclasses import replace
from itertools import pairwise

from app.domain.generation import Step, Work
from tests.fixtures.token_truth import Plan, Request, Truth
from tests.stubs.nvml.stub import StubScript

_STEP_NS = 25_000_000
_TOKEN_NS = 200_000
_CONTEXT = 200


def plans_of_truth(script: StubScript) -> list[Plan]:
    """A plan for each device, beginning at 0."""
    first_ns = min(device.phases[0][0] for device in script.devices)
    return [
        _plan(f"device {n}", [(at_ns - first_ns, power_mw) for at_ns, power_mw in device.phases])
        for n, device in enumerate(script.devices)
    ]


def _plan(name: str, phases: list[tuple[int, int]]) -> Plan:
    floor_mw = 1.1 * min(power_mw for _, power_mw in phases)
    working = [power_mw for _, power_mw in phases if power_mw > floor_mw]
    middle_mw = (min(working) + max(working)) / 2 if working else 0.0
    one_level = bool(working) and max(working) <= 1.02 * min(working)
    plan = Plan(name, phases=[*phases])
    open_now: list[str] = []
    for (start_ns, power_mw), (end_ns, _) in pairwise(phases):
        if power_mw <= floor_mw:
            _close(plan, open_now)
        elif power_mw > middle_mw and not one_level:
            prompt = _open(plan, open_now, start_ns, max(1, (end_ns - start_ns) // _TOKEN_NS))
            tokens = plan.truth[prompt].request.prompt
            _step(plan, start_ns, end_ns, power_mw, [Work(prompt, tokens, 0, 0, 0)])
        else:
            if not open_now:
                _open(plan, open_now, start_ns, 1)
            for begin_ns in range(start_ns, end_ns, _STEP_NS):
                finish_ns = min(begin_ns + _STEP_NS, end_ns)
                works = [Work(prompt, 0, 1, _CONTEXT, 0) for prompt in open_now]
                _step(plan, begin_ns, finish_ns, power_mw, works)
    _close(plan, open_now)
    return plan


def _open(plan: Plan, open_now: list[str], at_ns: int, tokens: int) -> str:
    prompt = f"r{len(plan.truth)}"
    plan.truth[prompt] = Truth(Request(prompt, at_ns, tokens, 1))
    plan.first_in.setdefault(len(plan.steps), []).append(prompt)
    open_now.append(prompt)
    return prompt


def _close(plan: Plan, open_now: list[str]) -> None:
    if open_now:
        plan.last_in[len(plan.steps) - 1] = [*open_now]
        open_now.clear()


def _step(plan: Plan, start_ns: int, end_ns: int, power_mw: int, works: list[Work]) -> None:
    energy_uj = power_mw * (end_ns - start_ns) / 1e6
    tokens = sum(work.prefill_tokens + work.decode_tokens for work in works)
    for work in works:
        truth = plan.truth[work.prompt_id]
        if work.prefill_tokens:
            truth.prefill_uj += energy_uj
        else:
            truth.decode_uj += energy_uj / len(works)
            truth.request = replace(truth.request, made=truth.request.made + 1)
        truth.by_tokens_uj += energy_uj * (work.prefill_tokens + work.decode_tokens) / tokens
        truth.ended_ns = end_ns
    plan.steps.append(Step(start_ns, end_ns, tuple(works)))
