"""The census of nodes, with answers that the test decides."""

import pytest

from app.metering.census import Leftover, NodeCensus


class Nodes:
    """Nodes that answer when the test has said what."""

    def __init__(self):
        self.asked = []
        self.says = {}

    def ask(self, node):
        self.asked.append(node)
        return node

    def answer(self, node):
        said = self.says.get(node)
        if isinstance(said, Exception):
            raise said
        return said


@pytest.fixture
def nodes():
    return Nodes()


@pytest.fixture
def census(nodes):
    return NodeCensus(nodes.ask, nodes.answer)


def test_a_node_is_asked_once_and_named_once_if_its_books_are_open(nodes, census):
    assert not census.complete
    assert census.look(["a", "b"]) == []
    assert not census.complete
    nodes.says = {"a": Leftover("aaaa0000", open_books=True), "b": Leftover("bbbb0000", open_books=False)}
    assert census.look(["a", "b"]) == ["a"]
    assert census.look(["a", "b"]) == []
    assert nodes.asked == ["a", "b"]
    assert census.complete


def test_a_host_is_found_by_its_tag_under_its_newest_ray_node(nodes, census):
    nodes.says = {"a": Leftover("aaaa0000", open_books=False)}
    census.look(["a"])
    assert census.node_of_tag("aaaa0000") == "a"
    assert census.node_of_tag("bbbb0000") is None
    # The raylet crashed and came back: another Ray node on the same state directory.
    nodes.says["a2"] = Leftover("aaaa0000", open_books=True)
    assert census.look(["a2"]) == ["a2"]
    assert census.node_of_tag("aaaa0000") == "a2"


def test_a_node_that_does_not_answer_is_asked_three_times_and_then_left_alone(nodes, census):
    nodes.says = {"a": RuntimeError("the worker died")}
    for _ in range(5):
        assert census.look(["a"]) == []
    assert nodes.asked == ["a"] * 3
    assert census.complete


def test_a_node_that_is_gone_is_not_waited_for(nodes, census):
    census.look(["a"])
    census.look([])
    assert census.complete
