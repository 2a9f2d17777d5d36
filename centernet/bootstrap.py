"""COCO AP of images drawn with replacement, thousands of times a minute, exactly.

COCO AP is no mean over images, so a bootstrap has to compute it anew for every drawn set. But a
detection is matched to the truth inside its own image: that is done once, by pycocotools, and a
drawn set only says how often each image counts. Precision over recall then follows from running
sums over the detections sorted by score once.

The order is pycocotools' own: by score, equal scores by image id and inside an image as it ranks
them. A drawn set lists the copies of an image one after the other, images in the order of their
ids; on that set pycocotools gives the same AP (tests/test_bootstrap.py).
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from centernet.dataset.split import Split
from centernet.evaluate import ground_truth, load_results, results
from centernet.structures import Detections

RECALLS = np.linspace(0.0, 1.0, 101)  # at which COCO reads the precision
CELLS = 4_000_000  # (drawn set, detection) pairs in memory at once


@dataclass(frozen=True, slots=True)
class Matches:
    """How a detector met the truth of a split's I images, in the order of their ids.

    images[D], labels[D], scores[D]: each detection's image, class and score, those of a class and
    image best first; matched[T, D], ignored[T, D]: whether it found an object, or a crowd that
    does not count, at each of COCO's T IoU thresholds; truth[I, C]: objects that count.
    """

    images: NDArray[np.int32]
    labels: NDArray[np.int32]
    scores: NDArray[np.float64]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truth: NDArray[np.int32]


def match(detections: Sequence[Detections], split: Split) -> Matches:
    """Match detections, one for each record of the split in its order, as COCO AP does."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it works
        truth = ground_truth(split)
        found = COCOeval(truth, load_results(truth, results(detections, split)), "bbox")
        found.params.areaRng, found.params.areaRngLbl = found.params.areaRng[:1], ["all"]
        found.evaluate()
    count, thresholds = len(split), len(found.params.iouThrs)
    objects = np.zeros((count, len(split.classes)), np.int32)
    parts = []
    for place, one in enumerate(found.evalImgs):  # class by class, image by image
        if one is not None:
            label, image = divmod(place, count)
            objects[image, label] = np.count_nonzero(one["gtIgnore"] == 0)
            number = len(one["dtScores"])
            parts.append((np.full(number, image), np.full(number, label), one))
    if not parts:
        nothing = np.zeros((thresholds, 0), np.bool_)
        none = np.zeros(0, np.int32)
        return Matches(none, none, np.zeros(0), nothing, nothing, objects)
    return Matches(
        np.concatenate([images for images, _, _ in parts]).astype(np.int32),
        np.concatenate([labels for _, labels, _ in parts]).astype(np.int32),
        np.concatenate([one["dtScores"] for _, _, one in parts]).astype(np.float64),
        np.concatenate([one["dtMatches"] > 0 for _, _, one in parts], axis=1),
        np.concatenate([one["dtIgnore"].astype(np.bool_) for _, _, one in parts], axis=1),
        objects,
    )


def draws(images: int, *, count: int, seed: int) -> NDArray[np.int32]:
    """How often each image is in each of `count` sets drawn with replacement: [count, images]."""
    random = np.random.default_rng(seed)
    return random.multinomial(images, np.full(images, 1 / images), count).astype(np.int32)


def average_precision(matches: Matches, counts: NDArray[np.int32]) -> NDArray[np.float64]:
    """COCO AP in percent of B sets that hold each image counts[B, I] times: [B].

    Classes without an object in a set are left out of its mean, as COCO does; NaN for a set
    without any object.
    """
    totals, classes = np.zeros(len(counts)), np.zeros(len(counts))
    for label in range(matches.truth.shape[1]):
        truth = counts @ matches.truth[:, label]
        ranking = rank(matches, label, most=int(counts.max(initial=1)))
        size = max(CELLS // max(len(ranking.images), 1), 1)
        for start in range(0, len(counts), size):
            part = slice(start, start + size)
            known = truth[part] > 0
            own = class_precision(ranking, counts[part][known], truth[part][known])
            totals[part][known] += own
            classes[part] += known
    with np.errstate(invalid="ignore"):
        return 100 * totals / classes


@dataclass(frozen=True, slots=True)
class Ranking:
    """The detections of one class, best first.

    copies[E]: 0 where a detection counts as often as its image, n where it stands for the nth
    copy of it alone.
    """

    images: NDArray[np.int32]
    copies: NDArray[np.int32]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]


