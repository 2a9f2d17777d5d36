"""Where `centernet train` sends its epochs: LOGGERS by name. A study logs to MLflow instead."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from centernet.config import Config, flatten
from centernet.errors import UserError
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


@contextmanager
def tensorboard(config: Config, folder: Path) -> Iterator[Log]:
    """Event files in `folder/tensorboard`."""
    from torch.utils.tensorboard import SummaryWriter

    def log(epoch: Epoch) -> None:
        if epoch.restored:
            return  # it is in the events of the training that was interrupted
        for name, value in numbers(epoch).items():
            writer.add_scalar(name, value, epoch.number)
        writer.flush()

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        yield log


@contextmanager
def wandb(config: Config, folder: Path) -> Iterator[Log]:
    """A Weights & Biases run; WANDB_MODE=offline keeps it on this machine."""
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb as library
    except ImportError:
        raise UserError("--log wandb: install the extra: pip install wandb") from None
    run = library.init(
        project="centernet", dir=str(folder), config=flatten(config.model_dump()), save_code=False
    )
    try:
        yield lambda epoch: run.log(numbers(epoch), step=epoch.number)
    finally:
        run.finish()


@contextmanager
def none(config: Config, folder: Path) -> Iterator[Log]:
    """Nowhere."""
    yield lambda epoch: None


LOGGERS = {"tensorboard": tensorboard, "wandb": wandb, "none": none}
