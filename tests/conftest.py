"""Shared data and settings: everything real, only small."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings

os.environ["OMP_NUM_THREADS"] = "2"
os.environ.pop("MAKELEVEL", None)  # `make test` started this, but a test types no make
os.environ["OMP_WAIT_POLICY"] = "passive"  # tests run side by side: a thread that waits sleeps

from centernet.config import Config, resolve
from centernet.dataset.demo import generate
from experiments.settings import Settings, load

LONGEST = ("place", "test_parallel", "test_distributed", "test_outage")  # groups, see below

hypothesis_settings.register_profile("side by side", deadline=None)  # a busy machine is no defect
hypothesis_settings.load_profile("side by side")
REPOSITORY = Path(__file__).resolve().parents[1]
PHOTOGRAPHS = REPOSITORY.parent / "shared" / "data"  # not part of the project


def pytest_xdist_auto_num_workers() -> int:
    """A process more than cores: those that wait for a killed search to end leave one idle."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Tests of one file run in one process, all that use `place` too; the longest begin.

    Those that are `slow` or `larger` are spread one by one.

    `test_search` is the first of its group: its commands mean the study that was searched last.
    """

    def group(item: Any) -> str:
        if item.get_closest_marker("slow") or item.get_closest_marker("larger"):
            return str(item.nodeid)  # alone
        return "place" if "place" in item.fixturenames else str(item.path.stem)

    def start(item: Any) -> tuple[int, bool]:
        first = LONGEST.index(group(item)) if group(item) in LONGEST else len(LONGEST)
        return first, item.path.stem != "test_search"

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=start)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of 24 train, 8 val and 6 test images of 128 x 96."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    folder.mkdir()
    generate(folder, {"train": 24, "val": 8, "test": 6})
    return folder


@pytest.fixture
def own_data(data: Path, tmp_path: Path) -> Path:
    """A copy of the data that a test may spoil."""
    return Path(shutil.copytree(data, tmp_path / "own"))


@pytest.fixture
def edit(own_data: Path) -> Any:
    """Change train.json of `own_data` through a function of its tree."""

    def change(function: Any, name: str = "train") -> Path:
        file = own_data / f"{name}.json"
        tree = json.loads(file.read_text())
        function(tree)
        file.write_text(json.dumps(tree))
        return own_data

    return change


def tiny_values(folder: Path) -> dict[str, Any]:
    return {
        "data.folder": str(folder),
        "data.height": 64,
        "data.width": 96,
        "data.workers": 0,
        "model.backbone": "slim",
        "model.channels": 16,
        "model.head_channels": 8,
        "optim.batch_size": 8,
        "optim.lr": 0.005,
        "optim.warmup_steps": 2,
        "train.epochs": 3,
        "train.deterministic": True,
        "train.device": "cpu",
        "train.threads": 2,
    }


@pytest.fixture
def tiny(data: Path) -> Config:
    """A config that trains three epochs in seconds."""
    return resolve(tiny_values(data))


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `runs/` whose two databases are empty: to lay out their tables takes five seconds."""
    from experiments.study.storage import open_storage
    from experiments.tracking import connect

    folder = tmp_path_factory.mktemp("stores")
    own = load(Path(shutil.copy(REPOSITORY / "mlflow.yaml", folder)))
    open_storage(own).engine.dispose()
    connect(own)
    return own.runs


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with an mlflow.yaml of its own."""
    shutil.copy(REPOSITORY / "mlflow.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def furnished(home: Path, stores: Path) -> Path:
    """`home`, with two empty databases."""
    shutil.copytree(stores, home / "runs")
    return home


@pytest.fixture
def settings(furnished: Path) -> Settings:
    """Settings whose stores lie in a temporary folder."""
    return load(furnished / "mlflow.yaml")


@pytest.fixture(scope="session")
def place(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study `s` of four trials, which was killed on its way."""
    from journey import kill_and_finish

    home = tmp_path_factory.mktemp("home")
    kill_and_finish(data, home)
    return home


@pytest.fixture
def own(place: Path) -> Settings:
    """The settings of `place`."""
    return load(place / "mlflow.yaml")


def untrained(data: Path, folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """A weights file of an untrained detector for the classes of `data`."""
    import torch

    from centernet import checkpoint
    from centernet.dataset import coco
    from centernet.predict import weights_record
    from centernet.state import make_state

    config = resolve(tiny_values(data) | (changes or {}))
    classes = coco.read(data, "val").classes
    model = make_state(config, len(classes), torch.device("cpu")).ema.model
    file = folder / "best.safetensors"
    checkpoint.write(file, model.state_dict(), weights_record(config, classes))
    return file
