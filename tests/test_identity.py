"""What a run records of code, packages, data and hardware, and how a difference is named."""

import json
from pathlib import Path

import pytest
from conftest import tiny_values

from centernet.dataset.coco import read_training
from centernet.structures import Epoch
from experiments import provenance
from experiments.differences import Difference, differences, unequal
from experiments.manifest import current, fingerprint, manifest
from experiments.verdict import Comparison, Deviation, numeric, tolerance


@pytest.fixture
def now(data: Path) -> dict[str, object]:
    values = tiny_values(data) | {"train.seed": 0}
    return provenance.identity(values)


def test_an_identity_is_plain_json_and_differs_in_nothing_from_itself(
    now: dict[str, object],
) -> None:
    again = json.loads(json.dumps(now))
    assert not differences(again, now)
    assert {"commit", "sources", "packages", "cpu", "vectors", "threads", "mode", "keys"} <= {*now}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"packages": ("numpy", "1.0")}, "package numpy: 1.0 -> {}"),
        ({"sources": ("centernet/losses.py", "0")}, "source centernet/losses.py: changed"),
        ({"sources": ("centernet/gone.py", "0")}, "source centernet/gone.py: removed"),
        ({"variables": ("MKL_CBWR", "AVX2")}, "variable MKL_CBWR: AVX2 -> none"),
        ({"threads": 7}, "threads: 7 -> 2"),
        ({"cpu": "Other"}, "hardware cpu: Other -> {}"),
        ({"python": "3.9.1"}, "python: 3.9.1 -> {}"),
    ],
)
def test_one_change_is_named_and_nothing_else(
    now: dict[str, object], change: dict[str, object], named: str
) -> None:
    then = json.loads(json.dumps(now))
    for fact, value in change.items():
        if isinstance(value, tuple):
            then[fact][value[0]] = value[1]
        else:
            then[fact] = value
    (found,) = differences(then, now)
    assert str(found) == named.format(found.now)


def test_a_record_of_before_is_compared_in_what_it_says(now: dict[str, object]) -> None:
    then = {name: now[name] for name in ("commit", "python", "cpu", "threads")}
    assert not differences(then | {"packages": {}}, now)


def test_a_changed_a_new_and_a_missing_file_of_the_data_are_named(own_data: Path) -> None:
    splits = read_training(own_data)
    then = manifest(own_data, splits)
    assert then == current(own_data, ("train", "val"))
    assert len(then) == 24 + 8 + 2
    picture = own_data / "images" / "train-0003.jpg"
    picture.write_bytes(picture.read_bytes() + b"\0")
    (own_data / "images" / "val-0001.jpg").unlink()
    found = unequal("data", then, current(own_data, ("train", "val")))
    assert list(map(str, found)) == [
        "data images/train-0003.jpg: changed",
        "data images/val-0001.jpg: removed",
    ]
    digests = {split.name: split.fingerprint for split in splits}
    assert fingerprint(own_data, "train", then) == digests["train"]  # the boxes are as they were
    assert fingerprint(own_data, "train", {}) != digests["train"]
    (own_data / "val.json").write_text("[]")
    assert fingerprint(own_data, "val", then) is None
    assert len(current(own_data, ("train", "val"))) == 24 + 2


def epoch(tensors: str, *, loss: float = 1.0, ap: float = 50.0) -> Epoch:
    return Epoch(1, {"total": loss}, {"AP": ap}, 0, 0, 0, 0, tensors, False, tensors=tensors)


def test_the_first_tensor_that_differs_is_named() -> None:
    one = Comparison(epoch("aaaabbbbcccc"), epoch("aaaaBBBBCCCC", loss=1.1, ap=49.0))
    assert one.differs == ["loss/total", "val/AP", "weights"]
    assert one.tensors(["x", "y", "z"]) == "tensor y and 1 more of 3"
    assert one.tensors([]) == "tensor number 2 and 1 more of 3"
    assert one.deviation.ap == 1 and one.deviation.loss == pytest.approx(0.1)
    assert Comparison(epoch(""), epoch("aaaa")).tensors([]) == ""


def test_a_deviation_without_a_number_is_beyond_every_limit() -> None:
    one = Comparison(epoch("a"), epoch("b", loss=float("nan")))
    assert not one.deviation.within(Deviation(100, 100))
    assert Comparison(epoch("a"), epoch("a")).deviation.within(Deviation())


def test_a_tolerance_is_stated_for_threads_and_processors_but_for_no_other_cause() -> None:
    threads = Difference("threads", "threads", "2", "1")
    cpu = Difference("hardware", "cpu", "A", "B")
    assert tolerance("cpu", "deterministic", []) is None  # the same bits, then
    assert tolerance("cpu", "deterministic", [threads])
    assert tolerance("cpu", "fast", [threads, cpu])
    for kind in ("source", "package", "data", "device"):
        other = Difference(kind, "centernet/x.py", "1", "2")
        assert tolerance("cpu", "deterministic", [threads, other]) is None
    idle = Difference("source", "experiments/x.py", "1", "2")
    assert tolerance("cpu", "deterministic", [threads, idle])


def test_a_diverged_loss_is_known_by_its_words() -> None:
    assert numeric("epoch 3, step 12: the size loss is nan")
    assert numeric("epoch 1, step 2: the gradient is -inf")
    assert not numeric("its process was killed (by someone, or for want of memory)")
