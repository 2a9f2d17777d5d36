"""The running average of the weights, which is what gets evaluated, kept and used."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Exponential moving average of a model, batch-norm statistics included.

    The decay warms up as min(decay, (1 + t) / (warmup + t)), so early steps are forgotten; a
    warmup of 1 is none. With a decay of 0 it is the model itself.
    """

    def __init__(self, model: nn.Module, *, decay: float, warmup: float = 10.0) -> None:
        """Start from a copy of the model."""
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.warmup = decay, warmup
        self.step = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move one step towards the model's weights; integer buffers are copied.

        A tensor that layers share has several names, and is one.
        """
        decay = min(self.decay, (1 + self.step) / (self.warmup + self.step))
        self.step += 1
        ours, theirs = (net.state_dict(keep_vars=True).values() for net in (self.model, model))
        pairs = list({id(a): (a, b) for a, b in zip(ours, theirs, strict=True)}.values())
        floats = [(a, b) for a, b in pairs if a.is_floating_point()]
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch has no types
        move([a for a, _ in floats], [b for _, b in floats], self.step)
        for a, b in pairs:
            if not a.is_floating_point():
                a.copy_(b)

    def evaluated(self) -> nn.Module:
        """The model, to evaluate: without what some networks of timm keep of weights it had before.

        They work it out when first evaluated, and forget it when told that they train.
        """
        return self.model.train().eval()
