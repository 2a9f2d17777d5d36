"""The shared cache changes no batch, and neither kills nor full disks nor crowds can spoil it."""

import errno
import logging
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_values

from centernet.assemble import make_loader
from centernet.augment import Augmenter
from centernet.config import Config, resolve
from centernet.dataset import cache, coco
from centernet.dataset.loader import Batch, Draw, Order, Samples, training_loader
from centernet.dataset.split import Split

SIZE: dict[str, Any] = {"height": 64, "width": 96, "letterbox": True}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CENTERNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_noted", set())
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def split(data: Path) -> Split:
    return coco.read(data, "train")


def opened(split: Split, disk_mb: int = 64, **changes: Any) -> cache.Cache:
    return cache.open_cache("disk", split, **SIZE | changes, memory_mb=0, disk_mb=disk_mb)


def samples(split: Split, kind: str, augmenter: Augmenter | None = None) -> Samples:
    return Samples(split, **SIZE, cache=kind, cache_mb=64, cache_disk_mb=64, augmenter=augmenter)


def batches(split: Split, kind: str, *, workers: int = 0) -> list[Batch]:
    values = Config().augment.model_dump() | {"mosaic_p": 0.5, "cutout_p": 0.5}
    order = Order(split, batch_size=8, balance=0.5, seed=3)
    found = samples(split, kind, Augmenter(**values))
    return list(training_loader(found, order, workers=workers))


def digest(found: list[Batch]) -> list[bytes]:
    return [part.numpy().tobytes() for one in found for part in (one.images, one.boxes, one.labels)]


def test_batches_are_the_same_bytes_cold_warm_in_workers_and_without_a_cache(
    split: Split, folder: Path
) -> None:
    plain = digest(batches(split, "none"))
    assert digest(batches(split, "memory")) == plain
    assert digest(batches(split, "disk")) == plain  # cold
    assert len(list(folder.glob("*.images"))) == 1
    assert digest(batches(split, "disk")) == plain  # warm
    assert digest(batches(split, "disk", workers=2)) == plain


def test_a_warm_cache_reads_no_image_file(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = [samples(split, "disk")[Draw(index)][0] for index in range(3)]
    monkeypatch.setattr("centernet.dataset.images.load", None)
    warm = samples(split, "disk")
    for index, image in enumerate(cold):
        assert torch.equal(warm[Draw(index)][0], image)
    with pytest.raises(TypeError):
        warm[Draw(5)]


def test_content_geometry_and_code_have_files_of_their_own(
    split: Split, folder: Path, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    opened(split)
    opened(split, height=96)
    opened(split, letterbox=False)
    opened(coco.read(data, "val"))
    monkeypatch.setattr("cv2.__version__", "0")
    opened(split)
    assert len(list(folder.glob("*.images"))) == 5
    opened(split)
    assert len(list(folder.glob("*.images"))) == 5


def test_what_was_torn_is_never_read(split: Split, folder: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    first = opened(split)
    for index in range(3):
        first.put(index, image)
    (file,) = folder.glob("*.images")
    start = cache.first_byte(len(split))
    with file.open("r+b") as stream:
        stream.seek(start + 1 * image.nbytes + 9000)  # its pixels are not all there
        stream.write(bytes(500))
        stream.seek(2 * 8)  # its mark is half there
        stream.write(bytes(3))
    (folder / ".new-killed").write_bytes(b"x" * 10)
    second = opened(split)
    kept = second.get(0)
    assert kept is not None and np.array_equal(kept, image)
    assert second.get(1) is None and second.get(2) is None and second.get(3) is None
    second.put(1, image)
    again = second.get(1)
    assert again is not None and np.array_equal(again, image)
    assert not (folder / ".new-killed").exists()


def write_all(split: Split, kill_at: int) -> None:
    found = opened(split)
    for index in range(len(split)):
        found.put(index, np.full((64, 96, 3), index, np.uint8))
        image = found.get(index)
        assert image is not None and (image == index).all()
        if index == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def test_many_processes_at_once_and_kills_leave_one_sound_file(split: Split, folder: Path) -> None:
    fork = multiprocessing.get_context("fork")
    crowd = [fork.Process(target=write_all, args=(split, end)) for end in (3, 5, 7, 99, 99, 99)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    assert [process.exitcode for process in crowd] == [-9, -9, -9, 0, 0, 0]
    assert len(list(folder.glob("*.images"))) == 1
    found = opened(split)
    for index in range(len(split)):
        image = found.get(index)
        assert image is not None and (image == index).all()


def test_a_full_disk_is_one_note_and_training_goes_on(
    split: Split, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    plain = digest(batches(split, "none"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with caplog.at_level(logging.WARNING):
        assert digest(batches(split, "disk")) == plain
        assert digest(batches(split, "disk")) == plain
    assert [record.getMessage() for record in caplog.records] == [
        f"decoded images are not cached: {folder}: No space left on device"
    ]
    assert list(folder.glob("*.images")) == list(folder.glob(".new-*")) == []
    monkeypatch.undo()
    monkeypatch.setenv("CENTERNET_CACHE", str(folder))
    monkeypatch.setattr(os, "pwrite", full)  # one whose room cannot be reserved
    assert digest(batches(split, "disk")) == plain
    monkeypatch.setenv("CENTERNET_CACHE", "/proc/no/such")
    assert digest(batches(split, "disk")) == plain


def test_the_least_recently_opened_files_go_first_but_none_in_use(
    split: Split, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def file(height: int) -> Path:
        name = cache.digest(split, **SIZE | {"height": height})
        return folder / f"{name}.images"

    for height in (64, 96, 128):  # 24 images: 0.42, 0.63 and 0.84 MiB
        opened(split, height=height, disk_mb=2)
        os.utime(file(height), (height, height))
    held = opened(split, height=64, disk_mb=2)  # used now: it is not the oldest any more
    os.utime(file(64), (1, 1))  # and were it, it is open
    opened(split, height=160, disk_mb=2)  # 1.05 MiB more
    assert file(64).exists() and file(160).exists()
    assert not file(96).exists() and not file(128).exists()
    assert held is not None and not caplog.records
    assert isinstance(opened(split, height=256, disk_mb=1), cache.Memory)
    assert "of 1 MiB (data.cache_disk_mb) are in use" in caplog.records[0].getMessage()
    assert file(64).exists() and file(160).exists()  # what cannot help is not evicted


def test_it_reaches_workers_that_are_not_forked(split: Split) -> None:
    first = opened(split)
    assert isinstance(first, cache.Shared)
    first.put(4, np.full((64, 96, 3), 7, np.uint8))
    second = cache.Shared.__new__(cache.Shared)
    second.__setstate__(first.__getstate__())
    image = second.get(4)
    assert image is not None and (image == 7).all()


def test_loader_workers_share_the_memory_of_the_cache(data: Path) -> None:
    split = coco.read(data, "train")
    for workers, held in ((0, 113), (2, 56)):  # images of 64 x 96 in two MiB, and in one
        values = tiny_values(data) | {"data.cache_mb": 2, "data.workers": workers}
        loader, _ = make_loader(resolve(values), split, torch.device("cpu"))
        assert isinstance(loader.dataset, Samples)
        assert isinstance(loader.dataset.cache, cache.Memory)
        assert loader.dataset.cache.limit == held


def test_a_file_that_somebody_cut_is_made_anew(split: Split, folder: Path) -> None:
    opened(split)
    (file,) = folder.glob("*.images")
    size = file.stat().st_size
    os.truncate(file, 10)
    found = opened(split)
    assert isinstance(found, cache.Shared) and file.stat().st_size == size
    assert found.get(0) is None
