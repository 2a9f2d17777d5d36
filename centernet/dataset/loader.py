"""Samples and batches: keyed by (seed, epoch, position), so the same with any number of workers."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from centernet.augment import Augmenter, Sample
from centernet.dataset import images
from centernet.dataset.cache import open_cache
from centernet.dataset.split import Split
from centernet.geometry import Placement, fit, place, to_network
from centernet.seed import cores, generator, key
from centernet.structures import Instances

SLIVER = 1e-3  # network pixels; a narrower box has no sides left where they become fractions
WHOLE = (0, 1)  # the share of a process that is alone: number, of how many


@dataclass(frozen=True, slots=True)
class Batch:
    """images[B, 3, H, W] uint8 with their truth, in few tensors, which travel fast.

    boxes[N, 4] xyxy network pixels and labels[N] of all images, one after the other; counts: how
    many belong to each; placements: of each image in the network input.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    counts: list[int]
    placements: list[Placement]

    @property
    def instances(self) -> list[Instances]:
        """The truth of each image."""
        boxes, labels = torch.split(self.boxes, self.counts), torch.split(self.labels, self.counts)
        return [Instances(b, n) for b, n in zip(boxes, labels, strict=True)]

    def split(self, parts: int) -> "list[Batch]":
        """The batch in so many parts of nearly equal size, or one for each image, in order."""
        images = len(self.counts)
        parts = min(parts, images)
        ends = [-(-images * part // parts) for part in range(parts + 1)]
        split = []
        for start, end in pairwise(ends):
            one = slice(start, end)
            objects = slice(sum(self.counts[:start]), sum(self.counts[:end]))
            tensors = self.images[one], self.boxes[objects], self.labels[objects]
            split.append(Batch(*tensors, self.counts[one], self.placements[one]))
        return split

    def _moved(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        images, boxes, labels = map(move, (self.images, self.boxes, self.labels))
        return Batch(images, boxes, labels, self.counts, self.placements)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same batch where a GPU can fetch it; the loader calls this."""
        return self._moved(lambda tensor: tensor.pin_memory())


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample to load: which image, and the key of its augmentation (none: as it is)."""

    index: int
    seed: int | None = None


class Samples(Dataset[tuple[Tensor, Instances, Placement]]):
    """The images of a split at network size, kept once decoded."""

    def __init__(
        self,
        split: Split,
        *,
        height: int,
        width: int,
        letterbox: bool,
        cache_mb: int,
        augmenter: Augmenter | None = None,
        cache: str = "memory",
        cache_disk_mb: int = 0,
    ) -> None:
        """Nothing is read before it is asked for; cache: `memory`, `disk` or `none`."""
        self.split, self.augmenter = split, augmenter
        self.canvas, self.letterbox = (height, width), letterbox
        self.cache = open_cache(
            cache,
            split,
            height=height,
            width=width,
            letterbox=letterbox,
            memory_mb=cache_mb,
            disk_mb=cache_disk_mb,
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.split)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Instances, Placement]:
        """image[3, H, W] uint8 and its truth, augmented if the draw has a seed.

        UserError for an image that became unreadable since the split was read.
        """
        sample, placement = self._plain(draw.index)
        if self.augmenter is not None and draw.seed is not None:
            sample = self.augmenter(*self._joined(sample, draw), seed=draw.seed)
        image, boxes, labels = sample
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return tensor, Instances(torch.from_numpy(boxes), torch.from_numpy(labels)), placement

    def _plain(self, index: int) -> tuple[Sample, Placement]:
        """An image with its truth at network size, and where it lies there."""
        record = self.split.records[index]
        placement = fit((record.height, record.width), self.canvas, letterbox=self.letterbox)
        image = self.cache.get(index)
        if image is None:
            image = place(images.load(record.file, (record.height, record.width)), placement)
            self.cache.put(index, image)
        boxes = to_network(torch.from_numpy(record.boxes[~record.crowd]), placement).numpy()
        seen = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= SLIVER
        return (image, boxes[seen], record.labels[~record.crowd][seen]), placement

    def _joined(self, sample: Sample, draw: Draw) -> Sample:
        """The sample, or the mosaic of it with three others that its key asks for."""
        assert self.augmenter is not None and draw.seed is not None, "the caller has looked"
        others = self.augmenter.partners(seed=draw.seed, count=len(self))
        if not others:
            return sample
        parts = []
        for (image, boxes, labels), placement in map(self._plain, (draw.index, *others)):
            h, w = placement.resized
            parts.append((image[:h, :w], boxes, labels))
        height, width = self.canvas
        return self.augmenter.mosaic(parts, height=height, width=width, seed=draw.seed)


def sampling_weights(split: Split, *, balance: float) -> Tensor:
    """How often each image is drawn: by its rarest class, (most frequent / its boxes) ** balance.

    The repeat-factor idea of LVIS (Gupta et al. 2019): an image counts as much as its rarest
    class asks for; images without objects weigh 1.
    """
    counts = split.frequencies()
    objects = [record.labels[~record.crowd] for record in split.records]
    weights = [
        (counts.max() / counts[labels].min()) ** balance if len(labels) else 1.0
        for labels in objects
    ]
    return torch.tensor(weights, dtype=torch.float64)


def resample(weights: Tensor, random: torch.Generator, indices: Tensor) -> Tensor:
    """As many of indices[N] as there are, each as often as its weight asks, give or take one.

    Systematic resampling: N equidistant marks on the line of the weights laid end to end. Unlike
    independent draws, which miss a third of the images, it leaves out none of average weight.
    """
    ends = weights.cumsum(0)
    marks = torch.arange(len(weights), dtype=torch.float64) + torch.rand(1, generator=random)
    chosen = torch.searchsorted(ends, marks * ends[-1] / len(weights), right=True)
    drawn = indices[chosen.clamp(max=len(weights) - 1)]
    return drawn[torch.randperm(len(drawn), generator=random)]


class Order:
    """The batches of one epoch, as lists of draws: a permutation, or a balanced sample."""

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        balance: float,
        seed: int,
        share: tuple[int, int] = WHOLE,
    ) -> None:
        """The order of an epoch depends on the seed and its number alone.

        share: this process's number, and of how many that take a part of each batch.
        """
        self.weights = sampling_weights(split, balance=balance) if balance else None
        self.count, self.batch_size, self.seed = len(split), batch_size, seed
        self.rank, self.processes = share
        self.epoch = 1

    def __len__(self) -> int:
        """Number of batches: of nearly equal size, at most `batch_size`."""
        return math.ceil(self.count / self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Draws of `self.epoch`."""
        random = generator(self.seed, "order", self.epoch)
        indices = torch.randperm(self.count, generator=random)
        if self.weights is not None:
            indices = resample(self.weights[indices], random, indices)
        draws = [
            Draw(index, key(self.seed, "augment", self.epoch, position))
            for position, index in enumerate(indices.tolist())
        ]
        for batch in np.array_split(np.arange(self.count), len(self)):
            yield [draws[i] for i in np.array_split(batch, self.processes)[self.rank]]


def collate(samples: list[tuple[Tensor, Instances, Placement]]) -> Batch:
    """Stack samples."""
    tensors, instances, placements = zip(*samples, strict=True)
    return Batch(
        torch.stack(tensors),
        torch.cat([one.boxes for one in instances]),
        torch.cat([one.labels for one in instances]),
        [len(one.labels) for one in instances],
        list(placements),
    )


def training_loader(samples: Samples, order: Order, *, workers: int) -> DataLoader[Batch]:
    """Batches of `order.epoch`; set it before each pass, workers live on between them."""
    return _loader(samples, order, workers)


def in_order(
    samples: Samples, *, batch_size: int, share: tuple[int, int] = WHOLE, workers: int = 0
) -> DataLoader[Batch]:
    """Every image once, as it is; of several processes, each gets every so manieth batch."""
    rank, processes = share
    starts = range(rank * batch_size, len(samples), processes * batch_size)
    stops = (min(start + batch_size, len(samples)) for start in starts)
    batches = [[Draw(i) for i in range(*ends)] for ends in zip(starts, stops, strict=True)]
    return _loader(samples, batches, workers)


def _loader(samples: Samples, batches: Iterable[list[Draw]], workers: int) -> DataLoader[Batch]:
    return DataLoader(  # its type says that it yields what `samples` hold; `collate` changes that
        samples,  # type: ignore[arg-type]  # as said
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # so that a pass draws nothing of the network's
    )


def default_workers(device: torch.device) -> int:
    """None on a CPU, whose cores the model needs; else one for each core, at most 8."""
    return 0 if device.type == "cpu" else min(cores(), 8)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
