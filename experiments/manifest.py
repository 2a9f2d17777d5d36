"""Every file of a data set by its content: what a training saw, and what lies there now."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from centernet.dataset import coco, formats
from centernet.dataset.source import Links, Source
from centernet.dataset.split import Split
from centernet.dataset.split import fingerprint as of_records
from centernet.errors import UserError

Manifest = dict[str, str]  # path below the data folder -> SHA-256


def manifest(folder: Path, splits: Iterable[Split], links: Links = ()) -> Manifest:
    """The truth and images of splits just read; the images' digests are known from reading."""
    found: Manifest = {}
    for split in splits:
        source = formats.read(folder, split.name, links)
        found |= {below(folder, file): sha256(file) for file in source.truth}
        found |= {image(folder, source, one.file): one.digest for one in split.records}
    return found


def current(folder: Path, names: Iterable[str], links: Links = ()) -> Manifest:
    """The same of the splits of these names as they lie there now; without what is missing."""
    found: Manifest = {}
    for name in names:
        try:
            source = formats.read(folder, name, links)
        except UserError:  # of a file that is none any more, its own digest
            source = Source(folder / f"{name}.json", folder, {}, truth=(folder / f"{name}.json",))
        found |= {below(folder, file): sha256(file) for file in source.truth if file.is_file()}
        for row in source.tree.get("images", []):
            try:
                path = source.image(str(row.get("file_name")))
            except ValueError:  # a name that nothing is read from
                continue
            if path.is_file():
                found[image(folder, source, path)] = sha256(path)
    return found


def fingerprint(folder: Path, name: str, then: Manifest, links: Links = ()) -> str | None:
    """Of a split as it lies there now, but for images that `then` knows; none if it is broken.

    So it says whether the truth of a split is what it was, whatever became of its images.
    """
    try:
        source = formats.read(folder, name, links)
        split = coco.check(source, name)
    except UserError:
        return None
    records = [
        replace(record, digest=then.get(image(folder, source, record.file), record.digest))
        for record in split.records
    ]
    return of_records(split.classes, records)


def below(folder: Path, file: Path) -> str:
    """A file's name in a manifest."""
    return file.relative_to(folder).as_posix()


def image(folder: Path, source: Source, file: Path) -> str:
    """An image's name in a manifest, whatever links lead to it."""
    return below(folder, source.root / file.relative_to(source.root.resolve()))


def sha256(file: Path) -> str:
    """Digest of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
