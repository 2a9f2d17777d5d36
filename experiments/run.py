"""One run in MLflow: what a trial logs to it, off the training's thread."""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from centernet.checkpoint import write_bytes
from centernet.config import Config, flatten
from centernet.dataset.split import Split
from centernet.errors import one_line
from centernet.logs import numbers, to_lines
from centernet.seed import key
from centernet.structures import Epoch
from experiments import provenance
from experiments.manifest import manifest
from experiments.outbox import Outbox

STATE, REASON = "state", "reason"  # tags
# Optuna's state of a trial -> MLflow's status of its run
STATUS = {
    "RUNNING": "RUNNING",
    "WAITING": "SCHEDULED",
    "COMPLETE": "FINISHED",
    "PRUNED": "KILLED",
    "FAIL": "FAILED",
}
LONGEST = 100  # characters of a class in a metric's name
BATCH = 1000  # metrics that MLflow takes in one request
CONFIG, EPOCHS, IDENTITY, WEIGHTS = "config.yaml", "epochs.jsonl", "environment.json", "checkpoint"
CONTINUED = "continued.jsonl"  # identities that a trial was continued with, where they differ
CARD = "data"  # with the study's run: what its data is like
MANIFEST = "data-{}.json"  # with the study's run, by the fingerprints of its splits
ATTEMPTS, PARENT = "attempts", "mlflow.parentRunId"  # tags
ANY = "loss/total"  # a metric that every epoch has
BEST_AP = "best/AP"
PICTURE, ERROR = "pictures/detections.png", "error.txt"


class Run:
    """The MLflow run of one trial."""

    def __init__(self, client: MlflowClient, run: MlflowRun, *, new: bool) -> None:
        """Wrap a run; metrics that it already has are not logged again."""
        self.client, self.id, self.found = client, run.info.run_id, run
        history = [] if new else client.get_metric_history(self.id, ANY)
        self.logged = {metric.step for metric in history}
        self.epochs: list[Epoch] = []
        self.outbox: Outbox[tuple[int, Epoch]] = Outbox(self._write)

    def log(self, epoch: Epoch) -> None:
        """Log one epoch's numbers, each (metric, step) once however often it is called."""
        self.outbox.put((int(time.time() * 1000), epoch))

    def _write(self, batch: list[tuple[int, Epoch]]) -> None:
        """Write epochs, in order: in the outbox's thread."""
        self.epochs += [epoch for _, epoch in batch]
        new = [(time, epoch) for time, epoch in batch if epoch.number not in self.logged]
        if not new:
            return
        self.client.log_text(self.id, to_lines(self.epochs), EPOCHS)
        size = max(BATCH // len(numbers(new[0][1])), 1)
        for start in range(0, len(new), size):  # whole epochs: none is ever there in part
            metrics = [
                Metric(metric_name(name), value, time, epoch.number)
                for time, epoch in new[start : start + size]
                for name, value in numbers(epoch).items()
            ]
            self.client.log_batch(self.id, metrics=metrics)
        self.logged |= {epoch.number for _, epoch in new}

    def describe(self, config: Config, data: str, splits: tuple[Split, Split]) -> None:
        """Parameters, config, environment and data of a run."""
        run = self.found
        text = as_yaml(config)
        flat = flatten(config.model_dump())
        found = provenance.identity(flat)
        found["data"] = {split.name: split.fingerprint for split in splits}
        if run.inputs.dataset_inputs:  # the last of these steps was done before an interruption
            if run.data.params["optim.accumulate"] != str(config.optim.accumulate):
                self.client.log_text(self.id, text, CONFIG)
                self.client.set_tag(self.id, "optim.accumulate", str(config.optim.accumulate))
            self._continued(found, int(run.data.tags.get(ATTEMPTS, 1)))
            return
        params = [Param(p, str(v)) for p, v in flat.items() if p not in run.data.params]
        self.client.log_batch(self.id, params=params)
        self.client.log_text(self.id, text, CONFIG)
        self.client.log_text(self.id, json.dumps(found, indent=1), IDENTITY)
        self._keep_patch(found)
        if PARENT in run.data.tags:
            keep_manifest(self.client, run.data.tags[PARENT], str(config.data.folder), splits)
        inputs = [data_input(split, data, str(config.data.folder)) for split in splits]
        self.client.log_inputs(self.id, inputs)

    def _continued(self, found: dict[str, Any], attempts: int) -> None:
        """Count one more attempt, and keep what it runs with if that is not what the last did."""
        self.client.set_tag(self.id, ATTEMPTS, str(attempts + 1))
        known = text_of(self.client, self.id, CONTINUED) or ""
        last = (known or text_of(self.client, self.id, IDENTITY) or "{}").strip()
        before = json.loads(last.splitlines()[-1] if known else last)
        after = max(self.logged, default=0)
        if before | {"after": after} != found | {"after": after}:
            text = known + json.dumps(found | {"after": after}) + "\n"
            self.client.log_text(self.id, text, CONTINUED)
            self._keep_patch(found)

    def _keep_patch(self, found: dict[str, Any]) -> None:
        """Keep the sources that were not committed."""
        if found["patch"]:
            self.client.log_text(self.id, provenance.patch(provenance.ROOT), found["patch"])

    def finish(
        self,
        state: str,
        *,
        reason: str = "",
        value: float | None = None,
        costs: Mapping[str, float],
    ) -> None:
        """Write what is left, then set the run's status from Optuna's state of its trial."""
        self.outbox.close()
        last = {f"cost/{name}": cost for name, cost in costs.items()}
        last |= {} if value is None else {BEST_AP: value}
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, number, now, 0)
            for name, number in last.items()
            if name not in self.found.data.metrics
        ]
        tags = [RunTag(REASON, one_line(reason))] if reason else []
        if metrics or tags:
            self.client.log_batch(self.id, metrics=metrics, tags=tags)
        set_state(self.client, self.id, state)

    def file(self, local: Path, folder: str) -> None:
        """Keep a copy of a file with the run."""
        self.client.log_artifact(self.id, str(local), folder)

    def picture(self, content: bytes, scratch: Path) -> None:
        """Keep the sheet of detections with the run."""
        file = scratch / Path(PICTURE).name
        write_bytes(file, content)
        self.client.log_artifact(self.id, str(file), str(Path(PICTURE).parent))


