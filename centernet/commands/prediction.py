"""centernet predict: pictures and videos with boxes, or JSON lines."""

import argparse
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, count, groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from centernet import draw, sources
from centernet.checkpoint import write_bytes
from centernet.commands.detectors import open_finder
from centernet.commands.progress import progress
from centernet.dataset import images
from centernet.errors import UserError, one_line
from centernet.files import opened as opened_file
from centernet.predict import Finder, Picture
from centernet.structures import Detections
from centernet.video import Recorder, Video, opened

ENOUGH = 0.9  # of the frames that a video says it has: some count roughly


def predict(options: argparse.Namespace) -> int:
    """Detect objects in images and videos; 2 if one of them could not be read."""
    files, missing = sources.find(options.sources)
    targets = dict(zip(files, output_files(files, options.output), strict=True))
    finder = open_finder(options.weights, device=options.device)
    if options.shown is None:
        options.shown = 0.0 if options.json else draw.SHOWN
    if files and not options.json:
        options.output.mkdir(parents=True, exist_ok=True)
    for error in missing:
        print(f"centernet: {one_line(str(error))}", file=sys.stderr, flush=True)
    broken = len(missing)
    for are_videos, group in groupby(files, key=sources.is_video):
        part = list(group)
        for error in (watch if are_videos else look)(finder, part, targets, options):
            print(f"centernet: {one_line(str(error))}", file=sys.stderr, flush=True)
            broken += 1
    return 2 if broken else 0


def look(
    finder: Finder, files: Sequence[Path], targets: dict[Path, Path], options: argparse.Namespace
) -> Iterator[UserError]:
    """Detect objects in image files; yields what is wrong with those that cannot be read."""
    waiting = progress(files, total=len(files), what="detecting")
    while part := list(islice(waiting, options.batch)):
        read = {file: attempt(file) for file in part}
        whole = [picture for picture in read.values() if not isinstance(picture, UserError)]
        found = iter(finder.batch(whole))
        for file, picture in read.items():
            if isinstance(picture, UserError):
                yield picture
            elif options.json:
                tell({"image": str(file)}, finder, next(found), options.shown)
            else:
                own = next(found)
                drawn = draw.detections_on(picture, own, finder.classes, shown=options.shown)
                save(drawn, targets[file])
                what = counted(Counter(names(finder, own, options.shown)))
                print(one_line(f"{file}: {what} -> {targets[file]}"), flush=True)


def attempt(file: Path) -> Picture | UserError:
    """The picture in a file, or why there is none."""
    try:
        picture = images.load(file)
        with opened_file(file) as stream:
            if images.is_stack(stream):
                print(f"centernet: note: {one_line(str(file))}: {images.STACK}", file=sys.stderr)
        return picture
    except UserError as error:
        return error


def watch(
    finder: Finder, files: Sequence[Path], targets: dict[Path, Path], options: argparse.Namespace
) -> Iterator[UserError]:
    """Detect objects in each frame of videos; yields what is wrong with those that end early."""
    for file in files:
        try:
            with opened(file) as video:
                done = watch_one(finder, video, targets[file], options)
            if not done:
                raise UserError(f"{file}: no frame of this video can be read")
            if video.count is not None and done < ENOUGH * video.count:
                missing = f"only {done} of its {video.count} frames can be read"
                raise UserError(f"{file}: its end is missing: {missing}")
        except UserError as error:
            yield error


def watch_one(finder: Finder, video: Video, target: Path, options: argparse.Namespace) -> int:
    """JSON lines of a video's frames, or an .mp4 with boxes; the number of frames."""
    done, seen = 0, Counter[str]()
    with ExitStack() as stack:
        recorder = None
        if not options.json:
            recorder = stack.enter_context(Recorder(target, rate=video.rate))
        for frame, found in detect_frames(finder, video, batch=options.batch):
            if recorder is None:
                seconds = round(done / video.rate, 3)
                place = {"video": str(video.file), "frame": done, "seconds": seconds}
                tell(place, finder, found, options.shown)
            else:
                drawn = draw.detections_on(frame, found, finder.classes, shown=options.shown)
                recorder.write(np.asarray(drawn))
                seen.update(names(finder, found, options.shown))
            done += 1
    if done and not options.json:
        what = f"{counted(seen)} in {done} frames"
        print(one_line(f"{video.file}: {what} -> {target}"), flush=True)
    return done


def detect_frames(
    finder: Finder, video: Video, *, batch: int
) -> Iterator[tuple[Picture, Detections]]:
    """Each frame in order, and what is in it."""
    waiting = progress(video.frames(), total=video.count, what=video.file.name)
    while part := list(islice(waiting, batch)):
        yield from zip(part, finder.batch(part), strict=True)


def tell(place: dict[str, Any], finder: Finder, found: Detections, shown: float) -> None:
    """A JSON line: where, and the detections that score at least `shown`, xyxy in pixels."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    detections = [
        {
            "class": finder.classes[label],
            "score": round(score, 4),
            "box": [round(v, 2) for v in box],
        }
        for box, score, label in rows
        if score >= shown
    ]
    print(json.dumps(place | {"detections": detections}), flush=True)


def names(finder: Finder, found: Detections, shown: float) -> list[str]:
    """The class of each detection that scores at least `shown`."""
    return [finder.classes[label] for label in found.labels[found.scores >= shown].tolist()]


def counted(seen: Counter[str]) -> str:
    """`3 car, 1 bus`."""
    return ", ".join(f"{n} {one_line(name)}" for name, n in seen.most_common()) or "nothing"


def save(picture: Image.Image, file: Path) -> None:
    """Write a PNG, whole or not at all."""
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    write_bytes(file, stream.getvalue())


def output_files(files: Sequence[Path], folder: Path) -> list[Path]:
    """Where each file's picture or video goes: never on an input, never two to the same place.

    What lies under such a name and is no input is taken for an earlier result, and replaced.
    """
    same = Counter(file.name for file in files)
    taken = {os.path.realpath(file) for file in files}
    targets = []
    for index, file in enumerate(files):
        ending = "mp4" if sources.is_video(file) else "png"
        plain = folder / f"{file.name}.detections.{ending}"
        numbered = (folder / f"{file.name}.{n}.detections.{ending}" for n in count(index))
        names = numbered if same[file.name] > 1 else chain([plain], numbered)
        target = next(name for name in names if os.path.realpath(name) not in taken)
        taken.add(os.path.realpath(target))
        targets.append(target)
    return targets
