"""Every knob of the detector: its default, unit and bounds, written once, here.

A field's dotted path (`targets.sigma_divisor`) is its one name everywhere: YAML key, `--set` key,
Optuna parameter and MLflow parameter.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache, reduce
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from centernet.errors import UserError, did_you_mean
from centernet.files import is_name
from centernet.wording import LONGEST, allowed, brief

Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Batch = Annotated[int, Field(ge=1, le=65536)]


class Section(BaseModel):
    """A group of fields: immutable, unknown keys refused, numbers finite, no silent conversions."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class Data(Section):
    """What the network sees."""

    folder: str | None = None  # COCO, Pascal VOC or YOLO; none: the embedded demo data
    follow_links: list[str] = []  # folders that symlinks in it may lead to; [/]: anywhere
    height: Annotated[int, Field(ge=64, le=4096, multiple_of=32)] = 256  # pixels, network input
    width: Annotated[int, Field(ge=64, le=4096, multiple_of=32)] = 256  # pixels, network input
    resize: Literal["letterbox", "stretch"] = "letterbox"  # keep the aspect ratio, or fill
    balance: Probability = 0.5  # power of the inverse class frequency; 0 samples uniformly
    workers: Annotated[int, Field(ge=0, le=256)] | None = None  # loader processes; none: 0 on a CPU
    cache: Literal["memory", "disk", "none"] = "memory"  # of decoded images; disk: all share one
    cache_mb: Annotated[int, Field(ge=0)] = 2048  # memory: at most so much in all loader workers
    cache_disk_mb: Annotated[int, Field(ge=0)] = 16384  # disk: in $CENTERNET_CACHE, or runs/cache


def _pretrained(value: object) -> object:
    """False, imagenet or the name of a weights file; text like "false" is none of these."""
    if value in (False, "imagenet") or str(value).endswith((".safetensors", ".pth")):
        return value
    hint = did_you_mean(value, ["imagenet"]) if isinstance(value, str) else ""
    raise ValueError(f"false (no quotes), imagenet, or a .safetensors or .pth file{hint}")


class Model(Section):
    """Backbone, neck and heads."""

    backbone: str = "resnet18"  # a key of BACKBONES, or timm/NAME (extra timm)
    pretrained: Annotated[Literal[False] | str, BeforeValidator(_pretrained)] = (
        False  # initial weights of the backbone: imagenet, or a file; of a detector: all that fits
    )
    neck: str = "pyramid"  # a key of NECKS
    deformable: bool = False  # 3x3 convolutions of the neck: their taps move; slower
    stride: Literal[2, 4, 8] = 4  # pixels a cell of the maps; smaller: slower, small objects
    channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 64  # of the neck
    head_channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 64  # in each head
    size_per_class: bool = False  # true: a width and height for each class, not one for all


class Targets(Section):
    """The Gaussian drawn around each centre."""

    sigma_rule: Literal["area", "overlap", "ellipse"] = "area"  # overlap: the paper's radius
    sigma_divisor: Annotated[float, Field(gt=0)] = 6.0  # area: sqrt(w·h) / it; ellipse: each side
    min_overlap: Annotated[float, Field(gt=0, lt=1)] = 0.7  # overlap: IoU kept at the radius
    regression: Literal["centre", "gaussian"] = "centre"  # cells that learn size and offset


class Loss(Section):
    """heatmap_weight·focal + size_weight·size + offset_weight·offset."""

    heatmap_weight: Weight = 1.0
    size_weight: Weight = 0.1
    offset_weight: Weight = 0.1
    heatmap: str = "clamped"  # a key of HEATMAP_LOSSES
    size_loss: str = "l1"  # a key of SIZE_LOSSES
    focal_alpha: Weight = 2.0  # down-weights easy cells
    focal_beta: Weight = 4.0  # down-weights cells near a centre


class Augment(Section):
    """Probabilities and ranges of the training augmentations."""

    flip_p: Probability = 0.5
    vertical_flip_p: Probability = 0.0  # where there is no up: a microscope, a view from above
    scale_low: Annotated[float, Field(gt=0, le=1)] = 0.6  # smallest zoom factor
    scale_high: Annotated[float, Field(ge=1, le=4)] = 1.4  # largest zoom factor
    translate: Probability = 0.1  # largest shift, as a fraction of each side
    rotate_limit: Annotated[float, Field(ge=0, le=15)] = 15.0  # degrees; never beyond 15
    rotate_p: Probability = 0.2
    motion_blur_p: Probability = 0.2
    hue_saturation_value_p: Probability = 0.3
    random_gamma_p: Probability = 0.2
    mosaic_p: Probability = 0.0  # four images in one
    cutout_p: Probability = 0.0  # grey rectangles on the image
    min_area: Weight = 1.0  # pixels of the network input; a smaller box is dropped
    min_visibility: Probability = 0.25  # a box that keeps a smaller part of its area is dropped


