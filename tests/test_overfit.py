"""Eight images by heart; and where that cannot be, what is said about why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from centernet import cli
from centernet.config import Config, flatten, resolve
from centernet.dataset import coco
from centernet.dataset.split import Split
from centernet.overfit import Fit, chosen, diagnose, of_data, overfit


@pytest.fixture
def split(data: Path) -> Split:
    return coco.read(data, "train")


@pytest.fixture
def sharp(tiny: Config) -> Config:
    """The data at its own size: nothing is lost."""
    return changed(tiny, data__height=96, data__width=128, optim__lr=0.01)


def changed(config: Config, **values: object) -> Config:
    return resolve(
        flatten(config.model_dump()) | {k.replace("__", "."): v for k, v in values.items()}
    )


def labelled(split: Split, *images: list[int]) -> Split:
    """The split with one record for each list, which holds its labels."""
    records = [
        replace(record, boxes=record.boxes[[0] * len(labels)], labels=np.array(labels, np.int64),
                areas=record.areas[[0] * len(labels)], crowd=np.zeros(len(labels), np.bool_))
        for record, labels in zip(split.records, images, strict=False)
    ]  # fmt: skip
    return replace(split, records=tuple(records))


def test_the_first_images_with_objects_are_chosen_and_those_with_new_classes_before(
    split: Split,
) -> None:
    few = labelled(split, [], [0], [0], [0, 1], [], [0], [2], [1])
    ids = [record.id for record in few.records]
    assert [record.id for record in chosen(few, 3).records] == [ids[1], ids[3], ids[6]]
    assert [record.id for record in chosen(few, 4).records] == [ids[1], ids[2], ids[3], ids[6]]
    assert len(chosen(few).records) == 6 and len(chosen(split).records) == 8


def test_eight_images_are_learnt_by_heart_on_the_command_line(
    sharp: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["overfit", "--config", "light", "--data", str(sharp.data.folder), "--steps", "200"]
    flat = flatten(sharp.model_dump())
    for path in ("data.height", "data.width", "model.channels", "optim.lr", "train.threads"):
        words += ["--set", f"{path}={flat[path]}"]
    status = cli.main(words)
    out = capsys.readouterr().out
    assert status == 0, out
    assert "It can: AP50" in out and "8 images" in out


def fit(config: Config, split: Split, steps: int) -> Fit:
    return list(overfit(config, split, steps=steps))[-1]


def test_a_rate_that_explodes_and_a_loss_that_does_not_fall_are_named(
    sharp: Config, split: Split, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = chosen(split, 2)
    wild = changed(sharp, optim__lr=1e30, optim__name="sgd", optim__warmup_steps=0)
    ended = fit(wild, few, 9)
    assert ended.step < 9 and not ended.reached
    assert "became" in diagnose(wild, few, ended)[0] and "optim.lr" in diagnose(wild, few, ended)[0]
    tame = changed(sharp, loss__size_weight=0.0, optim__lr=1e-9)
    said = diagnose(tame, few, fit(tame, few, 20))
    assert any(
        "the size loss does not fall" in line and "size_weight is 0" in line for line in said
    )
    assert any("the heatmap loss does not fall" in line for line in said)
    words = ["overfit", "--config", "light", "--data", str(data), "--steps", "1"]
    assert cli.main([*words, "--set", "data.height=64", "--set", "data.width=64"]) == 1
    assert "It cannot: AP50" in capsys.readouterr().out


def learnt(ap50: list[float]) -> Fit:
    falling = [1.0 / step for step in range(1, 101)]
    names = ("heatmap", "size", "offset", "total")
    return Fit(100, ap50, dict(zip(names, ([*falling] for _ in names), strict=True)))


def test_what_the_true_maps_cannot_tell_is_said_first(sharp: Config, split: Split) -> None:
    few = chosen(split, 4)
    assert list(of_data(sharp, few)) == []
    narrow = changed(sharp, decode__top_k=1)
    assert "decode.top_k=1 drops boxes" in diagnose(narrow, few, learnt([1.0, 2.0]))[0]
    crowded = labelled(split, [0] * 6, [1] * 6)
    crowded = replace(crowded, records=tuple(map(stacked, crowded.records)))
    said = diagnose(sharp, crowded, learnt([1.0, 2.0]))
    assert any("share a cell with another" in line for line in said), said
    said = diagnose(sharp, replace(few, records=tuple(map(shrunk, few.records))), learnt([1.0]))
    assert not any("smaller than a cell" in line for line in said)  # small, but not in the way


def stacked(record: Any) -> Any:
    """All its boxes around one centre, of very different sizes."""
    centre = np.array([64, 48])
    half = 2.0 ** np.arange(1, len(record.boxes) + 1, dtype=np.float32)[:, None] * [1, 0.7]
    boxes = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    return replace(record, boxes=boxes, areas=(4 * half.prod(1)).astype(np.float64))


def shrunk(record: Any) -> Any:
    centre = (record.boxes[:, :2] + record.boxes[:, 2:]) / 2
    return replace(record, boxes=np.concatenate([centre - 1, centre + 1], 1).astype(np.float32))


@pytest.mark.parametrize(
    ("scores", "message"),
    [([10.0, 30.0, 50.0, 70.0], "still learning"), ([50.0] * 8, "every loss has fallen")],
)
def test_what_only_needs_time_is_told_from_what_stands_still(
    sharp: Config, split: Split, scores: list[float], message: str
) -> None:
    assert message in diagnose(sharp, chosen(split, 2), learnt(scores))[0]


def test_a_loss_that_came_back_is_the_rates_fault(sharp: Config, split: Split) -> None:
    back = learnt([50.0])
    back.losses["size"][-20:] = [0.9] * 20
    assert "the size loss fell to" in diagnose(sharp, chosen(split, 2), back)[0]
