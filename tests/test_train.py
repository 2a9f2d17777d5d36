"""The loop: keyed, resumable bit for bit, honest about a diverging loss."""

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch
import yaml

from centernet import checkpoint
from centernet import train as module
from centernet.assemble import make_loader
from centernet.checkpoint import BEST, LAST
from centernet.config import Config, flatten, resolve
from centernet.dataset.coco import read_training
from centernet.encode import SIGMA_RULES
from centernet.errors import UserError
from centernet.losses import HEATMAP_LOSSES, SIZE_LOSSES
from centernet.state import make_state
from centernet.structures import Epoch, Step
from centernet.train import NonFiniteLoss, train, train_step, train_stepwise


def changed(config: Config, **values: object) -> Config:
    return resolve(
        flatten(config.model_dump()) | {k.replace("__", "."): v for k, v in values.items()}
    )


def essence(epochs: list[Epoch]) -> list[tuple[object, ...]]:
    return [(e.number, e.losses, e.metrics, e.learning_rate, e.digest, e.best) for e in epochs]


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Epoch]:
    from conftest import tiny_values

    return list(train(resolve(tiny_values(data)), tmp_path_factory.mktemp("reference")))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_seed_gives_the_same_bits_with_any_number_of_workers(
    tiny: Config, tmp_path: Path, reference: list[Epoch], workers: int
) -> None:
    again = list(train(changed(tiny, data__workers=workers), tmp_path))
    assert essence(again) == essence(reference)


def test_another_seed_gives_other_bits(
    tiny: Config, tmp_path: Path, reference: list[Epoch]
) -> None:
    other = next(train(changed(tiny, train__seed=1), tmp_path))
    assert other.digest != reference[0].digest


def test_a_batch_in_parts_gives_the_gradient_of_the_whole_where_norms_are_frozen(
    tiny: Config,
) -> None:
    splits = read_training(Path(str(tiny.data.folder)))
    loader, order = make_loader(tiny, splits[0], torch.device("cpu"))
    order.epoch = 1
    batch = next(iter(loader))
    parts = batch.split(3)
    assert [len(part.counts) for part in parts] == [3, 3, 2]
    assert torch.equal(torch.cat([part.boxes for part in parts]), batch.boxes)
    norms = []
    for count in (1, 2, 3):
        state = make_state(tiny, 3, torch.device("cpu"))
        state.model.eval()
        config = changed(tiny, optim__accumulate=count, optim__clip_norm=1e9)
        norms.append(train_step(state, batch, config, 0.0)["gradient"].item())
    assert len(set(batch.counts)) > 1 and norms == pytest.approx([norms[0]] * 3, rel=1e-4)


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_training_equals_an_undisturbed_one(
    tiny: Config, tmp_path: Path, reference: list[Epoch], stop: int
) -> None:
    epochs = train(tiny, tmp_path)
    for _ in range(stop):
        next(epochs)
    epochs.close()
    torch.manual_seed(123)  # whatever else the process drew
    resumed = list(train(tiny, tmp_path))
    assert essence(resumed) == essence(reference)
    assert [e.restored for e in resumed] == [e.number <= stop for e in resumed]
    assert essence(list(train(tiny, tmp_path))) == essence(reference)


