"""centernet convert: Pascal VOC and YOLO folders to COCO."""

import argparse
import shlex

from centernet.dataset.convert import convert as write
from centernet.dataset.formats import detect
from centernet.dataset.split import passed_over
from centernet.errors import counted
from centernet.shell import typed


def convert(options: argparse.Namespace) -> int:
    """Write a COCO data folder, whole or not at all."""
    splits = write(options.folder, options.output, options.follow_links)
    for split in splits:
        skipped = f", {passed_over(split.problems)}" if split.problems else ""
        boxes = counted(int(split.frequencies().sum()), "box", "boxes")
        found = f"{counted(len(split), 'image')}, {boxes}{skipped}"
        print(f"{options.output}/{split.name}.json: {found}")
    print(f"from {detect(options.folder)}; fingerprints are the same in both folders")
    print(f"Next: {typed('centernet')} check-data {shlex.quote(str(options.output))}")
    return 0
