"""Two epochs and an evaluation alone, and in several processes; run by torchrun, in float64.

In float32 the gradients of the first layers differ by a hundredth: another order of sums is enough
to bring some of a small net's many ReLUs to the other side.
"""

import json
import os
import sys
from collections import deque
from pathlib import Path

import torch
from conftest import tiny_values

from centernet import distributed
from centernet import train as training
from centernet.assemble import make_loader, make_validation
from centernet.config import Config, resolve
from centernet.dataset.coco import read_training
from centernet.state import make_state
from centernet.structures import Detections
from centernet.train import train_step

CPU = torch.device("cpu")


def trained(config: Config) -> dict[str, torch.Tensor]:
    """The losses of the last step, each parameter's gradient in it, and the weights after it."""
    split = read_training(Path(str(config.data.folder)))[0]
    loader, order = make_loader(config, split, CPU)
    state = make_state(config, len(split.classes), CPU)
    distributed.start_draws(5)
    state.model.train()
    for order.epoch in (1, 2):
        for batch in loader:
            terms = train_step(state, batch, config, 1e-3)
    gradients = {
        f"gradient of {name}": p.grad
        for name, p in state.model.named_parameters()
        if p.grad is not None
    }
    weights = {name: one.double() for name, one in state.model.state_dict().items()}
    return terms | gradients | weights


def detections(config: Config) -> list[Detections]:
    """Of every val image, untrained: what `validate` hands to `evaluate`."""
    handed: list[list[Detections]] = []
    split = read_training(Path(str(config.data.folder)))[1]
    val = make_validation(config, split, CPU)
    model = make_state(config, len(split.classes), CPU).ema.model.eval()
    training.evaluate = lambda found, _: handed.append(found) or {}  # type: ignore[attr-defined, assignment, func-returns-value]
    deque(training.validate(model, val, config, 1, CPU), maxlen=0)
    return handed[0]


def farthest(ours: list[Detections], theirs: list[Detections]) -> float:
    """The largest difference of a box, score or label, image by image and row by row."""
    worst = 0.0
    for one, other in zip(ours, theirs, strict=True):
        for field in ("boxes", "scores", "labels"):
            worst = max(worst, (getattr(one, field) - getattr(other, field)).abs().max().item())
    return worst


def main(data: Path, backbones: list[str]) -> None:
    """Print, for each backbone, the largest relative deviation of anything."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]  # the network's casts
    values = tiny_values(data) | {"train.threads": 1, "optim.batch_size": 7, "optim.name": "sgd"}
    configs = {name: resolve(values | {"model.backbone": name}) for name in backbones}
    first = os.environ["RANK"] == "0"  # it compares, the others wait for it
    evaluating = resolve(values | {"optim.batch_size": 3})  # the last batch is smaller
    found = detections(evaluating) if first else []
    alone = {name: trained(config) for name, config in configs.items() if first}
    with distributed.joined(CPU):
        gathered = detections(evaluating)
        if first:
            print(json.dumps({"images": len(gathered), "apart": farthest(found, gathered)}))
        for name, config in configs.items():
            together = trained(config)
            if first:
                apart = [
                    ((other - one).norm() / one.norm().clamp(min=1e-3)).item()
                    for one, other in zip(alone[name].values(), together.values(), strict=True)
                ]
                print(json.dumps({"backbone": name, "tensors": len(apart), "apart": max(apart)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
