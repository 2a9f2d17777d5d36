"""What changes while training: made from a config, saved to a checkpoint, restored exactly."""

import logging
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from centernet import checkpoint, distributed, seed
from centernet.config import Config, differences, flatten, resolve
from centernet.dataset.split import Split
from centernet.ema import Ema
from centernet.errors import UserError
from centernet.model import CenterNet, build
from centernet.optim import OPTIMIZERS, parameter_groups
from centernet.structures import Epoch

FREE = {  # change no result, so they may change on resuming
    "data.folder",
    "data.follow_links",
    "data.workers",
    "data.cache",
    "data.cache_mb",
    "data.cache_disk_mb",
    "train.device",
}
LOGGER = logging.getLogger(__name__)


class Record(BaseModel):
    """What a checkpoint says beside its tensors."""

    model_config = ConfigDict(extra="forbid")

    config: dict[str, Any]
    data: list[str]  # fingerprints of train and val
    ema_step: Annotated[int, Field(ge=0)]
    epochs: list[Epoch]


FIELDS = Record.model_fields


@dataclass(slots=True)
class State:
    """What changes while training."""

    model: CenterNet
    network: nn.Module  # what is called to train: the model, or what shares it with other processes
    ema: Ema
    optimizer: torch.optim.Optimizer
    epochs: list[Epoch]


def make_state(config: Config, classes: int, device: torch.device) -> State:
    """An untrained model, initialised from the seed, with its optimizer and average."""
    torch.manual_seed(seed.key(config.train.seed, "init"))
    size = config.data.height, config.data.width
    model = build(**config.model.model_dump(), classes=classes).to(device)
    only = model.backbone.size
    if only not in (None, size) and distributed.rank() == 0:
        LOGGER.warning(
            "model.backbone: %s takes images of one size, and sees yours at %d x %d",
            config.model.backbone, *only,
        )  # fmt: skip
    groups = parameter_groups(
        model,
        weight_decay=config.optim.weight_decay,
        decay_norms=config.optim.decay_norms,
        backbone_lr_factor=config.optim.backbone_lr_factor,
    )
    optimizer = OPTIMIZERS[config.optim.name].build(
        groups, momentum=config.optim.momentum, nesterov=config.optim.nesterov
    )
    ema = Ema(model, decay=config.train.ema_decay, warmup=config.train.ema_warmup)
    if distributed.world() > 1:  # processes wait for the gradient of each parameter
        model.freeze_unused(size)
    network = distributed.parallel(model, sync_batchnorm=config.train.sync_batchnorm)
    return State(model, network, ema, optimizer, [])


def save(state: State, config: Config, file: Path, splits: tuple[Split, Split]) -> None:
    """Write the checkpoint that `restore` reads."""
    tensors = (
        checkpoint.prefixed("model", state.model.state_dict())
        | checkpoint.prefixed("ema", state.ema.model.state_dict())
        | checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(state.optimizer))
    )
    record = {
        "kind": "training",
        "format": checkpoint.FORMAT,
        "config": config.model_dump(),
        "data": [split.fingerprint for split in splits],
        "ema_step": state.ema.step,
        "epochs": [asdict(epoch) for epoch in state.epochs],
    }
    checkpoint.write(file, tensors, record)


def restore(
    state: State,
    config: Config,
    file: Path,
    splits: tuple[Split, Split],
    free: Collection[str] = FREE,
) -> None:
    """Bring the state to where the checkpoint left it; nothing happens where there is none.

    free: config fields that may differ from the checkpoint's.
    """
    if not file.exists():
        return
    tensors, content = checkpoint.read(file)
    checkpoint.expect(file, content, "training")
    try:
        record = Record.model_validate({k: v for k, v in content.items() if k in FIELDS})
        before = resolve(flatten(record.config))
    except UserError as error:  # a field that another version of this program had
        raise UserError(f"{file}: its config: {error}") from None
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{file}: not a checkpoint of this program: {place} is damaged") from None
    changed = [text for text in differences(before, config) if text.split(":")[0] not in free]
    if changed or record.data != [split.fingerprint for split in splits]:
        what = changed[0] if changed else "other images or boxes"
        raise UserError(f"{file.parent}: holds another training ({what}); choose another folder")
    if before.train.threads != config.train.threads and distributed.rank() == 0:
        LOGGER.warning(
            "%s: began with %s threads and goes on with %s, so last bits may differ",
            file.parent, before.train.threads, config.train.threads,
        )  # fmt: skip
    try:
        state.model.load_state_dict(checkpoint.under("model", tensors))
        state.ema.model.load_state_dict(checkpoint.under("ema", tensors))
        checkpoint.restore_optimizer(state.optimizer, checkpoint.under("optimizer", tensors))
    except (RuntimeError, ValueError, IndexError):
        raise UserError(f"{file}: its tensors are not those of its config") from None
    state.ema.step, state.epochs = record.ema_step, record.epochs
