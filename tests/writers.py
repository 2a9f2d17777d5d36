"""COCO -> Pascal VOC and YOLO folders, for the tests of their readers."""

import shutil
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from centernet.dataset.split import Record, Split


def as_voc(splits: list[Split], folder: Path) -> Path:
    """Write splits as Pascal VOC; its corners are whole pixels."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for split in splits:
        stems = [record.file.stem for record in split.records]
        (folder / f"ImageSets/Main/{split.name}.txt").write_text("".join(f"{s}\n" for s in stems))
        for record in split.records:
            shutil.copy(record.file, folder / "JPEGImages" / record.file.name)
            text = voc_annotation(record, split.classes)
            (folder / f"Annotations/{record.file.stem}.xml").write_text(text)
    return folder


def voc_annotation(record: Record, classes: tuple[str, ...]) -> str:
    objects = ""
    for box, label, crowd in zip(record.boxes, record.labels, record.crowd, strict=True):
        x1, y1, x2, y2 = box.round().astype(int).tolist()
        objects += (
            f"<object><name>{escape(classes[label])}</name><difficult>{int(crowd)}</difficult><bndbox>"
            f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        )
    size = f"<size><width>{record.width}</width><height>{record.height}</height></size>"
    return f"<annotation>{size}{objects}</annotation>"


def as_yolo(splits: list[Split], folder: Path) -> Path:
    """Write splits as YOLO, six digits as usual; images without objects get no label file."""
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(splits[0].classes))
    lines = "".join(f"{split.name}: images/{split.name}\n" for split in splits)
    for split in splits:
        images, labels = (folder / kind / split.name for kind in ("images", "labels"))
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for record in split.records:
            shutil.copy(record.file, images / record.file.name)
            if len(record.labels):
                (labels / f"{record.file.stem}.txt").write_text(yolo_label(record))
    (folder / "data.yaml").write_text(f"path: .\n{lines}names:\n{names}")
    return folder


def yolo_label(record: Record) -> str:
    size = np.array((record.width, record.height), np.float64)
    text = ""
    for box, label in zip(record.boxes.astype(np.float64), record.labels, strict=True):
        numbers = (*((box[:2] + box[2:]) / 2 / size), *((box[2:] - box[:2]) / size))
        text += f"{label} " + " ".join(f"{n:.6f}" for n in numbers) + "\n"
    return text


WRITERS = {"Pascal VOC": as_voc, "YOLO": as_yolo}