def test_a_killed_training_goes_on_to_the_same_bits(
    tiny: Config, tmp_path: Path, reference: list[Epoch]
) -> None:
    file, folder = tmp_path / "config.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(tiny.model_dump()))
    command = [sys.executable, "-m", "centernet.cli", "train", "--config", str(file)]
    command += ["--output", str(folder), "--log", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (folder / LAST).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert essence(list(train(tiny, folder))) == essence(reference)
    assert {file.name for file in folder.iterdir()} <= {LAST, BEST} | {
        f.name for f in folder.glob(".*")
    }


def test_a_training_goes_on_with_another_number_of_cores_and_says_so_unless_threads_are_set(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unset = changed(tiny, train__threads=None)
    for cores, said in ((2, 0), (2, 0), (1, 1)):
        monkeypatch.setattr("centernet.seed.cores", lambda cores=cores: cores)
        with closing(train(unset, tmp_path)) as epochs:
            numbers = [next(epochs).number for _ in range(1 + said)]
        assert numbers == [1, 2][: 1 + said] and len(caplog.records) == said
    assert "began with 2 threads and goes on with 1, so last bits may differ" in caplog.text
    with pytest.raises(UserError, match=r"another training \(train.threads: 1 -> 2\)"):
        next(train(tiny, tmp_path))


def test_it_learns(tiny: Config, tmp_path: Path) -> None:
    epochs = list(train(changed(tiny, train__epochs=15), tmp_path))
    assert epochs[-1].losses["total"] < 0.6 * epochs[0].losses["total"]
    assert epochs[-1].losses["heatmap"] < 0.6 * epochs[0].losses["heatmap"]


def test_a_total_is_the_weighted_sum_of_its_terms(reference: list[Epoch]) -> None:
    for epoch in reference:
        terms = epoch.losses
        expected = terms["heatmap"] + 0.1 * terms["size"] + 0.1 * terms["offset"]
        assert terms["total"] == pytest.approx(expected, rel=1e-5)


def test_the_checkpoint_holds_losses_and_metrics_and_no_other_training_takes_it(
    tiny: Config, tmp_path: Path
) -> None:
    epochs = list(train(changed(tiny, train__epochs=1), tmp_path))
    _, record = checkpoint.read(tmp_path / LAST)
    assert record["epochs"][0]["losses"] == epochs[0].losses
    assert record["epochs"][0]["metrics"] == epochs[0].metrics
    with pytest.raises(UserError, match=r"holds another training \(loss.size_weight: 0.1 -> 1.0\)"):
        list(train(changed(tiny, train__epochs=1, loss__size_weight=1.0), tmp_path))


def test_checkpoints_and_evaluations_keep_their_rhythm(tiny: Config, tmp_path: Path) -> None:
    config = changed(tiny, train__evaluate_every=2, train__checkpoint_every=2)
    written = []
    for epoch in train(config, tmp_path):
        file = tmp_path / LAST
        written.append(len(checkpoint.read(file)[1]["epochs"]) if file.exists() else 0)
        assert bool(epoch.metrics) == (epoch.number in (2, 3))
    assert written == [0, 2, 3]


def test_a_non_finite_loss_names_epoch_step_and_term(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = module.losses, []

    def spoiled(*args: object, **options: object) -> dict[str, torch.Tensor]:
        calls.append(1)
        terms = real(*args, **options)  # type: ignore[arg-type]
        if len(calls) == 5:
            terms["size"] = terms["size"] * math.nan
        return terms

    monkeypatch.setattr(module, "losses", spoiled)
    with pytest.raises(NonFiniteLoss, match="epoch 2, step 2: the size loss is nan"):
        list(train(tiny, tmp_path))
    assert len(checkpoint.read(tmp_path / LAST)[1]["epochs"]) == 1


@pytest.mark.parametrize(
    ("name", "schedule", "values"),
    [
        ("sgd", "cosine", {"optim__nesterov": True}),
        ("sgd", "step", {"optim__momentum": 0.0}),
        ("adamw", "step", {"train__ema_decay": 0.0}),
    ],
)  # adamw with cosine is the reference of this file
def test_every_optimizer_and_schedule_resumes_to_the_same_bits(
    tiny: Config, tmp_path: Path, name: str, schedule: str, values: dict[str, object]
) -> None:
    config = changed(tiny, optim__name=name, optim__schedule=schedule, **values)
    undisturbed = list(train(config, tmp_path / "a"))
    rates = [epoch.learning_rate for epoch in undisturbed]
    assert schedule != "step" or rates == pytest.approx([0.005, 0.0005, 0.00005])
    with closing(train(config, tmp_path / "b")) as epochs:
        next(epochs)
    torch.manual_seed(123)
    assert essence(list(train(config, tmp_path / "b"))) == essence(undisturbed)


def test_every_loss_sigma_rule_and_regression_trains_a_step(tiny: Config) -> None:
    split = read_training(Path(str(tiny.data.folder)))[0]
    batch = next(iter(make_loader(tiny, split, torch.device("cpu"))[0]))
    two = batch.split(4)[0]
    for index, (size_loss, rule, regression) in enumerate(
        itertools.product(SIZE_LOSSES, SIGMA_RULES, ("centre", "gaussian"))
    ):
        config = changed(
            tiny,
            loss__size_loss=size_loss,
            loss__heatmap=[*HEATMAP_LOSSES][index % 2],
            targets__sigma_rule=rule,
            targets__regression=regression,
            model__size_per_class=index % 4 > 1,
        )
        state = make_state(config, 3, torch.device("cpu"))
        terms = train_step(state, two, config, 1e-3)
        assert all(term.isfinite() for term in terms.values()), (size_loss, rule, regression)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in state.model.parameters())


def test_unknown_names_are_one_line_with_the_nearest(tiny: Config, tmp_path: Path) -> None:
    for field, message in {
        "loss__heatmap": "loss.heatmap: there is no logit; did you mean logits?",
        "loss__size_loss": r"loss.size_loss: there is no logit \(one of l1, ",
        "optim__name": r"optim.name: there is no logit \(one of adamw, sgd\)",
        "optim__schedule": r"optim.schedule: there is no logit \(one of cosine, step\)",
    }.items():
        with pytest.raises(UserError, match=message):
            next(train(changed(tiny, **{field: "logit"}), tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def flat_ap(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What val AP will be, one after the other."""
    values = [5.0, 7.0, 6.0, 7.0, 6.0, 9.0]
    left = iter(values * 9)
    monkeypatch.setattr(module, "evaluate", lambda *_: {"AP": next(left)})
    return values


def test_a_training_ends_when_patience_does_and_stays_ended(
    tiny: Config, tmp_path: Path, flat_ap: list[float]
) -> None:
    config = changed(tiny, train__epochs=20, train__patience=2, train__checkpoint_every=3)
    epochs = list(train(config, tmp_path))
    assert [epoch.metrics["AP"] for epoch in epochs] == flat_ap[:4]
    assert [epoch.number for epoch in epochs if epoch.best] == [1, 2]
    again = list(train(config, tmp_path))
    assert essence(again) == essence(epochs) and all(epoch.restored for epoch in again)


def test_patience_waits_for_an_evaluation(
    tiny: Config, tmp_path: Path, flat_ap: list[float]
) -> None:
    config = changed(tiny, train__epochs=20, train__patience=1, train__evaluate_every=2)
    assert [bool(epoch.metrics) for epoch in train(config, tmp_path)] == [False, True] * 3


def test_steps_are_told_between_the_epochs_and_change_nothing(
    tiny: Config, tmp_path: Path, reference: list[Epoch]
) -> None:
    config = changed(tiny, train__epochs=3)
    events = list(train_stepwise(config, tmp_path))
    assert essence([event for event in events if isinstance(event, Epoch)]) == essence(reference)
    steps = [event for event in events if isinstance(event, Step)]
    assert [(s.phase, s.done, s.total) for s in steps[:4]] == [
        ("training", 1, 3), ("training", 2, 3), ("training", 3, 3), ("evaluating", 1, 1)
    ]  # fmt: skip
    assert len(steps) == 12


def test_a_missing_cuda_is_one_line(tiny: Config, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(UserError, match=r"train.device: cuda is not available"):
        next(train(changed(tiny, train__device="cuda"), tmp_path))


@pytest.mark.parametrize(
    "values",
    [
        {"train__precision": "bfloat16"}, {"loss__size_loss": "giou"}, {"data__resize": "stretch"},
        {"targets__sigma_rule": "overlap"}, {"data__balance": 0.0}, {"optim__batch_size": 100},
        {"train__deterministic": False}, {"optim__backbone_lr_factor": 0.0},
        {"model__size_per_class": True}, {"loss__heatmap": "logits"}, {"optim__decay_norms": True},
        {"optim__lr_batch": 16}, {"train__ema_decay": 0.0}, {"train__ema_warmup": 1.0},
    ],
    ids=str,
)  # fmt: skip
def test_every_mode_trains(tiny: Config, tmp_path: Path, values: dict[str, object]) -> None:
    epoch = next(train(changed(tiny, **values), tmp_path))
    assert all(math.isfinite(value) for value in epoch.losses.values())