class Optim(Section):
    """The optimizer, and its learning rate: linear warm-up, then the schedule."""

    name: str = "adamw"  # a key of OPTIMIZERS
    lr: Annotated[float, Field(gt=0)] = 2.0e-3  # peak learning rate
    lr_batch: Batch | None = None  # images that lr is stated for; none: as it is
    backbone_lr_factor: Annotated[float, Field(ge=0)] = 1.0  # times lr, for the backbone
    batch_size: Batch = 16  # images
    accumulate: Annotated[int, Field(ge=1, le=65536)] = 1  # parts of a batch, one after the other
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # adamw: its first beta
    nesterov: bool = False  # sgd: look ahead along the momentum
    weight_decay: Weight = 0.01
    decay_norms: bool = False  # true: weight decay on biases and norms too
    schedule: str = "cosine"  # a key of SCHEDULES
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = [0.64, 0.86]  # step: where it falls
    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1  # step: times this at each milestone
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    clip_norm: Annotated[float, Field(gt=0)] = 10.0  # largest gradient norm


class Train(Section):
    """The loop."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 30
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    deterministic: bool = False  # true: bit-exact on the same kind of hardware
    cudnn_benchmark: bool = True  # used where deterministic is false
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on CUDA
    patience: Annotated[int, Field(ge=1)] | None = None  # epochs without a better AP; none: all
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998  # of the averaged weights; 0: no average
    ema_warmup: Annotated[float, Field(ge=1)] = 10.0  # slower above; 1: the full decay at once
    evaluate_every: Annotated[int, Field(ge=1)] = 1  # epochs; the last is always evaluated
    checkpoint_every: Annotated[int, Field(ge=1)] = 1  # epochs
    sync_batchnorm: bool = True  # torchrun: statistics over the batches of all processes
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = (
        None  # of a CPU operator; none: every core
    )


class Decode(Section):
    """From maps to boxes."""

    top_k: Annotated[int, Field(ge=1, le=1000)] = 100  # peaks kept for each image
    nms_iou: Annotated[float, Field(gt=0, le=1)] = 0.6  # of one class; 1 keeps every box


class Config(Section):
    """All sections; `Config()` is the mission's default."""

    data: Data = Data()
    model: Model = Model()
    targets: Targets = Targets()
    loss: Loss = Loss()
    augment: Augment = Augment()
    optim: Optim = Optim()
    train: Train = Train()
    decode: Decode = Decode()

    @model_validator(mode="before")
    @classmethod
    def _exponents(cls, value: Any) -> Any:
        """UserError for text that is no name, and for PyYAML's trap: it reads `1e-5` as text."""
        for path, leaf in flatten(value).items() if isinstance(value, dict) else ():
            if (
                isinstance(leaf, str)
                and path != "data.folder"
                and re.fullmatch(r"[+-]?\d{1,20}(\.\d{0,20})?[eE][+-]?\d{1,20}", leaf)
            ):
                mantissa, exponent = re.split("[eE]", leaf)
                sign = "" if exponent[0] in "+-" else "+"
                right = f"{float(mantissa)}e{sign}{exponent}"
                raise UserError(f"{path}: YAML reads {leaf} as text; write {right}")
            for text in leaf if isinstance(leaf, list) else [leaf]:
                if isinstance(text, str) and not is_name(text):
                    raise UserError(f"{path}: {brief(text)} can be no name of a file")
        return value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one dict of dotted paths; UserError for one that is there twice."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        below = flatten(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
        if twice := flat.keys() & below.keys():  # as `optim.lr: 1` and as `optim: {lr: 1}`
            raise UserError(f"{min(twice)} is given twice")
        flat |= below
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        reduce(lambda node, section: node.setdefault(section, {}), sections, tree)[name] = value
    return tree


@cache
def field_paths() -> tuple[str, ...]:
    """Every config field's dotted path, in order."""
    return tuple(flatten(Config().model_dump()))


def check_path(path: str) -> None:
    """UserError unless `path` names a config field; it says which it may be."""
    if path in field_paths():
        return
    section, name = path.partition(".")[0], path.rpartition(".")[2]
    own = {one.partition(".")[2]: one for one in field_paths() if one.startswith(f"{section}.")}
    near = [one for one in field_paths() if one.endswith(f".{name}")]
    near += [own[one] for one in get_close_matches(name, own)]
    if near:
        hint = f"; did you mean {near[0]}?"
    elif own:
        hint = f"; {section} has {', '.join(own)}"
    else:
        hint = (
            did_you_mean(path, field_paths())
            or f" (SECTION.NAME of {', '.join(Config.model_fields)})"
        )
    shown = path[:LONGEST] if path.strip() else repr(path[:LONGEST])
    raise UserError(f"{shown} is not a config field{hint}")


def resolve(flat: Mapping[str, Any]) -> Config:
    """Config of dotted values over the defaults; UserError names the first wrong field."""
    for path in flat:
        check_path(path)
    try:
        return Config.model_validate(nest(flat))
    except ValidationError as error:
        first = error.errors()[0]
        section, name = map(str, first["loc"][:2])
        path = f"{section}.{name}"
        rule = f"expected {allowed(type(getattr(Config(), section)).model_fields[name])}"
        if first["type"] == "value_error":
            rule = str(first["ctx"]["error"])
        raise UserError(f"{path}: {rule}, got {brief(flat[path])}") from None


def differences(ours: Config, theirs: Config) -> Iterator[str]:
    """`path: a -> b` for each field in which two configs differ."""
    left, right = flatten(ours.model_dump()), flatten(theirs.model_dump())
    yield from (
        f"{path}: {left[path]} -> {right[path]}" for path in left if left[path] != right[path]
    )
