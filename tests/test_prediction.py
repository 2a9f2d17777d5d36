"""`centernet predict` on what people point it at: files, folders, patterns, videos, broken ones."""

import json
import os
import resource
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import untrained
from PIL import Image

from centernet import cli, sources
from centernet.errors import UserError
from centernet.video import Recorder, opened


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(data, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """Three photographs, a text named .jpg, a cut one, an empty one, and something else."""
    place = tmp_path / "photos"
    place.mkdir()
    files = sorted((data / "images").glob("val-*"))[:3]
    for name, file in zip(("a.jpg", "b.jpg", "c.jpg"), files, strict=True):
        shutil.copy(file, place / name)
    (place / "cut.jpg").write_bytes(files[0].read_bytes()[:900])
    (place / "empty.png").write_bytes(b"")
    (place / "text.jpg").write_text("not an image")
    (place / "notes.txt").write_text("not asked for")
    return place


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames of 96 x 64, each of its own grey."""
    file = tmp_path_factory.mktemp("film") / "film.mp4"
    with Recorder(file, rate=10.0) as recorder:
        for index in range(9):
            recorder.write(np.full((64, 96, 3), 20 * index + 20, np.uint8))
    return file


def test_folders_and_patterns_lead_to_files_in_order_and_each_once(folder: Path) -> None:
    names = [file.name for file in sources.find([str(folder)])[0]]
    assert names == ["a.jpg", "b.jpg", "c.jpg", "cut.jpg", "empty.png", "text.jpg"]
    found, missing = sources.find([str(folder / "b.jpg"), str(folder.parent / "**" / "?.jpg")])
    assert not missing
    assert [file.name for file in found] == ["b.jpg", "a.jpg", "c.jpg"]
    (folder.parent / "moving").mkdir()
    Image.new("L", (8, 8)).save(folder.parent / "moving" / "a.gif")
    (folder.parent / "moving" / "folder.jpg").mkdir()
    assert [file.name for file in sources.find([str(folder.parent / "moving")])[0]] == ["a.gif"]
    odd = folder / "[1].jpg"  # a name that looks like a pattern
    shutil.copy(folder / "a.jpg", odd)
    assert sources.find([str(odd)]) == ([odd], [])
    (folder / "none").mkdir()
    for word, message in (
        ("none", "no image or video"),
        ("x*", "no file has"),
        ("x", "no such file"),
    ):
        found, missing = sources.find([str(folder / word), str(odd)])
        assert found == [odd] and [message in str(one) for one in missing] == [True]


def test_the_rest_is_done_where_some_cannot_be_read(
    folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "--weights", str(weights), "--shown", "0", "--batch", "2", str(folder)]
    assert cli.main([*words, "--json"]) == 2
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert [Path(row["image"]).name for row in rows] == ["a.jpg", "b.jpg", "c.jpg"]
    # on a busy machine a line with an ETA stands among them
    broken = [line for line in captured.err.splitlines() if not line.startswith("detecting: ")]
    assert len(broken) == 3 and all(line.startswith(f"centernet: {folder}") for line in broken)
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 2
    pictures = {file.name for file in (tmp_path / "out").iterdir()}
    assert pictures == {f"{name}.jpg.detections.png" for name in "abc"}
    one = ["predict", "--weights", str(weights), "--json", str(folder / "b.jpg")]
    capsys.readouterr()
    assert cli.main(one) == 0
    assert json.loads(capsys.readouterr().out) == rows[1]  # a batch changes nothing; all is said


def test_a_place_that_cannot_be_written_is_one_line(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = folder / "notes.txt"
    for place in (taken, taken / "in"):
        words = [
            "predict",
            "--weights",
            str(weights),
            "--output",
            str(place),
            str(folder / "a.jpg"),
        ]
        assert cli.main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"centernet: {place}: ") and error.count("\n") == 1


def test_a_video_becomes_one_with_boxes_or_a_line_for_each_frame(
    film: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "--weights", str(weights), "--shown", "0.05", "--batch", "4", str(film)]
    assert cli.main([*words, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["frame"], row["seconds"]) for row in rows] == [(n, n / 10) for n in range(9)]
    assert rows[0]["detections"] and rows[0]["video"] == str(film)
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    assert "in 9 frames" in capsys.readouterr().out
    with opened(tmp_path / "out" / "film.mp4.detections.mp4") as video:
        assert video.count == 9 and video.rate == pytest.approx(10)
        frames = list(video.frames())
    assert len(frames) == 9 and frames[0].shape == (64, 96, 3)
    assert len(list((tmp_path / "out").iterdir())) == 1  # nothing else is left


def test_frames_are_read_in_order_and_in_rgb(film: Path, tmp_path: Path) -> None:
    with opened(film) as video:
        levels = [float(frame.mean()) for frame in video.frames()]
    assert np.allclose(levels, [20 * index + 20 for index in range(9)], atol=4)
    with Recorder(tmp_path / "red.mp4", rate=5.0) as recorder:
        recorder.write(np.full((64, 64, 3), (250, 10, 10), np.uint8))
    with opened(tmp_path / "red.mp4") as video:
        red, _, blue = next(video.frames()).reshape(-1, 3).mean(0)
    assert red > 200 and blue < 60


def test_a_video_that_is_none_or_ends_early_is_one_line(
    film: Path, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = film.read_bytes()
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{film}\n#EXT-X-ENDLIST\n"
    wrong = {
        "text.mp4": b"not a video", "empty.avi": b"", "cut.mp4": content[: len(content) // 2],
        "list.mp4": playlist.encode(),
    }  # fmt: skip
    for name, bad in wrong.items():
        (tmp_path / name).write_bytes(bad)
        words = ["predict", "--weights", str(weights), "--output", str(tmp_path / "out")]
        assert cli.main([*words, str(tmp_path / name)]) == 2, name
        captured = capfd.readouterr()  # FFmpeg's own words too
        assert captured.err.count("\n") == 1 and name in captured.err, captured.err
        assert not captured.out
    writer = cv2.VideoWriter(
        str(tmp_path / "short.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64)
    )
    for frame in noise(20):  # half of it is more than the head
        writer.write(frame)
    writer.release()
    whole = (tmp_path / "short.avi").read_bytes()
    (tmp_path / "short.avi").write_bytes(whole[: len(whole) // 2])
    assert cli.main([*words[:-2], "--json", str(tmp_path / "short.avi")]) == 2
    captured = capfd.readouterr()
    assert "its end is missing" in captured.err and 2 < captured.out.count("\n") < 20


def test_a_recording_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Recorder(tmp_path / "film.mp4", rate=5.0) as recorder:
        recorder.write(np.zeros((64, 64, 3), np.uint8))
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf_8_is_told_with_an_escape_and_ends_nothing(
    folder: Path, film: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cut.jpg", "empty.png", "text.jpg", "b.jpg"):
        (folder / name).unlink()
    try:
        (folder / "a.jpg").rename(folder / os.fsdecode(b"caf\xe9.jpg"))
    except OSError:
        pytest.skip("a file system of UTF-8 names only")
    shutil.copy(film, folder / os.fsdecode(b"bad\xe9.mp4"))  # such a name crashes OpenCV
    words = ["predict", "--weights", str(weights), str(folder)]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    lines = [line.partition(": ")[0] for line in told.out.splitlines()]
    assert lines == [f"{folder}/c.jpg", rf"{folder}/caf\udce9.jpg"]
    assert rf"{folder}/bad\udce9.mp4: OpenCV takes no video whose name" in told.err
    written = {os.fsencode(file.name) for file in (tmp_path / "out").iterdir()}
    assert written == {b"c.jpg.detections.png", b"caf\xe9.jpg.detections.png"}
    assert cli.main([*words, "--json"]) == 2
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(Path(row["image"]).is_file() for row in rows) and len(rows) == 2
    place = tmp_path / os.fsdecode(b"\xe9")
    words = ["predict", "--weights", str(weights), "--output", str(place), str(film)]
    assert cli.main(words) == 2 and not list(place.iterdir())
    assert r"\udce9/film.mp4.detections.mp4: OpenCV takes no video" in capsys.readouterr().err


@pytest.mark.parametrize(
    "rate",
    [0.5, 23.976, 24000 / 1001, 29.97, 59.94, 66.6667, 119.88, 143.856, 239.76, 777.777, 999.99],
)
def test_a_video_of_any_rate_is_written_with_that_rate(rate: float, tmp_path: Path) -> None:
    with Recorder(tmp_path / "film.mp4", rate=rate) as recorder:
        for _ in range(3):
            recorder.write(np.zeros((48, 64, 3), np.uint8))
    with opened(tmp_path / "film.mp4") as video:
        assert video.count == 3 and video.rate == pytest.approx(rate, rel=1e-3)


def noise(count: int) -> list[np.ndarray]:
    """Frames that take space."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(count)]


def test_a_recording_on_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "film.mp4"
    with Recorder(file, rate=5.0) as recorder:
        for frame in noise(8):
            recorder.write(frame)
    whole = file.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (whole // 4, whole // 2, whole - 400):
        file.unlink(missing_ok=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        message = r"film\.mp4: only \d of 8 frames could be written; the disk is probably full"
        try:
            with pytest.raises(UserError, match=message), Recorder(file, rate=5.0) as recorder:
                for frame in noise(8):
                    recorder.write(frame)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not list(tmp_path.iterdir())


def test_pictures_never_overwrite_what_was_read(data: Path, weights: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (50, 40), "grey").save(tmp_path / name / "same.png")
    words = ["predict", "--weights", str(weights), "--output", str(tmp_path / "one")]
    assert cli.main([*words, str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    written = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert written == ["same.png", "same.png.0.detections.png", "same.png.1.detections.png"]


def test_no_result_takes_the_place_of_an_input_or_of_another_result(
    weights: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    inputs = {
        name: Path(shutil.copy(folder / source, pictures / name))
        for name, source in (
            ("x.png", "a.jpg"),
            ("x.png.detections.png", "b.jpg"),
            ("x.png.0", "c.jpg"),
        )
    }
    (pictures / "below").mkdir()
    inputs["below/x.png"] = Path(shutil.copy(folder / "a.jpg", pictures / "below" / "x.png"))
    before = {name: file.read_bytes() for name, file in inputs.items()}
    words = ["predict", "--weights", str(weights), "--batch", "1", "--output", str(pictures)]
    for _ in range(2):  # again: earlier results are replaced
        assert cli.main([*words, *map(str, inputs.values())]) == 0
        results = [line.rpartition(" -> ")[2] for line in capsys.readouterr().out.splitlines()]
        assert len(set(results)) == len(inputs)
        assert {name: file.read_bytes() for name, file in inputs.items()} == before
    assert len(list(pictures.glob("*.png"))) == 2 + len(inputs)
