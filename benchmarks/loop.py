"""How close the training loop is to its limit: the model alone, on a batch that is ready.

Both are measured in turn in one run, and the ratio is what counts:

    .venv/bin/python benchmarks/loop.py light ../shared/data/bccd
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from centernet.assemble import make_loader
from centernet.dataset.coco import read_training
from centernet.device import choose_device
from centernet.encode import encode
from centernet.losses import losses
from centernet.presets import load
from centernet.seed import set_up
from centernet.state import make_state
from centernet.train import train

ROUNDS = 3


def main() -> None:
    preset, folder = sys.argv[1:]
    config = load(
        preset, {"data.folder": folder, "train.epochs": ROUNDS + 1, "train.evaluate_every": 99}
    )
    device = choose_device("auto")
    set_up(threads=torch.get_num_threads(), deterministic=False, cudnn_benchmark=True)
    split, _ = read_training(Path(folder))
    loader, _ = make_loader(config, split, device)
    batch = next(iter(loader)).to(device)
    state = make_state(config, len(split.classes), device)
    target = encode(
        batch.instances,
        classes=len(split.classes),
        height=config.data.height,
        width=config.data.width,
    )

    def model_alone(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            losses(state.model(batch.images), target)["total"].backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return steps * len(batch.instances) / (time.perf_counter() - started)

    model_alone(3)
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        epochs = train(config, Path(scratch))
        next(epochs)  # fills the image cache
        for _ in range(ROUNDS):
            alone = model_alone(20)
            whole = next(epochs).images_per_second
            ratios.append(whole / alone)
            print(f"loop {whole:.1f} images/s, model alone {alone:.1f}: {ratios[-1]:.2f}")
        epochs.close()
    print(f"median: the loop runs at {median(ratios):.2f} of the model's own speed")


if __name__ == "__main__":
    main()
