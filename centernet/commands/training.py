"""centernet train and overfit: the loops around a training, to the screen and a logger."""

import argparse
import shlex
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from centernet import distributed
from centernet import overfit as small
from centernet import train as training
from centernet.assemble import peak
from centernet.checkpoint import BEST
from centernet.commands.given import given_config
from centernet.commands.steps import StepProgress
from centernet.config import Config
from centernet.dataset import coco, formats
from centernet.dataset.split import Split, passed_over
from centernet.device import choose_device
from centernet.errors import counted
from centernet.optim import OPTIMIZERS
from centernet.shell import typed
from centernet.structures import Epoch, Step


def train(options: argparse.Namespace) -> int:
    """Train a detector, or continue; every epoch goes to the screen and the logger."""
    from centernet.logs import LOGGERS

    config = given_config(options)
    data = Path(str(config.data.folder))
    name = f"{Path(options.config).stem}-{data.resolve().name}"
    folder: Path = options.output or Path("runs/train") / name
    training.check(config)
    with distributed.joined(choose_device(config.train.device)):
        if distributed.rank() > 0:  # the first process tells, and writes
            deque(training.train(config, folder), maxlen=0)
            return 0
        splits = training.read(config)
        print(f"{name} -> {folder}{together()}{skipped(splits, data)}\n{rate(config)}", flush=True)
        run(config, folder, splits, LOGGERS[options.log])
    return 0


def run(
    config: Config,
    folder: Path,
    splits: tuple[Split, Split],
    logger: Callable[[Config, Path], Any],
) -> None:
    """Train, and tell of it."""
    epochs: list[Epoch] = []
    with (
        logger(config, folder) as log,
        closing(training.train_stepwise(config, folder, splits)) as events,
        StepProgress(config.train.epochs) as progress,
    ):
        for event in events:
            progress.show(event)
            if isinstance(event, Step):
                continue
            log(event)
            epochs.append(event)
            print(line(event, config.train.epochs), flush=True)
    print(summary(epochs, config, folder / BEST))


def together() -> str:
    """How many processes train."""
    return f" ({distributed.world()} processes)" if distributed.world() > 1 else ""


def skipped(splits: tuple[Split, Split], folder: Path) -> str:
    """What a training leaves out of its data, and notes on them."""
    told = passed_over(problem for split in splits for problem in split.problems)
    return f" ({told}: {typed('centernet')} check-data {shlex.quote(str(folder))})" if told else ""


def rate(config: Config) -> str:
    """The learning rate, and why it is that."""
    optim = config.optim
    text = f"learning rate {peak(config):.3g} ({optim.name}, {optim.schedule})"
    if optim.lr_batch in (None, optim.batch_size):
        return f"{text} for batches of {optim.batch_size}: optim.lr, as it is"
    how = {1.0: "in proportion", 0.5: "with the square root"}[OPTIMIZERS[optim.name].power]
    return (
        f"{text}: optim.lr {optim.lr:.3g} is for batches of {optim.lr_batch}, these are of "
        f"{optim.batch_size}, and it goes {how}"
    )


def line(epoch: Epoch, epochs: int) -> str:
    """An epoch on the screen."""
    if epoch.restored:
        return f"epoch {epoch.number}/{epochs}: restored, {numbers(epoch.metrics)}"
    left = (epochs - epoch.number) * (epoch.seconds + epoch.seconds_evaluating)
    terms = ", ".join(f"{name} {value:.3f}" for name, value in epoch.losses.items())
    return (
        f"epoch {epoch.number}/{epochs}: {terms}; {numbers(epoch.metrics)}; "
        f"{epoch.images_per_second:.0f} images/s, ETA {clock(left)}"
    )


def numbers(metrics: dict[str, float]) -> str:
    """The three that people look at."""
    shown = [f"{name} {metrics[name]:.1f}" for name in ("AP", "AP50", "AP75") if name in metrics]
    return ", ".join(shown) or "not evaluated"


def clock(seconds: float) -> str:
    """`3:07`."""
    return f"{seconds // 60:.0f}:{seconds % 60:02.0f}"


def summary(epochs: list[Epoch], config: Config, weights: Path) -> str:
    """What came of a training, and what to type next."""
    best = [epoch for epoch in epochs if epoch.best][-1]  # the last epoch is always evaluated
    lines = [f"Best     epoch {best.number}: {numbers(best.metrics)}", f"Weights  {weights}"]
    if len(epochs) < config.train.epochs:
        waited = f"no better AP for {counted(config.train.patience or 0, 'epoch')} (train.patience)"
        lines.insert(0, f"Ended    after epoch {len(epochs)} of {config.train.epochs}: {waited}")
    file, data = shlex.quote(str(weights)), Path(str(config.data.folder))
    val = formats.read(data, "val", config.data.follow_links)
    images = shlex.quote(str((val.root / val.tree["images"][0]["file_name"]).parent))
    onnx, program = shlex.quote(str(weights.with_suffix(".onnx"))), typed("centernet")
    return "\n".join([
        *lines,
        f"Next     {program} evaluate --weights {file} --data {shlex.quote(str(data))}",
        f"         {program} predict --weights {file} IMAGE ...",
        f"         {program} export --weights {file} --images {images} --output {onnx}",
    ])  # fmt: skip


def overfit(options: argparse.Namespace) -> int:
    """Learn eight images by heart; 0 if that works, else 1 and what is wrong."""
    config = given_config(options)
    training.check(config)
    data = Path(str(config.data.folder))
    split = small.chosen(coco.read(data, "train", config.data.follow_links))
    objects = sum(int((~record.crowd).sum()) for record in split.records)
    shown = len({label for record in split.records for label in small.labels(record)})
    print(
        f"{config.data.folder}, train: the first {counted(len(split), 'image')} that show "
        f"most classes, {counted(objects, 'object')} of {shown} of {len(split.classes)} "
        "classes; no augmentation"
    )
    started = time.monotonic()
    with closing(small.overfit(config, split, steps=options.steps)) as fits:
        for fit in fits:
            seconds = time.monotonic() - started
            eta = clock(seconds / fit.step * (options.steps - fit.step))
            terms = ", ".join(f"{name} {values[-1]:.3f}" for name, values in fit.losses.items())
            print(f"step {fit.step}/{options.steps}: {terms}; AP50 {fit.scores[-1]:.1f}, ETA {eta}")
    if fit.reached:
        print(f"It can: AP50 {fit.scores[-1]:.1f} after {fit.step} steps, {seconds:.0f} seconds")
        return 0
    print(f"It cannot: AP50 {fit.scores[-1]:.1f} after {fit.step} steps, {seconds:.0f} seconds")
    for reason in small.diagnose(config, split, fit):
        print(f"- {reason}")
    return 1
