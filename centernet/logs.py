"""Epochs as numbers and as text, and where `centernet train` sends them: LOGGERS by name."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from centernet.config import Config, flatten
from centernet.errors import UserError, one_line
from centernet.structures import Epoch

Log = Callable[[Epoch], None]


def numbers(epoch: Epoch) -> dict[str, float]:
    """What a chart shows of an epoch."""
    return {
        **{f"loss/{name}": value for name, value in epoch.losses.items()},
        **{f"val/{name}": value for name, value in epoch.metrics.items()},
        "train/learning_rate": epoch.learning_rate,
        "train/images_per_second": epoch.images_per_second,
        "train/seconds": epoch.seconds,
        "val/seconds": epoch.seconds_evaluating,
    }


def to_lines(epochs: list[Epoch]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs)


def from_lines(text: str) -> list[Epoch]:
    """The inverse of `to_lines`."""
    return [from_tree(json.loads(line)) for line in text.splitlines()]


def from_tree(tree: dict[str, Any]) -> Epoch:
    """An epoch as another version of this program may have written it."""
    known = {field.name for field in fields(Epoch)}
    return Epoch(**{name: value for name, value in tree.items() if name in known})


@contextmanager
def tensorboard(config: Config, folder: Path) -> Iterator[Log]:
    """Event files in `folder/tensorboard`, from the first epoch on."""
    from torch.utils.tensorboard import SummaryWriter

    writer: SummaryWriter | None = None

    def log(epoch: Epoch) -> None:
        nonlocal writer
        if writer is None:  # a resumed training writes all its epochs again, in place of the old
            writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch.number)
        for name, value in numbers(epoch).items():
            writer.add_scalar(name, value, epoch.number)
        writer.flush()

    try:
        yield log
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def wandb(config: Config, folder: Path) -> Iterator[Log]:
    """A Weights & Biases run; WANDB_MODE=offline keeps it on this machine."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb as library
    except ImportError:
        raise UserError("--log wandb: install the extra: pip install wandb") from None
    try:
        run = library.init(
            project="centernet",
            dir=str(folder),
            config=flatten(config.model_dump()),
            save_code=False,
        )
    except library.errors.Error as error:  # no account, no way to its server
        advice = "wandb login, or WANDB_MODE=offline"
        raise UserError(f"--log wandb: {one_line(str(error))} ({advice})") from None
    try:
        yield lambda epoch: run.log(numbers(epoch), step=epoch.number)
    finally:
        run.finish()


@contextmanager
def none(config: Config, folder: Path) -> Iterator[Log]:
    """Nowhere."""
    yield lambda epoch: None


LOGGERS = {"tensorboard": tensorboard, "wandb": wandb, "none": none}
