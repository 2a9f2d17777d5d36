"""The exam: detectors on the test images, which nothing else here reads."""

import io
from hashlib import blake2b
from pathlib import Path

import numpy as np

from centernet.bootstrap import Matches, match
from centernet.checkpoint import write_bytes
from centernet.dataset import coco, images
from centernet.dataset.source import Links
from centernet.dataset.split import Split, check_disjoint, refuse
from centernet.device import choose_device
from centernet.errors import UserError
from centernet.predict import Detector


def read_test(folder: Path, links: Links = ()) -> Split:
    """The test split; UserError where there is none, or one of its images was trained on."""
    test = coco.read(folder, "test", links)
    refuse(list(check_disjoint([*coco.read_training(folder, links), test])))
    return test


def sit(weights: Path, test: Split, cache: Path) -> Matches:
    """How the detector of a weights file met the truth of the test images; kept in `cache`.

    UserError where its classes are not the split's.
    """
    digest = blake2b(weights.read_bytes() + test.fingerprint.encode(), digest_size=16).hexdigest()
    file = cache / f"{digest}.npz"
    if file.exists():
        return read(file)
    detector = Detector.load(weights, device=choose_device("auto").type)
    if detector.classes != test.classes:
        ours, theirs = ", ".join(detector.classes), ", ".join(test.classes)
        raise UserError(f"its classes are {ours}; the test images have {theirs}")
    found = match(
        [detector(images.load(one.file, (one.height, one.width))) for one in test.records], test
    )
    write(file, found)
    return found


def write(file: Path, found: Matches) -> None:
    """Keep matches."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: getattr(found, name) for name in Matches.__slots__})
    write_bytes(file, stream.getvalue())


def read(file: Path) -> Matches:
    """What `write` wrote."""
    with np.load(file, allow_pickle=False) as stored:
        return Matches(*(stored[name] for name in Matches.__slots__))
