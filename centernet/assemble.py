"""From a config to what a training is fed and paced by: samples, loader, learning rate."""

from collections.abc import Callable
from functools import partial

import torch
from torch.utils.data import DataLoader

from centernet import distributed
from centernet.augment import Augmenter
from centernet.config import Config
from centernet.dataset.loader import (
    Batch,
    Order,
    Samples,
    default_workers,
    in_order,
    training_loader,
)
from centernet.dataset.split import Split
from centernet.errors import UserError
from centernet.optim import learning_rate, peak_rate


def samples(
    config: Config, split: Split, augmenter: Augmenter | None = None, *, workers: int = 0
) -> Samples:
    """The images of a split as the network sees them; loader workers share the cache's memory."""
    return Samples(
        split,
        height=config.data.height,
        width=config.data.width,
        letterbox=config.data.resize == "letterbox",
        cache=config.data.cache,
        cache_mb=config.data.cache_mb // max(workers, 1),
        cache_disk_mb=config.data.cache_disk_mb,
        augmenter=augmenter,
    )


def make_loader(
    config: Config, split: Split, device: torch.device
) -> tuple[DataLoader[Batch], Order]:
    """Augmented, balanced batches of a split, and the order that `epoch` is set on."""
    order = Order(
        split,
        batch_size=config.optim.batch_size,
        balance=config.data.balance,
        seed=config.train.seed,
        share=distributed.share(),
    )
    parts = distributed.world() * config.optim.accumulate
    if distributed.world() > 1 and len(split) // len(order) < parts:
        raise UserError(
            f"optim.batch_size: {config.optim.batch_size} images for {distributed.world()} "
            f"processes with optim.accumulate={config.optim.accumulate}: fewer than one for each"
        )
    workers = how_many(config, device)
    augmenter = Augmenter(**config.augment.model_dump())
    augmented = samples(config, split, augmenter, workers=workers)
    return training_loader(augmented, order, workers=workers), order


def make_validation(config: Config, split: Split, device: torch.device) -> DataLoader[Batch]:
    """The images of a split in order, as they are; each process has a share of the batches."""
    workers = how_many(config, device)
    return in_order(
        samples(config, split, workers=workers),
        batch_size=config.optim.batch_size,
        share=distributed.share(),
        workers=workers,
    )


def how_many(config: Config, device: torch.device) -> int:
    """Processes that load a split."""
    return default_workers(device) if config.data.workers is None else config.data.workers


def peak(config: Config) -> float:
    """The highest learning rate, for the batch there is."""
    return peak_rate(
        config.optim.lr,
        optimizer=config.optim.name,
        batch_size=config.optim.batch_size,
        lr_batch=config.optim.lr_batch,
    )


def make_schedule(config: Config, total: int) -> Callable[[int], float]:
    """The learning rate of a step, from 1, in a training of `total` steps."""
    return partial(
        learning_rate,
        total=total,
        peak=peak(config),
        warmup=config.optim.warmup_steps,
        schedule=config.optim.schedule,
        milestones=config.optim.milestones,
        factor=config.optim.step_factor,
    )