def rank(matches: Matches, label: int, *, most: int) -> Ranking:
    """Sort the detections of a class; `most`: how often an image is drawn at most.

    Where one image has equal scores a, b, two copies of it rank as a b a b, not as a a b b: these
    detections are listed once for each copy.
    """
    own = np.flatnonzero(matches.labels == label)
    own = own[np.argsort(-matches.scores[own], kind="stable")]
    images, scores = matches.images[own], matches.scores[own]
    same = np.zeros(len(own) + 1, np.bool_)  # whether a detection ties with the one before it
    same[1:-1] = (images[1:] == images[:-1]) & (scores[1:] == scores[:-1])
    tied = same[1:] | same[:-1]
    group = np.cumsum(~same[:-1])
    rows = np.arange(len(own))
    repeated = np.repeat(rows[tied], most)
    copies = np.tile(np.arange(1, most + 1, dtype=np.int32), int(tied.sum()))
    every = np.concatenate((rows[~tied], repeated))
    which = np.concatenate((np.zeros(int((~tied).sum()), np.int32), copies))
    order = np.lexsort((every, which, group[every]))
    every = every[order]
    chosen = own[every]
    return Ranking(
        images[every], which[order], matches.matched[:, chosen], matches.ignored[:, chosen]
    )


def class_precision(
    ranking: Ranking, counts: NDArray[np.int32], truth: NDArray[np.int32]
) -> NDArray[np.float64]:
    """AP (0...1) of one class for sets with truth[B] > 0 objects, the mean over IoU thresholds."""
    drawn = np.ascontiguousarray(counts.T)[ranking.images]  # [E, B]: sums run along whole rows
    single = ranking.copies > 0
    drawn[single] = drawn[single] >= ranking.copies[single, None]
    levels = recall_levels(truth)
    total = np.zeros(len(counts))
    for thresholds, seen in running_totals(ranking, drawn):
        for threshold in thresholds:
            hits = np.flatnonzero(ranking.matched[threshold] & ~ranking.ignored[threshold])
            found = np.cumsum(drawn[hits], axis=0, dtype=np.int32)
            total += interpolated(found, seen[hits], levels)
    return total / len(ranking.matched)


def running_totals(
    ranking: Ranking, drawn: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int32]]]:
    """IoU thresholds that ignore the same detections, and the running count of the others."""
    masks, group = np.unique(ranking.ignored, axis=0, return_inverse=True)
    for index, mask in enumerate(masks):
        counted = drawn * ~mask[:, None] if mask.any() else drawn
        yield np.flatnonzero(group.ravel() == index), np.cumsum(counted, axis=0, dtype=np.int32)


def recall_levels(truth: NDArray[np.int32]) -> NDArray[np.float64]:
    """The share of RECALLS reached with 0, 1, 2 ... found of truth[B] > 0 objects: [B, M]."""
    counts, rows = np.unique(truth, return_inverse=True)
    found = np.arange(int(truth.max(initial=0)) + 1)
    levels = np.searchsorted(RECALLS, found / counts[:, None], side="right") / len(RECALLS)
    return np.asarray(levels[rows.ravel()], np.float64)


def interpolated(
    found: NDArray[np.int32], seen: NDArray[np.int32], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean precision over RECALLS, from running counts[P, B] at the true detections alone: [B].

    Between two of them precision only falls, and while the copies of one are counted it only
    rises: the maxima, which COCO reads at every recall, are here.
    """
    precision = found / (seen + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = levels[np.arange(len(levels)), found]
    gained = np.diff(reached, axis=0, prepend=0.0)
    return np.asarray((best * gained).sum(axis=0), np.float64)
