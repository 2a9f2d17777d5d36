"""A data folder in any format -> a COCO data folder, whole or not at all."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from centernet.dataset import coco, formats
from centernet.dataset.source import Links, Source
from centernet.dataset.split import SPLITS, Split, check_disjoint, refuse
from centernet.errors import UserError


def convert(folder: Path, output: Path, links: Links = ()) -> list[Split]:
    """Write `output` with images/ and a JSON for each split of `folder`, which are returned.

    Images are hard links where the file system can, else copies. UserError for a defect that a
    training would refuse, and for an output that exists; nothing is left where it fails.
    """
    if output.exists() or output.is_symlink():
        raise UserError(f"{output}: exists; choose a new folder")
    if formats.detect(folder) == "COCO":
        raise UserError(f"{folder}: is a COCO data folder already")
    has = formats.FORMATS[formats.detect(folder)].has
    names = [name for name in SPLITS if has(folder, name)]
    sources = {name: formats.read(folder, name, links) for name in names}
    splits = [coco.check(source, name) for name, source in sources.items()]
    if not splits:
        raise UserError(f"{folder}: has none of the splits {', '.join(SPLITS)}")
    refuse([problem for split in splits for problem in split.problems])
    refuse(list(check_disjoint(splits)))
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        write(scratch, sources)
        written = [coco.read(scratch, name) for name in names]
        assert [s.fingerprint for s in written] == [s.fingerprint for s in splits], (
            "nothing changes"
        )
        scratch.chmod(0o777 & ~umask())
        scratch.rename(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return splits


def write(folder: Path, sources: dict[str, Source]) -> None:
    """Images and JSON files of these splits."""
    names = output_names(sources)
    for file, name in names.items():
        target = folder / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        link(file, target)
    for split, source in sources.items():
        images = [
            row | {"file_name": names[image_file(source, row["file_name"])].as_posix()}
            for row in source.tree["images"]
        ]
        (folder / f"{split}.json").write_text(json.dumps({**source.tree, "images": images}))


def output_names(sources: dict[str, Source]) -> dict[Path, Path]:
    """Each image's place below images/: as it was, without a folder `images` of its own."""
    plain = {
        image_file(source, row["file_name"]): Path(row["file_name"])
        for source in sources.values()
        for row in source.tree["images"]
    }
    short = {
        file: Path(*(part for part in name.parent.parts if part != "images"), name.name)
        for file, name in plain.items()
    }
    return short if len(set(short.values())) == len(short) else plain


def image_file(source: Source, name: str) -> Path:
    """Where an image lies, whatever links lead to it."""
    return (source.root / name).resolve()


def link(file: Path, target: Path) -> None:
    """The same file at another place; a copy, where the file system has no hard links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def umask() -> int:
    """The permissions that this process takes from new files."""
    current = os.umask(0)
    os.umask(current)
    return current
