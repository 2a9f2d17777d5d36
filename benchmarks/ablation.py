"""What each choice buys, one changed at a time: rows of AP, mean and range over seeds.

.venv/bin/python benchmarks/ablation.py run TABLE FOLDER [SEEDS]   train what is not there yet
.venv/bin/python benchmarks/ablation.py show TABLE                 print it as Markdown

Tables are below. Each run is a line of ablation.jsonl; two run beside each other, a thread each.
"""

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from centernet.presets import load
from centernet.train import train

RESULTS = Path(__file__).with_name("ablation.jsonl")
BESIDE = 2  # runs at once
Changes = Mapping[str, Any]
PLAIN: Changes = {
    "augment.flip_p": 0.0,
    "augment.scale_low": 1.0,
    "augment.scale_high": 1.0,
    "augment.translate": 0.0,
    "augment.rotate_p": 0.0,
    "augment.motion_blur_p": 0.0,
    "augment.hue_saturation_value_p": 0.0,
    "augment.random_gamma_p": 0.0,
}
GEOMETRY = {name: value for name, value in PLAIN.items() if name.endswith("_p")} | {
    "augment.flip_p": 0.5
}
L1: Changes = {"loss.size_loss": "l1", "loss.size_weight": 0.1, "loss.offset_weight": 0.1}
LATER: Changes = {"model.backbone": "efficientnet_lite2", "model.stride": 8}


class Table(NamedTuple):
    """A preset with `common` fields, and what is changed in each row."""

    preset: str
    common: Changes
    rows: Mapping[str, Changes]


TABLES = {
    "bccd": Table(
        "light",
        {
            "data.height": 160,
            "data.width": 160,
            "train.epochs": 12,
            "train.evaluate_every": 12,
        },
        {
            "as it is": {},
            "L1 1/0.1/0.1 instead of GIoU 1/1/0.5": L1,
            "... and divisor 6: the mission's": L1 | {"targets.sigma_divisor": 6.0},
            "CIoU": {"loss.size_loss": "ciou"},
            "GIoU weight 2": {"loss.size_weight": 2.0},
            "divisor 4": {"targets.sigma_divisor": 4.0},
            "divisor 6": {"targets.sigma_divisor": 6.0},
            "divisor 11": {"targets.sigma_divisor": 11.0},
            "sigma overlap (paper)": {"targets.sigma_rule": "overlap"},
            "sigma ellipse (TTFNet)": {"targets.sigma_rule": "ellipse"},
            "regression under the Gaussian": {"targets.regression": "gaussian"},
            "neck deconv": {"model.neck": "deconv"},
            "neck dla_up": {"model.neck": "dla_up"},
            "neck dla_up, 40 wide": {"model.neck": "dla_up", "model.channels": 40},
            "neck dla_up, 32 wide": {"model.neck": "dla_up", "model.channels": 32},
            "no EMA": {"train.ema_decay": 0.0},
            "no augmentation": PLAIN,
            "flip, scale and shift only": GEOMETRY,
            "with mosaic 0.3": {"augment.mosaic_p": 0.3},
            "no balancing": {"data.balance": 0.0},
            "full balancing": {"data.balance": 1.0},
            "vertical flips in a half": {"augment.vertical_flip_p": 0.5},
            "regression under the Gaussian, mosaic 0.3": {
                "targets.regression": "gaussian",
                "augment.mosaic_p": 0.3,
            },
            "stride 8": {"model.stride": 8},
            "heads 64 wide": {"model.head_channels": 64},
            "neck 96 wide": {"model.channels": 96},
            "lr 1e-3": {"optim.lr": 1.0e-3},
            "lr 4e-3": {"optim.lr": 4.0e-3},
            "batches of 4, lr 1.4e-3": {"optim.batch_size": 4},
            "weight decay 0.05": {"optim.weight_decay": 0.05},
            "heatmap loss from logits": {"loss.heatmap": "logits"},
        },
    ),
    "vehicles": Table(
        "default",
        {
            "model.backbone": "efficientnet_lite0",
            "model.stride": 4,
            "data.height": 160,
            "data.width": 160,
            "train.epochs": 3,
            "train.evaluate_every": 3,
        },
        {
            "as it is": {},
            "from scratch": {"model.pretrained": False, "optim.backbone_lr_factor": 1.0},
            "L1 1/0.1/0.1 instead of GIoU 1/2/0.5": L1,
            "... and divisor 6: the mission's": L1 | {"targets.sigma_divisor": 6.0},
            "GIoU weight 0.5": {"loss.size_weight": 0.5},
            "GIoU weight 5 (TTFNet)": {"loss.size_weight": 5.0},
            "L1 1/0.3/0.1": {**L1, "loss.size_weight": 0.3},
            "stride 8": {"model.stride": 8},
            "stride 8, EfficientNet-Lite2 (`default` now)": LATER,
            "... with L1 1/0.1/0.1, divisor 6, regression at the centre": {
                **LATER,
                **L1,
                "targets.sigma_divisor": 6.0,
                "targets.regression": "centre",
            },
            "divisor 6": {"targets.sigma_divisor": 6.0},
            "sigma overlap (paper)": {"targets.sigma_rule": "overlap"},
            "sigma ellipse (TTFNet)": {"targets.sigma_rule": "ellipse"},
            "regression at the centre": {"targets.regression": "centre"},
            "neck deconv": {"model.neck": "deconv"},
            "no EMA": {"train.ema_decay": 0.0},
            "no augmentation": PLAIN,
            "balancing 0.5": {"data.balance": 0.5},
            "heads 64 wide": {"model.head_channels": 64},
            "batches of 4, lr 1.4e-3": {"optim.batch_size": 4},  # lr_batch scales it
            "batches of 16, lr 2.8e-3": {"optim.batch_size": 16},
            "EfficientNet-Lite2": {"model.backbone": "efficientnet_lite2"},
        },
    ),
}


