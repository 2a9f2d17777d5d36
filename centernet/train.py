"""train(config) yields one Epoch at a time; the caller's loop logs, prunes and stops.

A training is a folder: `last.safetensors` (to go on from, exactly) and `best.safetensors` (the
EMA weights of the highest val AP in it). Called again on the same folder, it goes on where it was.
"""

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.utils.data import DataLoader

from centernet import checkpoint, distributed, seed
from centernet.assemble import make_loader, make_schedule, make_validation
from centernet.checkpoint import LAST
from centernet.config import Config, flatten, resolve
from centernet.dataset.coco import read_training
from centernet.dataset.loader import Batch, Samples
from centernet.dataset.split import Split
from centernet.device import choose_device
from centernet.encode import encode
from centernet.errors import UserError, did_you_mean
from centernet.evaluate import evaluate
from centernet.folder import check_best, claimed, settle, write_next
from centernet.losses import HEATMAP_LOSSES, SIZE_LOSSES, Counts, losses
from centernet.model import check_model
from centernet.optim import OPTIMIZERS, SCHEDULES
from centernet.predict import detect, weights_record
from centernet.state import FREE, State, make_state, restore, save
from centernet.structures import Detections, Epoch, Maps, Step


class NonFiniteLoss(UserError):
    """A loss became infinite or NaN: names epoch, step and term. A smaller optim.lr may help."""


def check(config: Config) -> None:
    """UserError for what a config cannot know: names in tables, weights and devices there are."""
    for path, name, table in (
        ("loss.heatmap", config.loss.heatmap, HEATMAP_LOSSES),
        ("loss.size_loss", config.loss.size_loss, SIZE_LOSSES),
        ("optim.name", config.optim.name, OPTIMIZERS),
        ("optim.schedule", config.optim.schedule, SCHEDULES),
    ):
        if name not in table:
            known = did_you_mean(name, table) or f" (one of {', '.join(table)})"
            raise UserError(f"{path}: there is no {name}{known}")
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
    with closing(train_stepwise(config, folder)) as progress:
        yield from (event for event in progress if isinstance(event, Epoch))


def train_stepwise(
    config: Config, folder: Path, splits: tuple[Split, Split] | None = None
) -> Generator[Step | Epoch, None, None]:
    """As `train`, yielding each step of an epoch before it, for a screen.

    splits: the data, where the caller has read them already.
    """
    check(config)
    free = FREE if config.train.threads else {*FREE, "train.threads"}  # then this machine's
    config, device = set_up(config)
    splits = splits or read(config)
    record = weights_record(config, splits[0].classes)
    loader, order = make_loader(config, splits[0], device)
    val = make_validation(config, splits[1], device)
    with claimed(folder):
        state = make_state(config, len(splits[0].classes), device)
        restore(state, config, folder / LAST, splits, free)
        writes = distributed.rank() == 0
        if writes:
            settle(folder, state.epochs)
            check_best(folder, state.epochs)
        yield from (replace(epoch, restored=True) for epoch in state.epochs)

        while not is_over(state.epochs, config):
            order.epoch = len(state.epochs) + 1
            epoch = yield from run_epoch(state, loader, val, config, order.epoch, device)
            state.epochs.append(epoch)
            if epoch.best and writes:
                write_next(folder, epoch, state.ema.model.state_dict(), record)
            due = epoch.number % config.train.checkpoint_every == 0 or is_over(state.epochs, config)
            if due and writes:
                save(state, config, folder / LAST, splits)
                settle(folder, state.epochs)
            yield epoch


def read(config: Config) -> tuple[Split, Split]:
    """The data that a config names; UserError for a fatal defect of them."""
    if config.data.folder is None:
        raise UserError("data.folder: not set; --data FOLDER (images/, train.json, ...)")
    return read_training(Path(config.data.folder), config.data.follow_links)


def set_up(config: Config) -> tuple[Config, torch.device]:
    """Prepare this process; the config with the threads that it uses, and the device."""
    threads = config.train.threads or seed.cores()
    seed.set_up(
        threads=threads,
        deterministic=config.train.deterministic,
        cudnn_benchmark=config.train.cudnn_benchmark,
    )
    config = resolve(flatten(config.model_dump()) | {"train.threads": threads})
    return config, choose_device(config.train.device)


def is_over(epochs: list[Epoch], config: Config) -> bool:
    """Whether all epochs were trained, or `patience` of them found no better AP."""
    if len(epochs) >= config.train.epochs:
        return True
    if config.train.patience is None or not epochs or not epochs[-1].metrics:
        return False  # an epoch that was not evaluated may be a better one
    best = max((epoch.number for epoch in epochs if epoch.best), default=0)
    return len(epochs) - best >= config.train.patience


def run_epoch(
    state: State,
    loader: DataLoader[Batch],
    val: DataLoader[Batch],
    config: Config,
    number: int,
    device: torch.device,
) -> Generator[Step, None, Epoch]:
    """One pass over the training images, and one over val where it is due."""
    started = time.perf_counter()
    means, rate = yield from train_epoch(state, loader, config, number, device)
    seconds = time.perf_counter() - started
    metrics: dict[str, float] = {}
    if number % config.train.evaluate_every == 0 or number == config.train.epochs:
        metrics = yield from validate(state.ema.evaluated(), val, config, number, device)
    highest = max((epoch.metrics.get("AP", -1.0) for epoch in state.epochs), default=-1.0)
    digests = checkpoint.digests(state.model.state_dict(), state.ema.model.state_dict())
    return Epoch(
        number=number,
        losses=means,
        metrics=metrics,
        learning_rate=rate,
        seconds=seconds,
        seconds_evaluating=time.perf_counter() - started - seconds,
        images_per_second=len(loader.dataset) / seconds,  # type: ignore[arg-type]  # it has one
        digest=checkpoint.combined(digests),
        best=metrics.get("AP", -1.0) > highest,
        tensors=checkpoint.short(digests),
    )


