"""One run in MLflow: what a trial logs to it, off the training's thread."""

import getpass
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
from experiments.stores.outbox import Outbox
from experiments.tracking.files import Files

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
BATCH = 1000  # metrics and tags that MLflow takes in one request
MOST_PARAMS = 100  # likewise
CONFIG, EPOCHS, IDENTITY, WEIGHTS = "config.yaml", "epochs.jsonl", "environment.json", "checkpoint"
CONTINUED = "continued.jsonl"  # identities that a trial was continued with, where they differ
CARD = "data"  # with the study's run: what its data is like
MANIFEST = "data-{}.json"  # with the study's run, by the fingerprints of its splits
ATTEMPTS, PARENT = "attempts", "mlflow.parentRunId"  # tags
ANY = "loss/total"  # a metric that every epoch has
CPU = "system/cpu_utilization_percentage"  # that every sample has
BEST_AP = "best/AP"
PICTURE, ERROR = "pictures/detections.png", "error.txt"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is written in one request: an epoch, a sample of the machine, or a trial's end."""

    metrics: list[Metric]
    epoch: Epoch | None = None
    tags: list[RunTag] = field(default_factory=list)

    def __len__(self) -> int:
        """What MLflow counts."""
        return len(self.metrics) + len(self.tags)


def entry(values: Mapping[str, float], step: int, **more: Any) -> Entry:
    """These values of now."""
    now = int(time.time() * 1000)
    return Entry([Metric(name, value, now, step) for name, value in values.items()], **more)


class Run:
    """The MLflow run of one trial."""

    def __init__(self, client: MlflowClient, files: Files, run: MlflowRun, *, new: bool) -> None:
        """Wrap a run; metrics that it already has are not logged again."""
        self.client, self.files, self.id, self.found = client, files, run.info.run_id, run
        self.logged = set() if new else self._steps(ANY)
        self.samples = 0 if new else max(self._steps(CPU), default=-1) + 1
        self.epochs: list[Epoch] = []
        self.outbox: Outbox[Entry] = Outbox(self._write)

    def _steps(self, metric: str) -> set[int]:
        return {one.step for one in self.client.get_metric_history(self.id, metric)}

    def log(self, epoch: Epoch) -> None:
        """Log one epoch's numbers, each (metric, step) once however often it is called."""
        named = {metric_name(name): value for name, value in numbers(epoch).items()}
        self.outbox.put(entry(named, epoch.number, epoch=epoch))

    def sample(self, values: Mapping[str, float]) -> None:
        """Log what the machine does; it is left out where the store is away for long."""
        if self.outbox.offer(entry(values, self.samples)):
            self.samples += 1

    def _write(self, batch: list[Entry]) -> None:
        """Write entries, in order: in the outbox's thread."""
        epochs = [one.epoch for one in batch if one.epoch is not None]
        self.epochs += epochs
        new = {epoch.number for epoch in epochs} - self.logged
        if new:
            self.files.write(EPOCHS, to_lines(self.epochs))
        for part in requests(one for one in batch if one.epoch is None or one.epoch.number in new):
            metrics = [metric for one in part for metric in one.metrics]
            tags = [tag for one in part for tag in one.tags]
            self.client.log_batch(self.id, metrics=metrics, tags=tags)
        self.logged |= new

    def describe(self, config: Config, data: str, splits: tuple[Split, Split]) -> None:
        """Parameters, config, environment and data of a run."""
        run = self.found
        text = as_yaml(config)
        flat = flatten(config.model_dump())
        found = provenance.identity(flat)
        found["data"] = {split.name: split.fingerprint for split in splits}
        if run.inputs.dataset_inputs:  # the last of these steps was done before an interruption
            if run.data.params["optim.accumulate"] != str(config.optim.accumulate):
                self.files.write(CONFIG, text)
                self.client.set_tag(self.id, "optim.accumulate", str(config.optim.accumulate))
            self._continued(found, int(run.data.tags.get(ATTEMPTS, 1)))
            return
        params = [Param(p, str(v)) for p, v in flat.items() if p not in run.data.params]
        for start in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(self.id, params=params[start : start + MOST_PARAMS])
        self.files.write(CONFIG, text)
        self.files.write(IDENTITY, a_line_each(found))
        self._keep_patch(found)
        if PARENT in run.data.tags:
            keep_manifest(self.client, run.data.tags[PARENT], config, splits)
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
            self.files.write(CONTINUED, text)
            self._keep_patch(found)

    def _keep_patch(self, found: dict[str, Any]) -> None:
        """Keep the sources that were not committed."""
        if found["patch"]:
            self.files.write(found["patch"], provenance.patch(provenance.ROOT))

    def finish(
        self,
        state: str,
        *,
        reason: str = "",
        value: float | None = None,
        costs: Mapping[str, float],
    ) -> None:
        """Write what is left, then set the run's status from Optuna's state of its trial."""
        last = {f"cost/{name}": cost for name, cost in costs.items()}
        last |= {} if value is None else {BEST_AP: value}
        new = {name: last[name] for name in last.keys() - self.found.data.metrics.keys()}
        tags = [RunTag(STATE, state)] + ([RunTag(REASON, one_line(reason))] if reason else [])
        self.outbox.put(entry(new, 0, tags=tags))
        self.outbox.close()
        set_status(self.client, self.id, state)


def requests(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """As many at a time as MLflow takes; each one whole: no epoch is ever there in part."""
    part: list[Entry] = []
    for one in entries:
        if part and sum(map(len, part)) + len(one) > BATCH:
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def a_line_each(facts: Mapping[str, Any]) -> str:
    """A JSON object, a fact a line; json's own indentation takes ten times as long."""
    return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in facts.items()) + "\n}"


def as_yaml(config: Config) -> str:
    """A config as the YAML that `load` reads."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times faster, where it is built
    return str(yaml.dump(config.model_dump(), Dumper=dumper, sort_keys=False))


def set_state(client: MlflowClient, run_id: str, state: str) -> None:
    """Tag a run with Optuna's state of its trial, and set its status accordingly."""
    client.set_tag(run_id, STATE, state)
    set_status(client, run_id, state)


def set_status(client: MlflowClient, run_id: str, state: str) -> None:
    """MLflow's own status for Optuna's state; its tag is there already."""
    if STATUS[state] in ("RUNNING", "SCHEDULED"):
        client.update_run(run_id, STATUS[state])
    else:
        client.set_terminated(run_id, STATUS[state])


def keep_manifest(
    client: MlflowClient, parent: str, config: Config, splits: tuple[Split, Split]
) -> None:
    """Keep a digest of every file of the data with the study's run: once is enough."""
    name = manifest_name(split.fingerprint for split in splits)
    if (parent, name) in _kept:
        return
    if name not in {file.path for file in client.list_artifacts(parent)}:
        folder, links = Path(str(config.data.folder)), config.data.follow_links
        client.log_text(parent, json.dumps(manifest(folder, splits, links), indent=0), name)
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


def source_tags() -> dict[str, str]:
    """What the UI shows as source and version."""
    commit = provenance.code(provenance.ROOT)["commit"]
    tags = {
        "mlflow.source.name": "experiments search",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": getpass.getuser(),
    }
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})