def measure(table: str, row: str, seed: int, folder: str) -> dict[str, Any]:
    """Train one row once; its metrics at the last epoch."""
    preset, common, rows = TABLES[table]
    own = {"data.folder": folder, "train.threads": 1, "train.seed": seed}
    config = load(preset, {**common, **rows[row], **own})
    with tempfile.TemporaryDirectory() as scratch:
        epochs = list(train(config, Path(scratch)))
    metrics = {name: round(value, 2) for name, value in epochs[-1].metrics.items()}
    seconds = round(sum(epoch.seconds for epoch in epochs))
    return {"table": table, "row": row, "seed": seed, "seconds": seconds, **metrics}


def known(table: str) -> list[dict[str, Any]]:
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return [one for one in map(json.loads, lines) if one["table"] == table]


def run(table: str, folder: str, seeds: int, rows: list[str]) -> None:
    """All rows with the first seed, then with the second, ..."""
    done = {(one["row"], one["seed"]) for one in known(table)}
    wanted = [(row, seed) for seed in range(seeds) for row in rows]
    with ProcessPoolExecutor(BESIDE, mp_context=get_context("spawn")) as pool:
        left = [pool.submit(measure, table, *one, folder) for one in wanted if one not in done]
        for number, future in enumerate(as_completed(left), 1):
            with RESULTS.open("a") as file:
                file.write(json.dumps(future.result()) + "\n")
            print(f"{number}/{len(left)} {future.result()}", file=sys.stderr, flush=True)


def show(table: str) -> None:
    """One row a change: AP with its range over seeds, AP50, AP75, each class."""
    found = defaultdict(list)
    for one in known(table):
        found[one["row"]].append(one)
    classes = [name for name in next(iter(found.values()))[0] if name.startswith("AP/")]
    print("| change | seeds | AP | range | AP50 | AP75 |", *(f"{n[3:]} |" for n in classes))
    print("|", " | ".join(["---"] * (6 + len(classes))), "|")
    for row in TABLES[table].rows:
        if runs := found.get(row):
            aps = [one["AP"] for one in runs]
            means = [
                f"{mean(one[name] for one in runs):.1f}" for name in ("AP50", "AP75", *classes)
            ]
            spread = f"{min(aps):.1f} to {max(aps):.1f}" if len(aps) > 1 else ""
            print(
                "|",
                " | ".join([row, str(len(aps)), f"{mean(aps):.1f}", spread, *means]),
                "|",
            )


def main() -> None:
    task, table, *rest = sys.argv[1:]
    if task == "show":
        show(table)
    else:
        folder, seeds, *rows = [*rest, "1"] if len(rest) == 1 else rest
        run(table, folder, int(seeds), rows or list(TABLES[table].rows))


if __name__ == "__main__":
    main()
