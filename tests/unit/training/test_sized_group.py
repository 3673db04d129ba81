"""A planned run's worker group follows the conductor: empty while it waits and pauses, as it was at the end."""

from collections.abc import Callable
from typing import Any, Self

import pytest

from app.errors import InvalidInput, Unavailable
from app.policy.worker_groups import Wish
from app.training.fitted import Fitted
from app.training.sized_group import sized_group


class FakeKubeRay:
    """Remembers every size; `broken`: does not answer."""

    def __init__(self) -> None:
        self.sizes = [Wish(3, 1, 5)]
        self.broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def size(self, name: str, wishes: dict[str, Wish]) -> dict[str, Wish]:
        if self.broken:
            raise Unavailable("the Kubernetes API does not answer")
        before = self.sizes[-1]
        self.sizes.append(wishes["workers"])
        return {"workers": before}


class FakeBoard:
    def __init__(self) -> None:
        self.bound: list[int] = []

    def bound_workers(self, run: str, most: int) -> None:
        self.bound.append(most)

    def progress_of(self, run: str) -> str:
        return "far"


class TwoPieces:
    """A way that runs on four workers, pauses, and goes on with two."""

    waited_s = 7.0

    def __init__(self, board: Any) -> None:
        self.board = board

    def conduct(self, fit: Callable[[], Fitted]) -> Fitted:
        for workers in (4, 2):
            self.board.bound_workers("run", workers)
            fitted = fit()
        return fitted

    def ended(self, *_: object) -> None:
        pass


def conducted(kuberay: FakeKubeRay, named: str = "ray/workers/2", fails: bool = False) -> tuple[FakeBoard, list[str]]:
    board, told = FakeBoard(), list[str]()

    def fit() -> Any:
        if fails:
            raise RuntimeError("lost")
        return "fitted"

    with sized_group(named, board, told.append, lambda: kuberay) as (sized_board, sized):  # type: ignore[arg-type,return-value]
        way = sized(TwoPieces(sized_board))
        assert way.conduct(fit) == "fitted"
        assert (way.waited_s, sized_board.progress_of("run")) == (7.0, "far")
    return board, told


def test_the_group_has_room_for_the_planned_workers_and_is_empty_between_them() -> None:
    kuberay = FakeKubeRay()
    board, told = conducted(kuberay)
    # Two workers a replica: none while it waits, two, none in the pause, one, none, and as it was.
    assert [size.replicas for size in kuberay.sizes[1:]] == [0, 2, 0, 1, 0, 3]
    assert kuberay.sizes[-1] == kuberay.sizes[0]
    assert (board.bound, told) == ([4, 2], [])


def test_a_run_that_fails_leaves_the_group_as_it_was() -> None:
    kuberay = FakeKubeRay()
    with pytest.raises(RuntimeError):
        conducted(kuberay, fails=True)
    assert kuberay.sizes[-1] == kuberay.sizes[0]


def test_an_api_that_does_not_answer_is_told_and_the_run_goes_on() -> None:
    kuberay = FakeKubeRay()
    kuberay.broken = True
    board, told = conducted(kuberay)
    assert board.bound == [4, 2]
    assert told[0] == "worker group workers is not sized: the Kubernetes API does not answer"


def test_without_a_name_nothing_is_sized() -> None:
    kuberay = FakeKubeRay()
    board, _ = conducted(kuberay, named="")
    assert (board.bound, len(kuberay.sizes)) == ([4, 2], 1)


@pytest.mark.parametrize("named", ["ray", "ray/", "/workers", "ray/workers/none", "ray/workers/0"])
def test_names_that_are_none_are_refused(named: str) -> None:
    with pytest.raises(InvalidInput, match="RAYCLUSTER/GROUP"):
        conducted(FakeKubeRay(), named)
