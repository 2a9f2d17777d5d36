"""centernet train: the loop around `train`, to the screen and a logger."""

import argparse
from contextlib import closing
from pathlib import Path

from centernet import train as training
from centernet.config import flatten, resolve
from centernet.dataset import coco
from centernet.dataset.demo import demo_folder
from centernet.presets import load, parse_overrides
from centernet.structures import Epoch


def train(options: argparse.Namespace) -> int:
    """Train a detector, or continue; every epoch goes to the screen and the logger."""
    from centernet.logs import LOGGERS

    config = load(options.config, parse_overrides(options.set))
    if config.data.folder is None:
        demo = str(demo_folder(Path("runs")))
        config = resolve(flatten(config.model_dump()) | {"data.folder": demo})
    name = f"{Path(options.config).stem}-{Path(str(config.data.folder)).resolve().name}"
    folder: Path = options.output or Path("runs/train") / name
    print(f"{name} -> {folder}{skipped(Path(str(config.data.folder)))}", flush=True)
    best: Epoch | None = None
    with (
        LOGGERS[options.log](config, folder) as log,
        closing(training.train(config, folder)) as epochs,
    ):
        for epoch in epochs:
            log(epoch)
            best = epoch if epoch.best else best
            print(line(epoch, config.train.epochs), flush=True)
    assert best is not None, "the last epoch is always evaluated"
    weights = folder / training.BEST
    print(f"Best: epoch {best.number}, {numbers(best.metrics)}\nWeights: {weights}")
    print(f"Next: centernet predict --weights {weights} IMAGE ...")
    return 0


def skipped(folder: Path) -> str:
    """What a training leaves out of its data."""
    count = sum(len(split.problems) for split in coco.read_training(folder))
    return f" ({count} defects skipped: centernet check-data {folder})" if count else ""


def line(epoch: Epoch, epochs: int) -> str:
    """An epoch on the screen."""
    if epoch.restored:
        return f"epoch {epoch.number}/{epochs}: restored, {numbers(epoch.metrics)}"
    left = (epochs - epoch.number) * (epoch.seconds + epoch.seconds_evaluating)
    terms = ", ".join(f"{name} {value:.3f}" for name, value in epoch.losses.items())
    return (
        f"epoch {epoch.number}/{epochs}: {terms}; {numbers(epoch.metrics)}; "
        f"{epoch.images_per_second:.0f} images/s, ETA {left // 60:.0f}:{left % 60:02.0f}"
    )


def numbers(metrics: dict[str, float]) -> str:
    """The three that people look at."""
    shown = [f"{name} {metrics[name]:.1f}" for name in ("AP", "AP50", "AP75") if name in metrics]
    return ", ".join(shown) or "not evaluated"
