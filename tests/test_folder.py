"""A training's folder is its alone, can be written, and its best is of an epoch in last."""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_values

from centernet import checkpoint, cli, folder
from centernet import train as module
from centernet.checkpoint import BEST, LAST
from centernet.config import Config, flatten, resolve
from centernet.errors import UserError
from centernet.predict import CLASSES, weights_record
from centernet.structures import Epoch
from centernet.train import train


def every(config: Config, epochs: int) -> Config:
    return resolve(flatten(config.model_dump()) | {"train.checkpoint_every": epochs})


def best_is_of_the_checkpoint(home: Path) -> bool:
    known = [epoch for epoch in checkpoint.read(home / LAST)[1]["epochs"] if epoch["best"]]
    _, record = checkpoint.read(home / BEST)
    return record["digest"] == known[-1]["digest"] and not (home / folder.NEXT).exists()


def test_the_best_weights_are_those_of_the_best_epoch(tiny: Config, tmp_path: Path) -> None:
    for epoch in train(tiny, tmp_path):
        assert best_is_of_the_checkpoint(tmp_path)
        if epoch.best:
            ema = checkpoint.under("ema", checkpoint.read(tmp_path / LAST)[0])
            best, _ = checkpoint.read(tmp_path / BEST)
            assert ema.keys() == best.keys()
            assert all(torch.equal(ema[name], best[name]) for name in ema)


def test_best_weights_of_a_lost_epoch_are_not_taken(tiny: Config, tmp_path: Path) -> None:
    with closing(train(every(tiny, 2), tmp_path)) as epochs:
        assert next(epochs).best  # the second one is never trained, so `last` is never written
    lost, record = checkpoint.read(tmp_path / folder.NEXT)
    assert not (tmp_path / LAST).exists() and not (tmp_path / BEST).exists()
    checkpoint.write(tmp_path / folder.NEXT, lost, record | {"digest": "of another device"})
    list(train(every(tiny, 2), tmp_path))
    assert best_is_of_the_checkpoint(tmp_path)


def test_best_weights_of_a_kept_epoch_are_taken_later(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, closing(train(tiny, tmp_path)) as epochs:
        patch.setattr(module, "settle", lambda *_: None)  # killed before
        assert next(epochs).best
        assert not (tmp_path / BEST).exists()
    with closing(train(tiny, tmp_path)) as epochs:
        assert next(epochs).restored and best_is_of_the_checkpoint(tmp_path)


def test_two_trainings_do_not_share_a_folder(
    tiny: Config, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(train(tiny, tmp_path)) as epochs:
        next(epochs)
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UserError, match="another training is at work there"):
            next(train(tiny, tmp_path))
        assert sorted(tmp_path.iterdir()) == before
    (tmp_path / f".{LAST}-killed").touch()
    with closing(train(tiny, tmp_path)) as epochs:
        assert next(epochs).restored
        assert not list(tmp_path.glob("*killed"))


@pytest.mark.parametrize("output", ["file", "file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_trained(
    output: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    given = ["train", "--config", "demo", "--data", str(data), "--log", "none"]
    assert cli.main([*given, "--output", str(tmp_path / output)]) == 2
    captured = capsys.readouterr()
    assert "epoch" not in captured.out and len(captured.err.splitlines()) == 1
    assert (tmp_path / "file").read_bytes() == b""


def test_more_classes_than_a_network_can_have_are_one_line(tiny: Config) -> None:
    with pytest.raises(UserError, match=r"^65537 classes: a network can have 65536$"):
        weights_record(tiny, ("a",) * (CLASSES + 1))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("trained")
    list(train(resolve(tiny_values(data) | {"train.epochs": 1}), home))
    return home


def copied(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def again(home: Path, data: Path, **changes: Any) -> list[Epoch]:
    return list(train(resolve(tiny_values(data) | {"train.epochs": 1} | changes), home))


def test_the_best_weights_of_another_training_are_kept(
    trained: Path, tmp_path: Path, data: Path
) -> None:
    home = copied(trained, tmp_path)
    (home / LAST).unlink()
    before = (home / BEST).read_bytes()
    with pytest.raises(UserError, match=r"copy: holds another training .* choose another folder"):
        again(home, data)
    assert (home / BEST).read_bytes() == before


@pytest.mark.parametrize("damage", ["missing", "junk", "of another"])
def test_a_training_typed_again_names_no_weights_but_its_own(
    damage: str, trained: Path, tmp_path: Path, data: Path
) -> None:
    home = copied(trained, tmp_path)
    assert [epoch.restored for epoch in again(home, data)] == [True]
    tensors, record = checkpoint.read(home / BEST)
    (home / BEST).unlink()
    if damage == "junk":
        (home / BEST).write_text("junk")
    if damage == "of another":
        checkpoint.write(home / BEST, tensors, record | {"digest": "0" * 32})
    with pytest.raises(UserError, match=r"copy/best\.safetensors: .* epoch 1, the best"):
        again(home, data)


DAMAGES: dict[str, Any] = {
    "no epochs": lambda record: record.pop("epochs"),
    "no data": lambda record: record.pop("data"),
    "no config": lambda record: record.pop("config"),
    "config is no mapping": lambda record: record.update(config=5),
    "config of another version": lambda record: record["config"].update(gone={"x": 1}),
    "ema_step is text": lambda record: record.update(ema_step="x"),
    "an epoch lacks a key": lambda record: record["epochs"][0].pop("losses"),
    "an epoch has another key": lambda record: record["epochs"][0].update(other=1),
    "a tensor is missing": lambda record: None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_one_line(
    damage: str, trained: Path, tmp_path: Path, data: Path
) -> None:
    home = copied(trained, tmp_path)
    tensors, record = checkpoint.read(home / LAST)
    DAMAGES[damage](record)
    if damage == "a tensor is missing":
        tensors.pop(next(name for name in tensors if name.startswith("model/")))
    checkpoint.write(home / LAST, tensors, record)
    with pytest.raises(UserError, match=rf"^{home / LAST}: "):
        again(home, data)
