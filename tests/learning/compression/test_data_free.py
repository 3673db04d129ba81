"""Distillation without data: a student of a generator's inventions knows real digits, which it never saw.

How well it knows them in the end is measured by scripts/bench/compression.py.
"""

import pytest
import torch

from app.compression.data_free import Generator, learn_without_data
from app.compression.distil import smaller
from app.compression.job import DistilDataFree
from app.compression.subject import Subject
from app.errors import InvalidInput
from app.models.architectures import build
from app.models.blueprint import Mlp
from app.training.data import Dataset
from app.training.phases import Phases


def test_a_student_that_saw_no_digit_knows_most_of_them(digits: Dataset, phases: Phases) -> None:
    torch.manual_seed(0)
    blueprint = Mlp(sizes=(64, 48, 10), input_scale=16)
    teacher = build(blueprint)
    x, y = torch.from_numpy(digits.train_x), torch.from_numpy(digits.train_y)
    optimiser = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    for _ in range(200):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(teacher(x), y).backward()
        optimiser.step()
    original = Subject(blueprint, teacher.eval())
    step = DistilDataFree(method="distil-data-free", rounds=100, batch_size=64, lr=5e-3)
    student = smaller(original, step, seed=0)
    learn_without_data(original, student, step, seed=0, phases=phases, tell=lambda _: None)
    assert student.blueprint == Mlp(sizes=(64, 24, 10), input_scale=16)
    with torch.inference_mode():
        found = student.module(torch.from_numpy(digits.test_x)).argmax(1)
    assert float((found == torch.from_numpy(digits.test_y)).float().mean()) >= 0.6


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (2, 10, 10), (12,)])
def test_inventions_have_the_shape_and_range_of_inputs(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    found = Generator(shape, 16.0)(torch.randn(4, 64)).detach()
    assert found.shape == (4, *shape)
    assert 0 <= float(found.min()) < float(found.max()) <= 16


def test_a_network_without_classes_is_refused(phases: Phases) -> None:
    blueprint = Mlp(sizes=(4, 8, 1))
    subject = Subject(blueprint, build(blueprint))
    step = DistilDataFree(method="distil-data-free")
    with pytest.raises(InvalidInput, match="tells classes apart"):
        learn_without_data(subject, subject, step, seed=0, phases=phases, tell=print)
