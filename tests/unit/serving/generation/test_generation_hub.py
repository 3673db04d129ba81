"""What an engine's thread tells reaches the event loop whole and in order."""

import asyncio
import threading

from app.domain.generation import Step, Token, Work
from app.serving.generation.hub import Hub


def token(number: int) -> Token:
    return Token(number, None)


class Heard:
    """Notes what the engine's thread tells, and on which thread."""

    def __init__(self):
        self.told = []

    def stepped(self, step):
        self.told.append(("stepped", step, threading.current_thread().name))

    def tokens(self, prompt_id, count):
        self.told.append(("tokens", prompt_id, count))

    def ended(self, prompt_id):
        self.told.append(("ended", prompt_id))


def test_all_tokens_of_all_prompts_come_in_order_and_the_endings_last():
    async def run():
        hub = Hub(asyncio.get_running_loop())
        inbox = hub.open(["a", "b"])

        def engine() -> None:
            for number in range(500):
                hub.tokens("a", [token(number)])
                hub.tokens("b", [token(-number)])
            hub.ended("a", "length", "")
            hub.ended("b", "failed", "out of memory")

        thread = threading.Thread(target=engine)
        thread.start()
        heard, endings = {0: [], 1: []}, {}
        while inbox.left or len(endings) < 2:
            for news in await inbox.news():
                heard[news.index] += [each.id for each in news.tokens]
                if news.ending:
                    endings[news.index] = (news.ending, news.reason)
        thread.join()
        return heard, endings

    heard, endings = asyncio.run(run())
    assert heard == {0: list(range(500)), 1: [-number for number in range(500)]}
    assert endings == {0: ("length", ""), 1: ("failed", "out of memory")}


def test_what_comes_while_nobody_reads_lies_together():
    async def run():
        hub = Hub(asyncio.get_running_loop())
        inbox = hub.open(["a"])
        for number in range(3):
            hub.tokens("a", [token(number)])
        hub.ended("a", "stop", "")
        await asyncio.sleep(0)
        return await inbox.news()

    (news,) = asyncio.run(run())
    assert ([each.id for each in news.tokens], news.ending) == ([0, 1, 2], "stop")


def test_time_that_passes_is_news_of_nothing():
    async def run():
        hub = Hub(asyncio.get_running_loop())
        inbox = hub.open(["a", "b"])
        hub.wake_all()
        return await inbox.news()

    assert asyncio.run(run()) == []


def test_a_closed_inbox_holds_nothing_and_hears_nothing():
    async def run():
        heard = Heard()
        hub = Hub(asyncio.get_running_loop())
        hub.steps = heard
        inbox = hub.open(["a", "b"])
        hub.close(inbox)
        hub.close(inbox)
        hub.tokens("a", [token(1)])
        hub.ended("a", "cancelled", "")
        await asyncio.sleep(0)
        return len(hub), inbox.left, heard.told

    assert asyncio.run(run()) == (0, 2, [("tokens", "a", 1), ("ended", "a")])


def test_steps_are_told_on_the_thread_that_makes_them_and_a_fault_there_keeps_no_ending_back():
    class Faulty(Heard):
        def ended(self, prompt_id):
            raise ZeroDivisionError

    async def run():
        heard = Faulty()
        hub = Hub(asyncio.get_running_loop())
        hub.steps = heard
        inbox = hub.open(["a"])

        def engine():
            hub.stepped(Step(1, 2, ()))
            try:
                hub.ended("a", "stop", "")
            except ZeroDivisionError:
                heard.told.append("fault")

        thread = threading.Thread(target=engine, name="engine")
        thread.start()
        news = await inbox.news()
        thread.join()
        return heard.told, news[0].ending

    assert asyncio.run(run()) == ([("stepped", Step(1, 2, ()), "engine"), "fault"], "stop")


def test_what_the_prefix_cache_gave_is_known_until_the_inbox_is_closed():
    async def run():
        hub = Hub(asyncio.get_running_loop())
        inbox = hub.open(["a"])
        hub.stepped(Step(1, 2, (Work("a", 3, 0, 5, 5), Work("gone", 3, 0, 4, 4))))
        known = hub.cached_tokens("a"), hub.cached_tokens("gone")
        hub.close(inbox)
        return known, hub.cached_tokens("a")

    assert asyncio.run(run()) == ((5, 0), 0)
