"""How weights move: OPTIMIZERS and SCHEDULES by name, parameter groups, the rate of a step."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def adamw(groups: list[dict[str, Any]], *, momentum: float, nesterov: bool) -> Optimizer:
    """Loshchilov & Hutter 2019; without weight decay it is Adam. Momentum is its first beta."""
    return torch.optim.AdamW(groups, betas=(momentum, 0.999), fused=True)


def sgd(groups: list[dict[str, Any]], *, momentum: float, nesterov: bool) -> Optimizer:
    """With momentum 0, Nesterov's is plain descent too."""
    nesterov = nesterov and momentum > 0
    return torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=nesterov, fused=True)


class Rule(NamedTuple):
    """An optimizer, and the power of the batch that its learning rate follows."""

    build: Callable[..., Optimizer]
    power: float


OPTIMIZERS = {
    "adamw": Rule(adamw, 0.5),  # Malladi et al. 2022, On the SDEs and Scaling Rules
    "sgd": Rule(sgd, 1.0),  # Goyal et al. 2017, Accurate, Large Minibatch SGD
}


def peak_rate(lr: float, *, optimizer: str, batch_size: int, lr_batch: int | None) -> float:
    """The peak learning rate for this batch size of an `lr` that was stated for `lr_batch`."""
    if lr_batch is None:
        return lr
    return float(lr * (batch_size / lr_batch) ** OPTIMIZERS[optimizer].power)


def parameter_groups(
    model: nn.Module, *, weight_decay: float, decay_norms: bool, backbone_lr_factor: float
) -> list[dict[str, Any]]:
    """Backbone and the rest, each with and without decay, which norms and biases may lack."""
    groups = []
    for in_backbone, factor in ((True, backbone_lr_factor), (False, 1.0)):
        own = [
            p for name, p in model.named_parameters() if name.startswith("backbone.") == in_backbone
        ]
        for matrices in (True, False):
            parameters = [p for p in own if is_vector(p) != matrices]
            decay = weight_decay if matrices or decay_norms else 0.0
            groups.append({"params": parameters, "weight_decay": decay, "factor": factor})
    return groups


def is_vector(parameter: Tensor) -> bool:
    """Whether it has one value a channel: a norm, a bias, a layer scale[C, 1, 1].

    A kernel[1, C, 1, 1] is none: it makes one map of C.
    """
    return parameter.ndim < 2 or (parameter.ndim == 3 and parameter.numel() == len(parameter))


def cosine(step: int, *, total: int, warmup: int, **_: Any) -> float:
    """Half a cosine from 1, after the warm-up, to 0."""
    progress = (step - warmup) / max(total - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * progress))


def stairs(step: int, *, total: int, milestones: Sequence[float], factor: float, **_: Any) -> float:
    """Times `factor` after each milestone, a fraction of the training (paper: 90, 120 of 140)."""
    return float(factor ** sum(step > milestone * total for milestone in milestones))


SCHEDULES: dict[str, Callable[..., float]] = {"cosine": cosine, "step": stairs}


def learning_rate(
    step: int,
    total: int,
    *,
    peak: float,
    warmup: int,
    schedule: str = "cosine",
    milestones: Sequence[float] = (),
    factor: float = 0.1,
) -> float:
    """Rate of a step (from 1): linear warm-up to the peak, then as the schedule says."""
    warmup = min(warmup, total // 3)  # short trainings warm up for a third at most
    if step <= warmup:
        return peak * step / warmup
    fall = SCHEDULES[schedule]
    return peak * fall(step, total=total, warmup=warmup, milestones=milestones, factor=factor)
