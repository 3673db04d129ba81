"""Early exits: rows leave where they are sure, answers keep their rows, and never leaving is the network itself."""

import math

import pytest
import torch

from app.models.architectures import build
from app.models.blueprint import Cnn
from app.models.early_exit import EarlyExits

PLAIN = Cnn(image_size=8, channels=(4, 8), hidden=16)


def network(confidence: float) -> EarlyExits:
    torch.manual_seed(0)
    module = build(PLAIN.model_copy(update={"exit_confidence": 0.9})).eval()
    assert isinstance(module, EarlyExits)
    module.confidence = confidence
    return module


def test_a_row_has_the_answer_of_the_exit_where_it_left() -> None:
    x = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        every = network(0.0).every_exit(x)
        middle = float(every[0].softmax(1).amax(1).median())
        module = network(middle)
        where, answer = module.leaving(x), module(x)
    assert set(where.tolist()) == {0, 1}
    assert torch.equal(where == 0, every[0].softmax(1).amax(1) >= middle)
    for row, number in enumerate(where.tolist()):
        torch.testing.assert_close(answer[row], every[number][row])


@pytest.mark.parametrize(("confidence", "number"), [(0.0, 0), (math.inf, 1)])
def test_all_leave_at_once_or_never(confidence: float, number: int) -> None:
    x = torch.randn(5, 1, 8, 8)
    with torch.inference_mode():
        assert network(confidence).leaving(x).tolist() == [number] * 5


def test_never_leaving_is_the_network_without_exits() -> None:
    module, plain = network(math.inf), build(PLAIN).eval()
    missing, unknown = plain.load_state_dict(module.state_dict(), strict=False)
    assert (missing, {name.split(".")[0] for name in unknown}) == ([], {"exits"})
    x = torch.randn(3, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), plain(x))
        assert module(x[:0]).shape == (0, 10)
