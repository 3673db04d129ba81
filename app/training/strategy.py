"""How a model is divided among workers: copies (ddp), shards (fsdp), layers divided (tensor parallel), compiled or not.

Knows nothing of data, optimisers' settings or Ray: torch's process group must be there where workers are several.

    divided = divide(job, module, fabric)
    with divided.adding_up(last=True):                # gradients are averaged over `divided.data` with the last pass
        task.loss(divided.trained, rows).backward()
    divided.clip(1.0)

Workers lie in a grid: `tensor_parallel` neighbours hold one copy together and see the same rows; `divided.data` is the
group of copies, as the task sees it.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from app.training.fabric import Fabric, Group
from app.training.job import TrainJob

_COLUMNS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
_ROWS = ("o_proj", "down_proj")
"""Projections of attention and feed-forward layers, as Llama's are named: what goes in is divided by outputs, what
comes out by inputs, so that a layer needs one sum over the workers each way (Shoeybi et al., arXiv:1909.08053)."""


class Copies:
    """The group of copies of the model: of each copy one worker speaks."""

    def __init__(self, fabric: Fabric, ways: int) -> None:
        self._fabric, self._ways = fabric, ways
        self.rank, self.world, self.device = fabric.rank // ways, fabric.world // ways, fabric.device

    def gather(self, value: Any) -> list[Any]:
        return self._fabric.gather(value)[:: self._ways]


@dataclass(frozen=True, slots=True)
class Divided:
    """A model, ready to be trained by its group."""

    plain: nn.Module
    """Whose weights are optimised and kept; for evaluation, which all workers must do together."""
    trained: nn.Module
    """What a training step calls."""
    data: Group
    """Those who share the rows of a step."""
    mixed: bool
    """Whether some parameters are divided over other workers than the rest."""

    def adding_up(self, *, last: bool) -> AbstractContextManager[Any]:
        """For one of several passes of a step: gradients leave this worker with the `last` one."""
        if isinstance(self.plain, FSDPModule):
            self.plain.set_requires_gradient_sync(last)
        wrapped = _unwrapped(self.trained)
        return nullcontext() if last or not isinstance(wrapped, DistributedDataParallel) else wrapped.no_sync()

    def clip(self, largest_norm: float) -> None:
        """Scale gradients down so that the norm of all of them is `largest_norm` at most."""
        parameters = [each for each in self.plain.parameters() if each.grad is not None]
        if not self.mixed:
            nn.utils.clip_grad_norm_(parameters, largest_norm)
            return
        norms = [_whole(torch.linalg.vector_norm(each.grad)) for each in parameters]
        norm = float(torch.linalg.vector_norm(torch.stack(norms)))
        if norm > largest_norm:
            for each in parameters:
                each.grad.mul_(largest_norm / (norm + 1e-6))  # type: ignore[union-attr]


def copies(job: TrainJob, fabric: Fabric) -> Group:
    """Those who share the rows of a step: all workers, or one of each of the neighbours who hold a copy together."""
    ways = min(job.tensor_parallel, fabric.world)
    return Copies(fabric, ways) if ways > 1 else fabric


def divide(job: TrainJob, module: nn.Module, fabric: Fabric) -> Divided:
    """`module`, the same on every worker, on this worker's device and divided as the job says."""
    plain = module.to(fabric.device)
    data = copies(job, fabric)
    ways = fabric.world // data.world
    if fabric.world == 1:
        return Divided(plain, _compiled(job, plain), data, mixed=False)
    mesh = _grid(fabric, ways)
    if ways > 1:
        parallelize_module(plain, mesh["layers"], layer_plan(plain))
    if job.strategy == "fsdp" and data.world > 1:
        _shard(plain, mesh["data"])
        return Divided(plain, _compiled(job, plain), data, mixed=ways > 1)
    if ways > 1:
        return Divided(plain, plain, data, mixed=True)
    return Divided(plain, _compiled(job, _copied(plain, fabric.device)), data, mixed=False)


def layer_plan(module: nn.Module) -> dict[str, ParallelStyle]:
    """Which layers of `module` are divided how, by name; pairs of linear layers in a row where names say nothing."""
    named = {name: each for name, each in module.named_modules() if isinstance(each, nn.Linear)}
    plan: dict[str, ParallelStyle] = {}
    for name in named:
        if name.endswith(_COLUMNS):
            plan[name] = ColwiseParallel()
        elif name.endswith(_ROWS):
            plan[name] = RowwiseParallel()
    if plan:
        return plan
    names = list(named)
    for first, second in zip(names[0::2], names[1::2], strict=False):
        plan |= {first: ColwiseParallel(), second: RowwiseParallel()}
    return plan


def _grid(fabric: Fabric, ways: int) -> DeviceMesh:
    shape = (fabric.world // ways, ways)
    return init_device_mesh(fabric.device.type, shape, mesh_dim_names=("data", "layers"))


def _shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Each layer of a list of layers is gathered when it is its turn; the rest with the whole."""
    lists = [each for each in module.modules() if isinstance(each, nn.ModuleList)]
    for layer in [layer for each in reversed(lists) for layer in each]:
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)


def _copied(module: nn.Module, device: torch.device) -> nn.Module:
    # Buffers that are saved (statistics of batch norms) follow the first worker's; constants need not.
    statistics = module.state_dict().keys() & dict(module.named_buffers()).keys()
    return DistributedDataParallel(
        module,
        device_ids=[device] if device.type == "cuda" else None,
        forward_sync_buffers=bool(statistics),
        gradient_as_bucket_view=True,
    )


def _compiled(job: TrainJob, module: nn.Module) -> nn.Module:
    if not job.compile:
        return module
    compiled: nn.Module = torch.compile(module, dynamic=job.compile == "dynamic")  # type: ignore[assignment]
    return compiled


def _unwrapped(module: nn.Module) -> nn.Module:
    """`module` without what torch.compile put around it."""
    inner: nn.Module = getattr(module, "_orig_mod", module)
    return inner


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
