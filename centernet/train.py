"""train(config) yields one Epoch at a time; the caller's loop logs, prunes and stops.

A training is a folder: `last.safetensors` (to go on from, exactly) and `best.safetensors` (the
EMA weights of the highest val AP). Called again on the same folder, it goes on where it was.
"""

import math
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from centernet import checkpoint, seed
from centernet.augment import Augmenter
from centernet.config import Config, flatten, resolve
from centernet.dataset.coco import read_training
from centernet.dataset.loader import (
    Batch,
    Order,
    Samples,
    default_workers,
    in_order,
    training_loader,
)
from centernet.dataset.split import Split
from centernet.encode import encode
from centernet.errors import UserError, did_you_mean
from centernet.evaluate import evaluate
from centernet.losses import SIZE_LOSSES, losses
from centernet.model import check_model
from centernet.predict import detect, weights_record
from centernet.state import State, make_state, restore, save
from centernet.structures import Epoch

LAST, BEST = "last.safetensors", "best.safetensors"


class NonFiniteLoss(UserError):
    """A loss became infinite or NaN: names epoch, step and term. A smaller optim.lr may help."""


def check(config: Config) -> None:
    """UserError for what a config cannot know: names in tables, weights and devices there are."""
    if config.loss.size_loss not in SIZE_LOSSES:
        hint = did_you_mean(config.loss.size_loss, SIZE_LOSSES)
        known = hint or f" (one of {', '.join(SIZE_LOSSES)})"
        raise UserError(f"loss.size_loss: no loss is named {config.loss.size_loss}{known}")
    check_model(
        backbone=config.model.backbone,
        pretrained=config.model.pretrained,
        neck=config.model.neck,
    )
    device = choose_device(config.train.device)
    if config.model.deformable and config.train.deterministic and device.type == "cuda":
        raise UserError(
            "model.deformable: torchvision's operator adds up its gradients in any order on CUDA; "
            "set train.deterministic=false, or train.device=cpu"
        )


def train(config: Config, folder: Path) -> Generator[Epoch, None, None]:
    """Train a detector, yielding each epoch once it is in `folder`'s checkpoint.

    Epochs that a checkpoint there already holds come first, marked `restored`. UserError for bad
    data or a folder of another training; NonFiniteLoss where the loss diverges.
    """
    check(config)
    device = choose_device(config.train.device)
    threads = config.train.threads or seed.cores()
    config = resolve(flatten(config.model_dump()) | {"train.threads": threads})
    seed.set_up(
        threads=threads,
        deterministic=config.train.deterministic,
        cudnn_benchmark=config.train.cudnn_benchmark,
    )
    if config.data.folder is None:
        raise UserError("data.folder: not set; --set data.folder=FOLDER (images/, train.json, ...)")
    train_split, val_split = read_training(Path(config.data.folder))
    loader, order = make_loader(config, train_split, device)
    val = samples(config, val_split)
    state = make_state(config, len(train_split.classes), device)
    splits = (train_split, val_split)
    restore(state, config, folder / LAST, splits)
    yield from (replace(epoch, restored=True) for epoch in state.epochs)

    for number in range(len(state.epochs) + 1, config.train.epochs + 1):
        order.epoch = number
        started = time.perf_counter()
        means, learning_rate = train_epoch(state, loader, config, number, device)
        seconds = time.perf_counter() - started
        metrics = {}
        if number % config.train.evaluate_every == 0 or number == config.train.epochs:
            metrics = validate(state.ema.model, val, config, device)
        best = metrics.get("AP", -1.0) > max(
            (epoch.metrics.get("AP", -1.0) for epoch in state.epochs), default=-1.0
        )
        digests = checkpoint.digests(state.model.state_dict(), state.ema.model.state_dict())
        epoch = Epoch(
            number=number,
            losses=means,
            metrics=metrics,
            learning_rate=learning_rate,
            seconds=seconds,
            seconds_evaluating=time.perf_counter() - started - seconds,
            images_per_second=len(train_split) / seconds,
            digest=checkpoint.combined(digests),
            best=best,
            tensors=checkpoint.short(digests),
        )
        state.epochs.append(epoch)
        if best:
            record = weights_record(config, train_split.classes)
            checkpoint.write(folder / BEST, state.ema.model.state_dict(), record)
        if number % config.train.checkpoint_every == 0 or number == config.train.epochs:
            save(state, config, folder / LAST, splits)
        yield epoch


