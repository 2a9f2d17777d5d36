"""One step of training alone, and the same in several processes; run by torchrun, in float64.

In float32 the gradients of the first layers differ by a hundredth: another order of sums is enough
to bring some of a small net's many ReLUs to the other side.
"""

import json
import sys
from pathlib import Path

import torch
from conftest import tiny_values

from centernet import distributed
from centernet.assemble import make_loader
from centernet.config import Config, resolve
from centernet.dataset.coco import read_training
from centernet.state import make_state
from centernet.train import train_step

CPU = torch.device("cpu")


def step(config: Config) -> dict[str, torch.Tensor]:
    """The losses of a step, the gradient of each parameter, and the buffers after it."""
    split = read_training(Path(str(config.data.folder)))[0]
    batch = next(iter(make_loader(config, split, CPU)[0]))
    state = make_state(config, len(split.classes), CPU)
    state.model.train()
    terms = train_step(state, batch, config, 1e-3)
    gradients = {name: p.grad for name, p in state.model.named_parameters() if p.grad is not None}
    buffers = {name: buffer.double() for name, buffer in state.model.named_buffers()}
    return terms | gradients | buffers


def main(data: Path, backbones: list[str]) -> None:
    """Print, for each backbone, the largest relative deviation of anything."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]  # the network's casts
    values = tiny_values(data) | {"train.threads": 1, "optim.batch_size": 7}
    configs = {name: resolve(values | {"model.backbone": name}) for name in backbones}
    alone = {name: step(config) for name, config in configs.items()}
    with distributed.joined(CPU):
        for name, config in configs.items():
            apart = [
                ((found - alone[name][key]).norm() / alone[name][key].norm().clamp(min=1e-3)).item()
                for key, found in step(config).items()
            ]
            if distributed.rank() == 0:
                print(json.dumps({"backbone": name, "tensors": len(apart), "apart": max(apart)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