def train_epoch(
    state: State, loader: DataLoader[Batch], config: Config, number: int, device: torch.device
) -> Generator[Step, None, tuple[dict[str, float], float]]:
    """One pass over the training images: mean losses, and the learning rate at the end."""
    distributed.start_draws(seed.key(config.train.seed, "epoch", number))
    state.model.train()
    steps, done = len(loader), (number - 1) * len(loader)
    rate = make_schedule(config, steps * config.train.epochs)
    history = []
    for step, batch in enumerate(loader, 1):
        terms = train_step(state, batch.to(device), config, rate(done + step))
        history.append(torch.stack([term.detach() for term in terms.values()]))
        if step % 50 == 0 or step == steps:  # reading a value waits for the device
            check_finite(torch.stack(history), list(terms), number)
        yield Step(number, "training", step, steps)
    means = dict(zip(terms, torch.stack(history).double().mean(0).tolist(), strict=True))
    means.pop("gradient")
    return means, rate(done + steps)


def train_step(state: State, batch: Batch, config: Config, rate: float) -> dict[str, torch.Tensor]:
    """Forward, loss, backward, clip, step, average: the loss terms, and the gradient's norm."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    state.optimizer.zero_grad(set_to_none=True)
    means: dict[str, torch.Tensor] = {}
    target = targets(batch, config, classes=state.model.classes)
    counts = Counts(*map(distributed.summed, Counts.of(target)))
    parts = batch.split(config.optim.accumulate)
    wanted = target.split([len(part.counts) for part in parts])
    for number, (part, maps) in enumerate(zip(parts, wanted, strict=True), 1):
        with distributed.exchanging(state.network, now=number == len(parts)):
            terms = loss_terms(state, part, maps, counts, config)
            loss = terms["total"] * distributed.world()  # the gradients will be their mean
            loss.backward()  # type: ignore[no-untyped-call]  # torch
        means = {name: means.get(name, 0.0) + term.detach() for name, term in terms.items()}
    totals = distributed.summed(torch.stack(list(means.values())))
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.optim.clip_norm)
    state.optimizer.step()
    state.ema.update(state.model)
    return dict(zip(means, totals, strict=True)) | {"gradient": norm}


def loss_terms(
    state: State, batch: Batch, target: Maps, counts: Counts, config: Config
) -> dict[str, torch.Tensor]:
    """Predict, compare."""
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=mixed(config, batch)):
        predicted = state.network(batch.images)
    return losses(
        predicted,
        target,
        counts=counts,
        heatmap_weight=config.loss.heatmap_weight,
        size_weight=config.loss.size_weight,
        offset_weight=config.loss.offset_weight,
        heatmap=config.loss.heatmap,
        size_loss=config.loss.size_loss,
        focal_alpha=config.loss.focal_alpha,
        focal_beta=config.loss.focal_beta,
    )


def targets(batch: Batch, config: Config, *, classes: int) -> Maps:
    """What the network should answer to a batch."""
    height, width = batch.images.shape[2:]
    return encode(
        batch.instances,
        classes=classes,
        height=height,
        width=width,
        stride=config.model.stride,
        sigma_rule=config.targets.sigma_rule,
        sigma_divisor=config.targets.sigma_divisor,
        min_overlap=config.targets.min_overlap,
        regression=config.targets.regression,
    )


def check_finite(history: torch.Tensor, terms: list[str], number: int) -> None:
    """NonFiniteLoss names the first step and term of history[steps, terms] that is not finite."""
    bad = (~history.isfinite()).nonzero()
    if len(bad):
        step, term = bad[0].tolist()
        value = history[step, term].item()
        name = terms[term] if terms[term] == "gradient" else f"{terms[term]} loss"
        raise NonFiniteLoss(f"epoch {number}, step {step + 1}: the {name} is {value}")


def validate(
    model: nn.Module, val: DataLoader[Batch], config: Config, number: int, device: torch.device
) -> Generator[Step, None, dict[str, float]]:
    """COCO metrics of a model on val, in original pixels."""
    found: dict[int, Detections] = {}
    split = cast(Samples, val.dataset).split
    size, (rank, processes) = config.optim.batch_size, distributed.share()
    for done, batch in enumerate(val):
        detections = detect(
            model,
            batch.images.to(device),
            batch.placements,
            stride=config.model.stride,
            **config.decode.model_dump(),
        )
        found |= enumerate(detections, (done * processes + rank) * size)
        yield Step(number, "evaluating", done + 1, len(val))
    top_k = config.decode.top_k
    return evaluate(
        distributed.gathered(found, count=len(split), top_k=top_k, device=device), split
    )


def mixed(config: Config, batch: Batch) -> bool:
    """Whether the network runs in bfloat16."""
    on_cuda = batch.images.device.type == "cuda"
    return config.train.precision == "bfloat16" or (config.train.precision == "auto" and on_cuda)
