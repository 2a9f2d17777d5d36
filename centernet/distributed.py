"""One training in several processes: torchrun starts them, each takes its part of every batch.

With the same batches a training comes out as in one process, but for the order of its sums: losses
are divided by the objects of the whole batch, batch norms see all of it, and stochastic depth is
drawn for all of it. Two things do not: dropout, which no backbone here has but a few of timm do, is
another draw in each process; and with `optim.accumulate`, norms and draws are of a part of a batch,
which holds other images. In one process nothing here does anything.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from centernet.errors import UserError
from centernet.seed import from_torchrun
from centernet.structures import Detections


def rank() -> int:
    """Which process this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return rank(), world()


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Together with the other processes that torchrun started, if it did; each has its GPU."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    local, here = from_torchrun("LOCAL_RANK", least=0), from_torchrun("LOCAL_WORLD_SIZE", least=1)
    alone = here == from_torchrun("WORLD_SIZE", least=1)  # all on this machine
    for name in ("RANK", "MASTER_PORT"):
        from_torchrun(name, least=0)
    if not os.environ.get("MASTER_ADDR"):
        raise UserError("MASTER_ADDR (environment): expected a host, as torchrun sets it")
    if alone and Path("/sys/class/net/lo").exists():
        for library in ("GLOO", "NCCL"):  # so nobody else need be able to connect
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UserError(
                f"torchrun: {here} processes, each of which needs a GPU "
                f"of its own, and {torch.cuda.device_count()} here; lower --nproc-per-node"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def parallel(model: nn.Module, *, sync_batchnorm: bool) -> nn.Module:
    """What to call in place of the model: its gradients become the mean over the processes."""
    if world() == 1:
        return model
    if sync_batchnorm:
        synchronise(model)
    share_draws(model)
    return DistributedDataParallel(model)


def synchronise(model: nn.Module) -> None:
    """Let its batch norms see the batches of all processes; their names and tensors stay."""
    kinds = nn.BatchNorm1d, nn.BatchNorm2d
    norms = [module for module in model.modules() if isinstance(module, kinds)]
    if next(model.parameters()).device.type == "cuda":
        on_gpus(model, activated=any(map(activates, norms)))
        return
    for norm in norms:  # torch's own works on GPUs only
        norm.__class__ = SharedBatchNormAct if activates(norm) else SharedBatchNorm


def activates(norm: nn.Module) -> bool:
    """Whether it is one of timm's, which has an activation behind it."""
    return hasattr(norm, "act")


def on_gpus(model: nn.Module, *, activated: bool) -> None:
    """The same by torch's kernels, which timm puts into its own norms."""
    if activated:
        from timm.layers import convert_sync_batchnorm  # late: only networks of timm need it

        convert_sync_batchnorm(model)
    else:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]  # torch's


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes, on any device."""

    def forward(self, x: Tensor) -> Tensor:
        """x[B, C, ...], normalised by the mean and variance of every process's x."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        count = summed(torch.tensor(x.numel() / x.shape[1], device=x.device))
        exact = x.to(self.running_mean.dtype)  # an autocast x is in half precision
        others, shape = [0, *range(2, x.ndim)], [-1, *[1] * (x.ndim - 2)]
        mean = Total.apply(exact.sum(others)) / count
        centred = exact - mean.view(shape)
        variance = Total.apply(centred.square().sum(others)) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        normal: Tensor = centred * scale.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    def _check_input_dim(self, x: Tensor) -> None:
        """It takes any: BatchNorm1d becomes one of these too."""


class SharedBatchNormAct(SharedBatchNorm):
    """The same with timm's activation behind it."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """x[B, C, h, w], normalised and activated."""
        return self.act(self.drop(super().forward(x)))  # type: ignore[no-any-return]  # modules


@dataclass
class Draws:
    """The random numbers that every process draws alike, and which of them are for its images."""

    seed: int = 0
    generator: torch.Generator | None = None
    count: int = 0  # images of all processes
    own: slice = field(default_factory=lambda: slice(0))

    def of(self, x: Tensor, keep: float) -> Tensor:
        """One or zero for each of x[B, ...], one as often as `keep`; [B, 1, ...]."""
        if self.generator is None or self.generator.device != x.device:
            self.generator = torch.Generator(x.device).manual_seed(self.seed)
        everyone = x.new_empty(self.count, *[1] * (x.ndim - 1))
        return everyone.bernoulli_(keep, generator=self.generator)[self.own]


DRAWS = Draws()


def start_draws(seed: int) -> None:
    """Begin this process's random numbers, and those that all processes share."""
    torch.manual_seed(seed + rank())
    DRAWS.seed, DRAWS.generator = seed, None


def share_draws(model: nn.Module) -> None:
    """Let stochastic depth, torchvision's and timm's, draw for the images of all processes."""
    found = [module for module in model.modules() if type(module).__name__ in SHARED]
    for module in found:
        module.__class__ = SHARED[type(module).__name__]
    if found:
        model.register_forward_pre_hook(count_images)


def count_images(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Note how many images all processes have, and which are this one's."""
    if not model.training:
        return
    counts = torch.zeros(world(), dtype=torch.long, device=inputs[0].device)
    counts[rank()] = len(inputs[0])
    ends = summed(counts).cumsum(0).tolist()
    DRAWS.count, DRAWS.own = ends[-1], slice(ends[rank()] - len(inputs[0]), ends[rank()])


class SharedStochasticDepth(nn.Module):
    """torchvision's by row, which leaves out a branch of some images."""

    p: float

    def forward(self, x: Tensor) -> Tensor:
        """x[B, ...], zero for some images and larger for the others."""
        if not self.training or self.p == 0:
            return x
        return x * (DRAWS.of(x, 1 - self.p) / (1 - self.p))


class SharedDropPath(nn.Module):
    """timm's, which may leave the others as they are."""

    drop_prob: float
    scale_by_keep: bool

    def forward(self, x: Tensor) -> Tensor:
        """x[B, ...], zero for some images."""
        keep = 1 - self.drop_prob
        if not self.training or keep == 1:
            return x
        return x * (DRAWS.of(x, keep) / (keep if self.scale_by_keep else 1))


SHARED: dict[str, type[nn.Module]] = {
    "StochasticDepth": SharedStochasticDepth,
    "DropPath": SharedDropPath,
}


def exchanging(network: nn.Module, *, now: bool) -> AbstractContextManager[None]:
    """A pass within exchanges its gradients, or adds them up for a later one that does."""
    if isinstance(network, DistributedDataParallel) and not now:
        return network.no_sync()
    return nullcontext()


class Total(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        """value[...], summed."""
        return summed(value)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        """The gradient of value[...]."""
        return summed(gradients[0])


def summed(value: Tensor) -> Tensor:
    """The sum over all processes, without a gradient."""
    if world() == 1:
        return value
    result = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(result)
    return result


def gathered(
    found: dict[int, Detections], *, count: int, top_k: int, device: torch.device
) -> list[Detections]:
    """Detections of all `count` images; each process brings those that it has, by their index."""
    if world() == 1:
        return [found[index] for index in range(count)]
    table = torch.zeros(count, top_k, 6, device=device)
    for index, one in found.items():
        rows = torch.cat([one.boxes, one.scores[:, None], one.labels[:, None]], 1)
        table[index, : len(rows)] = rows
    return [
        Detections(rows[:, :4], rows[:, 4], rows[:, 5].long())
        for rows in (rows[rows[:, 4] > 0] for rows in summed(table).cpu())
    ]
