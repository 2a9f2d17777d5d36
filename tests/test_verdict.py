"""Which verdict a comparison of epochs ends with, and what it says."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from centernet.errors import UserError
from centernet.structures import Epoch
from experiments.differences import Difference
from experiments.plan import Plan
from experiments.reproduce import Verdict, judge
from experiments.tracking.record import Recorded
from experiments.verdict import ROUNDED, Comparison, Deviation, numeric, tolerance


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


NAN = "epoch 3, step 2: the size loss is nan"
THEN = Recorded(
    "id", "1", "s", "trial 0", "COMPLETE", "", "tiny", {"train.deterministic": True},
    [replace(epoch("aaaa"), number=number) for number in (1, 2)],
    {"device": "cpu", "mode": "deterministic"},
)  # fmt: skip
THREADS = Difference("threads", "threads", "2", "1")


def verdict(
    then: Recorded, lines: list[dict[str, Any]], *found: Difference, most: int | None = None
) -> Verdict:
    count = min(most or len(then.epochs), len(then.epochs))
    plan = Plan(then, then.values, list(found), False, "", False, count, most is None)
    last = list(judge(plan, iter(lines), Path("nowhere")))[-1]
    assert isinstance(last, Verdict)
    return last


def again(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [asdict(replace(e, **c)) for e, c in zip(THEN.epochs, changes, strict=True)]


def test_the_same_epochs_are_identical_whatever_differs() -> None:
    assert verdict(THEN, again({}, {}), THREADS).word == "IDENTICAL"
    text = str(verdict(THEN, again({}, {"digest": "other"}), most=1))
    assert text.startswith("IDENTICAL: the first 1 of 2 epochs")


def test_within_the_tolerance_they_are_equivalent_and_the_largest_deviation_is_said() -> None:
    near = {"digest": "b", "metrics": {"AP": 51.0}, "losses": {"total": 1.02}}
    found = verdict(THEN, again(near, {"digest": "b"}), THREADS)
    assert found.word == "EQUIVALENT" and found.suspects == ("threads: 2 -> 1",)
    assert "from epoch 1 on" in found.why and "at most AP by 1, total loss by 2 %" in found.why


@pytest.mark.parametrize("cause", [(), (THREADS, Difference("data", "images/x.jpg", "1", "2"))])
def test_without_a_tolerance_another_bit_is_divergence(cause: tuple[Difference, ...]) -> None:
    found = verdict(THEN, again({}, {"digest": "b", "tensors": "bbbb"}), *cause)
    assert found.word == "DIVERGED" and "first at epoch 2: tensor number 1 of 1" in found.why
    assert found.suspects == (tuple(map(str, cause)) or ("nothing that is recorded differs",))


def test_beyond_the_tolerance_is_divergence_from_the_first_other_epoch_on() -> None:
    far = {"digest": "b", "metrics": {"AP": 50.0 - 1.01 * ROUNDED.ap}}
    found = verdict(THEN, again({"digest": "b"}, far), THREADS)
    assert found.word == "DIVERGED" and "first at epoch 1: weights; epoch 2: AP by" in found.why


def test_a_failure_of_the_numbers_has_to_come_again() -> None:
    then = replace(THEN, state="FAIL", reason=NAN)
    assert verdict(then, [*again({}, {}), {"error": NAN}]).why.endswith(f"it failed as then: {NAN}")
    for line in ({"error": NAN.replace("3", "4")}, asdict(replace(THEN.epochs[1], number=3))):
        assert verdict(then, [*again({}, {}), line]).word == "DIVERGED"
    assert verdict(THEN, [*again({}, {})[:1], {"error": NAN}]).word == "DIVERGED"


def test_what_killed_a_process_does_not_have_to_come_again() -> None:
    then = replace(THEN, state="FAIL", reason="its process was killed")
    third = asdict(replace(THEN.epochs[1], number=3))
    found = verdict(then, [*again({}, {}), third])
    assert found.word == "IDENTICAL" and "what ended it then: its process was killed" in found.why
    with pytest.raises(UserError, match="nothing to compare"):
        verdict(replace(then, epochs=[]), [third])


def test_an_error_of_another_kind_is_no_verdict() -> None:
    with pytest.raises(UserError, match="the disk is full"):
        verdict(THEN, [{"error": "the disk is full"}])