def train_epoch(
    state: State, loader: DataLoader[Batch], config: Config, number: int, device: torch.device
) -> tuple[dict[str, float], float]:
    """One pass over the training images: mean losses, and the learning rate at the end."""
    torch.manual_seed(seed.key(config.train.seed, "epoch", number))
    state.model.train()
    steps, done = len(loader), (number - 1) * len(loader)
    history, rate = [], 0.0
    for step, batch in enumerate(loader, 1):
        rate = learning_rate(
            done + step,
            steps * config.train.epochs,
            peak=config.optim.lr,
            warmup=config.optim.warmup_steps,
        )
        terms = train_step(state, batch.to(device), config, rate)
        history.append(torch.stack([term.detach() for term in terms.values()]))
        if step % 50 == 0 or step == steps:  # reading a value waits for the device
            check_finite(torch.stack(history), list(terms), number)
    means = dict(zip(terms, torch.stack(history).double().mean(0).tolist(), strict=True))
    means.pop("gradient")
    return means, rate


def train_step(state: State, batch: Batch, config: Config, rate: float) -> dict[str, torch.Tensor]:
    """Forward, loss, backward, clip, step, average: the loss terms, and the gradient's norm."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    state.optimizer.zero_grad(set_to_none=True)
    means: dict[str, torch.Tensor] = {}
    for part in batch.split(config.optim.accumulate):
        share = len(part.counts) / len(batch.counts)
        terms = {name: term * share for name, term in loss_terms(state, part, config).items()}
        terms["total"].backward()  # type: ignore[no-untyped-call]  # torch
        means = {name: means.get(name, 0.0) + term.detach() for name, term in terms.items()}
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.optim.clip_norm)
    state.optimizer.step()
    state.ema.update(state.model)
    return means | {"gradient": norm}


def loss_terms(state: State, batch: Batch, config: Config) -> dict[str, torch.Tensor]:
    """Encode the truth, predict, compare."""
    height, width = batch.images.shape[2:]
    target = encode(
        batch.instances,
        classes=state.model.classes,
        height=height,
        width=width,
        stride=config.model.stride,
        sigma_rule=config.targets.sigma_rule,
        sigma_divisor=config.targets.sigma_divisor,
        min_overlap=config.targets.min_overlap,
        regression=config.targets.regression,
    )
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=mixed(config, batch)):
        predicted = state.model(batch.images)
    return losses(
        predicted,
        target,
        heatmap_weight=config.loss.heatmap_weight,
        size_weight=config.loss.size_weight,
        offset_weight=config.loss.offset_weight,
        size_loss=config.loss.size_loss,
        focal_alpha=config.loss.focal_alpha,
        focal_beta=config.loss.focal_beta,
    )


def learning_rate(step: int, total: int, *, peak: float, warmup: int) -> float:
    """Rate of a step (from 1): linear warm-up to the peak, then half a cosine to zero."""
    warmup = min(warmup, total // 3)  # short trainings warm up for a third at most
    if step <= warmup:
        return peak * step / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


def check_finite(history: torch.Tensor, terms: list[str], number: int) -> None:
    """NonFiniteLoss names the first step and term of history[steps, terms] that is not finite."""
    bad = (~history.isfinite()).nonzero()
    if len(bad):
        step, term = bad[0].tolist()
        value = history[step, term].item()
        name = terms[term] if terms[term] == "gradient" else f"{terms[term]} loss"
        raise NonFiniteLoss(f"epoch {number}, step {step + 1}: the {name} is {value}")


def validate(
    model: nn.Module, val: Samples, config: Config, device: torch.device
) -> dict[str, float]:
    """COCO metrics of a model on val, in original pixels."""
    detections = []
    for batch in in_order(val, batch_size=config.optim.batch_size):
        images = batch.images.to(device)
        detections += detect(
            model,
            images,
            batch.placements,
            stride=config.model.stride,
            **config.decode.model_dump(),
        )
    return evaluate(detections, val.split)


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one; UserError for a CUDA that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device: cuda is not available here; use auto or cpu")
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(automatic if name == "auto" else name)


def samples(config: Config, split: Split, augmenter: Augmenter | None = None) -> Samples:
    """The images of a split as the network sees them."""
    return Samples(
        split,
        height=config.data.height,
        width=config.data.width,
        letterbox=config.data.resize == "letterbox",
        cache_mb=config.data.cache_mb,
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
    )
    workers = default_workers(device) if config.data.workers is None else config.data.workers
    augmented = samples(config, split, Augmenter(**config.augment.model_dump()))
    return training_loader(augmented, order, workers=workers), order


def mixed(config: Config, batch: Batch) -> bool:
    """Whether the network runs in bfloat16."""
    on_cuda = batch.images.device.type == "cuda"
    return config.train.precision == "bfloat16" or (config.train.precision == "auto" and on_cuda)
