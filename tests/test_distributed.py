"""Two processes train as one does: same samples, same augmentations, same losses and metrics."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import tiny_values

from centernet import checkpoint, distributed
from centernet.assemble import make_loader
from centernet.checkpoint import LAST
from centernet.config import Config, resolve
from centernet.dataset.coco import read_training
from centernet.dataset.loader import Order
from centernet.errors import UserError
from centernet.train import train

ALONE = os.environ | {"OMP_NUM_THREADS": "1"}  # each on one core, as torchrun has it by itself
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


def together(config: Config, folder: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """`centernet train` in so many processes."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config.model_dump()))
    words = ("-m", "centernet.cli", "train", "--config", file, "--output", folder / "out")
    command = [*TORCHRUN, str(processes), *map(str, words)]
    return torchrun(command)


def torchrun(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=ALONE, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize(
    ("backbone", "limit"),  # with torch's norms, with stochastic depth; and both of timm's
    [
        ("slim", 1e-11),
        pytest.param("efficientnet_b0", 1e-7, marks=pytest.mark.slow),
        pytest.param("timm/test_efficientnet", 1e-7, marks=pytest.mark.slow),
        pytest.param("timm/pit_ti_224", 1e-7, marks=pytest.mark.slow),  # has what nothing uses
        pytest.param("timm/levit_128s", 1e-7, marks=pytest.mark.slow),  # norms of one dimension
        pytest.param("timm/swin_tiny_patch4_window7_224", 1e-7, marks=pytest.mark.larger),
    ],
)
def test_two_processes_have_the_losses_gradients_weights_and_detections_of_one(
    backbone: str, limit: float, data: Path
) -> None:
    script = Path(__file__).with_name("together.py")
    done = torchrun([*TORCHRUN, "2", str(script), str(data), backbone])
    assert done.returncode == 0, done.stderr
    evaluated, found = [json.loads(line) for line in done.stdout.splitlines()]
    assert evaluated["images"] == 8 and evaluated["apart"] < 1e-9  # detections, in image order
    assert found["backbone"] == backbone and found["tensors"] > 100
    assert found["apart"] < limit, found


def test_two_processes_train_as_one_does(data: Path, tmp_path: Path) -> None:
    """By the command, in float32; at a small rate, as larger steps drift apart (together.py)."""
    values = tiny_values(data) | {"train.epochs": 2, "train.threads": 1, "optim.batch_size": 7}
    config = resolve(values | {"optim.name": "sgd", "optim.lr": 1e-4})
    alone = list(train(config, tmp_path / "alone"))
    done = together(config, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("epoch 2/2") == 1 and "(2 processes)" in done.stdout
    ours, record = checkpoint.read(tmp_path / "out" / LAST)
    theirs, _ = checkpoint.read(tmp_path / "alone" / LAST)
    for epoch, other in zip(record["epochs"], alone, strict=True):
        assert epoch["losses"] == pytest.approx(other.losses, rel=1e-3)
        assert epoch["metrics"] == pytest.approx(other.metrics, abs=0.1)
    assert set(ours) == set(theirs)
    for name in (name for name in theirs if name.startswith(("model/", "ema/"))):
        tensor = theirs[name]
        apart = (ours[name].double() - tensor.double()).norm()
        assert apart <= 1e-3 * tensor.double().norm().clamp(min=1e-2), name


def test_the_processes_draw_each_sample_of_a_batch_once_and_in_order(data: Path) -> None:
    split = read_training(data)[0]
    words = {"batch_size": 7, "balance": 0.5, "seed": 3}
    whole = list(Order(split, **words))  # type: ignore[arg-type]  # as they are
    shares = [list(Order(split, **words, share=(rank, 3))) for rank in range(3)]  # type: ignore[arg-type]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert [draw for part in parts for draw in part] == batch
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.slow
def test_more_processes_than_images_in_a_batch_are_refused_in_one_line(
    data: Path, tmp_path: Path
) -> None:
    config = resolve(tiny_values(data) | {"optim.batch_size": 2, "optim.accumulate": 2})
    done = together(config, tmp_path)
    assert done.returncode != 0 and not (tmp_path / "out" / LAST).exists()
    said = {line for line in done.stderr.splitlines() if line.startswith("centernet:")}
    assert len(said) == 1 and "optim.batch_size: 2 images for 2 processes" in said.pop()


def test_more_processes_than_gpus_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    count = torch.cuda.device_count()
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.setenv(name, str(count + (name != "LOCAL_RANK")))
    for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.setenv(name, "1")
    with (
        pytest.raises(UserError, match=f"torchrun: {count + 1} processes, .* and {count} here"),
        distributed.joined(torch.device("cuda")),
    ):
        pass


def test_without_torchrun_a_training_is_alone(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # as Slurm and others leave it
    monkeypatch.setenv("RANK", "3")
    split = read_training(Path(str(tiny.data.folder)))[0]
    _, order = make_loader(tiny, split, torch.device("cpu"))
    assert (order.rank, order.processes) == (0, 1) and "TORCHELASTIC_RUN_ID" not in os.environ
