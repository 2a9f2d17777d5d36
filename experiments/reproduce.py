"""trial id -> same config and data -> train -> is it the same, epoch by epoch, bit by bit?"""

import json
import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from centernet.config import Config, flatten, resolve
from centernet.dataset.coco import read
from centernet.errors import UserError
from centernet.logs import from_lines
from centernet.structures import Epoch
from centernet.train import choose_device, train
from experiments import provenance, run
from experiments.tracking import Tracker


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run says about its training."""

    run_id: str
    config: Config
    epochs: list[Epoch]
    identity: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One epoch, then and now."""

    then: Epoch
    now: Epoch

    @property
    def differs(self) -> list[str]:
        """What is not the same: `loss/size`, `val/AP`, `weights`."""
        names = [f"loss/{n}" for n in unequal(self.then.losses, self.now.losses)]
        names += [f"val/{n}" for n in unequal(self.then.metrics, self.now.metrics)]
        return names + ([] if self.then.digest == self.now.digest else ["weights"])


def unequal(a: dict[str, float], b: dict[str, float]) -> list[str]:
    """Names under which two dicts of numbers differ; NaN equals NaN."""
    missing = math.inf
    pairs = ((name, a.get(name, missing), b.get(name, missing)) for name in a | b)
    return [n for n, x, y in pairs if x != y and not (math.isnan(x) and math.isnan(y))]


def recorded(tracker: Tracker, number: int) -> Recorded:
    """What the run of a trial recorded; UserError if that is not enough to train it again."""
    found = tracker.find(number)
    if found is None:
        raise UserError(f"trial {number} of study {tracker.study} has no run in MLflow")
    run_id = found.info.run_id
    epochs = from_lines(tracker.text(run_id, run.EPOCHS))
    config = resolve(flatten(yaml.safe_load(tracker.text(run_id, run.CONFIG))))
    return Recorded(run_id, config, epochs, json.loads(tracker.text(run_id, run.IDENTITY)))


def guarantee(config: Config) -> str:
    """What may be expected of a reproduction with this config."""
    threads = config.train.threads
    if choose_device(config.train.device).type == "cpu":
        return f"bit for bit on the same kind of CPU with {threads} threads"
    if config.train.deterministic:
        return "bit for bit on the same kind of GPU"
    return "none on a GPU in fast mode (train.deterministic: false)"


def suspects(then: Recorded, config: Config) -> list[str]:
    """What differs now from what was recorded: code, packages, hardware, threads, data."""
    now = provenance.identity(threads=config.train.threads)
    old = {name: value for name, value in then.identity.items() if name != "data"}
    found = provenance.differences(old, now)
    for name, fingerprint in then.identity["data"].items():
        current = read(Path(str(config.data.folder)), name).fingerprint
        if current != fingerprint:
            found.append(f"{name} data: {fingerprint} -> {current}")
    return found


def reproduce(then: Recorded, config: Config, folder: Path) -> Iterator[Comparison]:
    """Train again, yielding each epoch beside the recorded one."""
    with closing(train(config, folder)) as epochs:
        for old, new in zip(then.epochs, epochs, strict=False):
            yield Comparison(old, new)
            if new.number == len(then.epochs):
                return
