"""The nouns of a data set: Record (an image and its truth), Split (many), Problem (a defect)."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centernet.errors import UserError, one_line
from centernet.shell import typed

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Problem:
    """A defect: `fatal` ends the command, the others are skipped and counted; or only a note."""

    place: str  # file, and id where there is one
    rule: str  # what is wrong, in the same words for the same defect
    fatal: bool = True
    note: bool = False  # nothing is skipped, but it should be known

    def __str__(self) -> str:
        """One line."""
        return one_line(f"{self.place}: {self.rule}")

    @property
    def kind(self) -> str:
        """What becomes of it, in a word."""
        return "note" if self.note else "fatal" if self.fatal else "skipped"


@dataclass(frozen=True, slots=True)
class Record:
    """One image and its truth: boxes[N, 4] xyxy in pixels, labels[N] as class indices."""

    id: int
    file: Path
    height: int
    width: int
    digest: str  # of the file's bytes
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]  # pixels; decides what COCO calls small, medium and large
    crowd: NDArray[np.bool_]  # a group: neither trained on nor counted as missed


@dataclass(frozen=True, slots=True)
class Split:
    """The images of `train`, `val` or `test`; classes in the order of their category ids."""

    name: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    records: tuple[Record, ...]
    problems: tuple[Problem, ...]
    fingerprint: str  # of the images and annotations, wherever they lie
    file: str = ""  # name of the file that lists the images

    def __len__(self) -> int:
        """Number of images."""
        return len(self.records)

    def place(self, record: Record) -> str:
        """File and id of an image, for people."""
        return f"{self.file or self.name}: image {record.id} ({record.file.name})"

    def frequencies(self) -> NDArray[np.int64]:
        """Objects of each class that count: boxes that are no crowds."""
        labels = [record.labels[~record.crowd] for record in self.records]
        labels = labels or [np.empty(0, np.int64)]
        return np.bincount(np.concatenate(labels), minlength=len(self.classes))


def passed_over(problems: Iterable[Problem]) -> str:
    """`2 defects skipped, 1 note`, of problems that are not fatal; empty if there is none."""
    count = Counter(problem.kind for problem in problems)
    words = {"skipped": ("defect skipped", "defects skipped"), "note": ("note", "notes")}
    return ", ".join(
        f"{count[kind]} {one if count[kind] == 1 else many}"
        for kind, (one, many) in words.items()
        if count[kind]
    )


def refuse(problems: list[Problem]) -> None:
    """UserError that names the first fatal problem, if there is one."""
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        check = f"{typed('centernet')} check-data"
        more = f" (and {len(fatal) - 1} more: {check})" if len(fatal) > 1 else ""
        raise UserError(f"{fatal[0]}{more}")


def check_disjoint(splits: list[Split]) -> Iterator[Problem]:
    """Images that two splits share, by content, and splits with different categories."""
    seen: dict[str, tuple[str, str, str]] = {}
    for split in splits:
        file = split.file or split.name
        if split.classes != splits[0].classes:
            rule = f"its categories differ from those of {splits[0].file or splits[0].name}"
            yield Problem(file, rule)
        for record in split.records:
            known = seen.setdefault(record.digest, (split.name, file, record.file.name))
            other, where, name = known
            if other != split.name:
                yield Problem(split.place(record), f"the same image is in {where} ({name})")


def fingerprint(classes: tuple[str, ...], records: list[Record]) -> str:
    """Digest of all that a training can see."""
    digest = hashlib.sha256(repr(classes).encode())
    for record in sorted(records, key=lambda record: record.id):
        truth = (record.boxes.tolist(), record.labels.tolist(), record.crowd.tolist())
        digest.update(repr((record.id, record.digest, truth)).encode())
    return digest.hexdigest()[:16]