def as_yaml(config: Config) -> str:
    """A config as the YAML that `load` reads."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times faster, where it is built
    return str(yaml.dump(config.model_dump(), Dumper=dumper, sort_keys=False))


def set_state(client: MlflowClient, run_id: str, state: str) -> None:
    """Tag a run with Optuna's state of its trial, and set its status accordingly."""
    client.set_tag(run_id, STATE, state)
    if STATUS[state] in ("RUNNING", "SCHEDULED"):
        client.update_run(run_id, STATUS[state])
    else:
        client.set_terminated(run_id, STATUS[state])


def keep_manifest(
    client: MlflowClient, parent: str, folder: str, splits: tuple[Split, Split]
) -> None:
    """Keep a digest of every file of the data with the study's run: once is enough."""
    name = manifest_name(split.fingerprint for split in splits)
    if (parent, name) in _kept:
        return
    if name not in {file.path for file in client.list_artifacts(parent)}:
        client.log_text(parent, json.dumps(manifest(Path(folder), splits), indent=0), name)
    _kept.add((parent, name))


def keep_once(
    client: MlflowClient, run_id: str, folder: str, make: Callable[[], dict[str, bytes]]
) -> None:
    """Keep files with a run in a folder of their own; they are made only if it is not there."""
    if folder in {file.path for file in client.list_artifacts(run_id)}:
        return
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in make().items():
            write_bytes(Path(scratch) / name, content)
        client.log_artifacts(run_id, scratch, folder)


_kept: set[tuple[str, str]] = set()  # manifests that are known to be there


def manifest_name(fingerprints: Iterable[str]) -> str:
    """The artifact that holds the digests of these splits' files."""
    return MANIFEST.format("-".join(fingerprints))


def text_of(client: MlflowClient, run_id: str, file: str) -> str | None:
    """A text that a run keeps, if it does."""
    try:
        return Path(client.download_artifacts(run_id, file)).read_bytes().decode()
    except (MlflowException, OSError):
        return None


def metric_name(name: str) -> str:
    """`val/AP/<class>` as MLflow takes it: a class may be called anything, and anything long."""
    *place, last = name.split("/", 2)
    safe = re.sub(r"[^\w -]", "_", last)
    if safe != last or len(safe) > LONGEST:  # two classes must not share a name
        safe = f"{safe[:LONGEST]}_{key(last):08x}"
    return "/".join([*place, safe])


def data_input(split: Split, name: str, folder: str) -> DatasetInput:
    """A split as MLflow's UI shows it: digest, classes, counts."""
    counts = dict(zip(split.classes, split.frequencies().tolist(), strict=True))
    data = Dataset(
        name=f"{name}/{split.name}",
        digest=split.fingerprint,
        source_type="local",
        source=json.dumps({"uri": folder}),
        profile=json.dumps({"images": len(split), "boxes": counts}),
    )
    context = {"train": "training", "val": "validation"}[split.name]
    return DatasetInput(data, [InputTag("mlflow.data.context", context)])
