"""A generating replica without a model: told steps at the plan's times, it prices them and puts them on the books.

    python joulekeeper_tokens.py DIRECTORY NAME UUID,UUID,...      # every device, by its place in the plan

The real client, rings and prices, without Ray; a ring, and a thread, for each engine of the plan. It is told what
an engine would say - who took part in which step, with how many tokens - and no power. When the meter has left it
answers with the receipts, uJ.
"""

import json
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[3])]

from schedule import Room, sleep_until  # noqa: E402

from app.domain.account import request_account, warm_account  # noqa: E402
from app.domain.generation import Step, Work  # noqa: E402
from app.engine.phases import PhasedSlice  # noqa: E402
from app.metering.client import WorkClient  # noqa: E402
from app.metering.step_client import StepClient  # noqa: E402
from app.policy.step_price import StepPrice  # noqa: E402
from tests.fixtures.token_truth import Model  # noqa: E402

_ACCEPTED_NS = 5_000_000
"""A request is accepted before its first step."""


class Replica:
    """One engine of the plan."""

    def __init__(self, number: int, uuid: str) -> None:
        self.number = number
        self.client = WorkClient.open(warm_account(f"m{number}", "1"), devices=[uuid])
        self.price = StepPrice(Model())
        self.steps = StepClient(self.client, self.price)
        self.account = request_account("bench", f"m{number}", "1")
        self.works: dict[str, PhasedSlice] = {}
        self.told: dict[str, dict] = {}
        self.late_ms: dict[str, float] = {}

    def play(self, plan: dict) -> None:
        """`steps` are [start_ns, end_ns, works, who begins, who ends]."""
        for start_ns, end_ns, works, begins, ends in plan["steps"]:
            sleep_until(start_ns - _ACCEPTED_NS)
            for prompt in begins:
                self.works[prompt] = self.steps.begin(self.account, [prompt])
            sleep_until(end_ns)
            late_ms = (time.monotonic_ns() - end_ns) / 1e6
            for prompt, *_ in works:
                self.late_ms[prompt] = max(late_ms, self.late_ms.get(prompt, 0.0))
            self.steps.stepped(Step(start_ns, end_ns, tuple(Work(*work) for work in works)))
            for prompt in ends:
                self.steps.ended(prompt)
                told = self.works[prompt].told()
                self.told[prompt] = {"provisional_uj": told.whole.energy_uj if told else None}

    def answer(self) -> dict:
        for prompt, work in self.works.items():
            told = work.told()
            settled = told is not None and not told.whole.provisional
            self.told[prompt] |= {
                "late_ms": self.late_ms[prompt],
                "prefill_uj": told.prefill_uj if told and settled else None,
                "decode_uj": told.decode_uj if told and settled else None,
            }
        return {"requests": self.told, "powers_mw": self.price.powers._asdict()}


def main() -> None:
    room, uuids = Room(Path(sys.argv[1]), sys.argv[2]), sys.argv[3].split(",")
    replicas = [Replica(number, uuid) for number, uuid in enumerate(uuids)]
    room.ready()
    room.plan()
    plans = [json.loads((room.directory / f"plan.{n}.json").read_text()) for n in range(len(uuids))]
    threads = [threading.Thread(target=one.play, args=(plan,)) for one, plan in zip(replicas, plans, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    room.tell("played")
    room.wait("booked")
    room.answer({str(one.number): one.answer() for one in replicas})
    for one in replicas:
        one.client.close()


if __name__ == "__main__":
    main()
