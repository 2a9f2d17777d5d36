"""The nouns of the pipeline, with their shapes."""

from dataclasses import dataclass, field

from torch import Tensor, split


@dataclass(frozen=True, slots=True)
class Instances:
    """The true objects of one image: boxes[N, 4] xyxy in pixels, labels[N] int64."""

    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Maps:
    """What the network predicts, and what it should: one value a cell.

    heatmap[B, C, h, w]: logits (prediction) or 0...1 with 1 at centres (target);
    size[B, 2, h, w]: box width and height, in cells (a prediction may have a pair of planes for
    each class, [B, 2C, h, w]); offset[B, 2, h, w]: centre minus its cell (x, y), in cells;
    mask[B, 1, h, w]: weight of a cell's size and offset, 1 in all for an object, and
    label[B, 1, h, w]: the class of that object (both of a target only);
    early: of a prediction in training, what the stacks before the last one of an hourglass say.
    """

    heatmap: Tensor
    size: Tensor
    offset: Tensor
    mask: Tensor | None = None
    label: Tensor | None = None
    early: "tuple[Maps, ...]" = ()

    def split(self, images: list[int]) -> "list[Maps]":
        """The maps of the first so many images, of the next, and so on."""
        fields = (self.heatmap, self.size, self.offset, self.mask, self.label)
        parts = [[None] * len(images) if f is None else split(f, images) for f in fields]
        return [Maps(*part) for part in zip(*parts, strict=True)]


@dataclass(frozen=True, slots=True)
class Detections:
    """Found objects, best first: boxes[K, 4] xyxy in pixels, scores[K] 0...1, labels[K] int64."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """How far an epoch is: `done` of `total` batches of its `phase`, training or evaluating."""

    epoch: int  # from 1
    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training images, as `train` yields it.

    losses: means over the steps, unweighted by term, and their weighted `total`;
    metrics: COCO numbers of the EMA weights on val (empty where not evaluated);
    digest: of all model and EMA weights, so that two trainings can be compared bit for bit;
    tensors: four characters of each one's digest, to say which tensor differs.
    """

    number: int  # from 1
    losses: dict[str, float]
    metrics: dict[str, float]
    learning_rate: float  # at the end of the epoch
    seconds: float  # training
    seconds_evaluating: float
    images_per_second: float  # training
    digest: str
    best: bool  # the highest val AP so far
    restored: bool = field(default=False, compare=False)  # read from a checkpoint
    tensors: str = ""
