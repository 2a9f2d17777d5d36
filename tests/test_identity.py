"""What a run records of code, packages, data and hardware, and how a difference is named."""

import json
import sysconfig
from pathlib import Path

import pytest
from conftest import tiny_values

from centernet.dataset.coco import read_training
from experiments import provenance
from experiments.differences import differences, unequal
from experiments.manifest import current, fingerprint, manifest


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
        ({"pretrained": "0"}, "pretrained: 0 -> none"),
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


def test_initial_weights_are_known_by_their_content(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    values = tiny_values(data) | {"train.seed": 0, "model.pretrained": str(file)}
    found = []
    for content in (b"1", b"1", b"2", None):
        file.write_bytes(content) if content else file.unlink()
        found.append(provenance.identity(values)["pretrained"])
    assert found[0] == found[1] != found[2] is not None and found[3] is None


def test_a_record_of_before_is_compared_in_what_it_says(now: dict[str, object]) -> None:
    then = {name: now[name] for name in ("commit", "python", "cpu", "threads")}
    assert not differences(then | {"packages": {}}, now)
    assert not differences(then | {"packages": {}, "sources": now["sources"]}, now)


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


def test_what_a_package_brings_along_for_itself_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trial of a Ray worker would else seem to have run with other packages."""
    before = provenance.packages.__wrapped__()
    own = Path(sysconfig.get_path("purelib")) / "ray" / "thirdparty_files"
    assert list(own.glob("*.dist-info"))
    monkeypatch.syspath_prepend(str(own))
    assert provenance.packages.__wrapped__() == before
