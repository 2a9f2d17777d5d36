"""Runs in MLflow: one for a study, one below it for each trial. No policy here, only verbs."""

import getpass
import json
import logging
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it may hold a password
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, ViewType
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from centernet.checkpoint import write_bytes
from centernet.config import Config, flatten
from centernet.dataset.split import Split
from centernet.errors import UserError, one_line
from centernet.logs import numbers, to_lines
from centernet.seed import key
from centernet.structures import Epoch
from experiments import provenance
from experiments.lock import exclusive
from experiments.settings import Settings, sqlite_file
from experiments.study import write_ahead

for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="mlflow")

STUDY, STUDY_ID, TRIAL, STATE, REASON = "study", "study_id", "trial", "state", "reason"  # tags
# Optuna's state of a trial -> MLflow's status of its run
STATUS = {
    "RUNNING": "RUNNING",
    "WAITING": "SCHEDULED",
    "COMPLETE": "FINISHED",
    "PRUNED": "KILLED",
    "FAIL": "FAILED",
}
LONGEST = 100  # characters of a class in a metric's name
CONFIG, EPOCHS, IDENTITY, WEIGHTS = "config.yaml", "epochs.jsonl", "environment.json", "checkpoint"
PICTURE = "pictures/detections.png"


class Run:
    """The MLflow run of one trial."""

    def __init__(self, client: MlflowClient, run: MlflowRun) -> None:
        """Wrap a run; metrics that it already has are not logged again."""
        self.client, self.id = client, run.info.run_id
        history = client.get_metric_history(self.id, "loss/total")
        self.logged = {metric.step for metric in history}
        self.epochs: list[Epoch] = []

    def log(self, epoch: Epoch) -> None:
        """Log one epoch's numbers, each (metric, step) once however often it is called."""
        self.epochs.append(epoch)
        if epoch.number in self.logged:
            return
        self.client.log_text(self.id, to_lines(self.epochs), EPOCHS)
        now = int(time.time() * 1000)
        metrics = [
            Metric(metric_name(name), value, now, epoch.number)
            for name, value in numbers(epoch).items()
        ]
        self.client.log_batch(self.id, metrics=metrics)
        self.logged.add(epoch.number)

    def finish(self, state: str, *, reason: str = "", value: float | None = None) -> None:
        """Set the run's status from Optuna's state of its trial."""
        if reason:
            self.client.set_tag(self.id, REASON, one_line(reason))
        if value is not None and "best/AP" not in self.client.get_run(self.id).data.metrics:
            self.client.log_metric(self.id, "best/AP", value, step=0)
        set_state(self.client, self.id, state)

    def file(self, local: Path, folder: str) -> None:
        """Keep a copy of a file with the run."""
        self.client.log_artifact(self.id, str(local), folder)

    def picture(self, content: bytes, scratch: Path) -> None:
        """Keep the sheet of detections with the run."""
        file = scratch / Path(PICTURE).name
        write_bytes(file, content)
        self.client.log_artifact(self.id, str(file), str(Path(PICTURE).parent))


class Tracker:
    """The runs of one study: an MLflow experiment of the study's name.

    `study_id` tells this study from another one of the same name that logged there before.
    """

    def __init__(self, settings: Settings, study: str, study_id: str) -> None:
        """Open the store, which is created by one process while the others wait."""
        self.settings, self.study, self.study_id = settings, study, study_id
        self.client = connect(settings)
        self.experiment = self._experiment()

    def _experiment(self) -> str:
        with exclusive(self.settings.runs / ".setup.lock"):
            known = self.client.get_experiment_by_name(self.study)
            if known is None:
                remote = self.settings.tracking_uri.startswith("http")
                location = None if remote else f"{self.settings.artifacts}/{self.study}"
                kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI's layout
                return str(self.client.create_experiment(self.study, location, kind))
            if known.lifecycle_stage == "deleted":  # in the UI; its runs are wanted again
                self.client.restore_experiment(known.experiment_id)
            return str(known.experiment_id)

    @contextmanager
    def open(self, *, tags: dict[str, str], texts: dict[str, str]) -> Iterator[str]:
        """The study's own run, RUNNING inside the block; the trials' runs are its children."""
        runs = self._search("tags.role = 'study'")
        run = runs[0] if runs else self._create("study", f"study {self.study}", tags)
        status = "FINISHED"
        try:
            self.client.update_run(run.info.run_id, "RUNNING")
            for file, text in texts.items():
                self.client.log_text(run.info.run_id, text, file)
            yield run.info.run_id
        except BaseException as error:
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            raise
        finally:
            self.client.set_terminated(run.info.run_id, status)

    @contextmanager
    def trial(
        self, number: int, config: Config, *, parent: str, data: str, splits: tuple[Split, Split]
    ) -> Iterator[Run]:
        """The run of a trial: found again or created, RUNNING inside the block.

        The block sets its end by `finish`; whatever interrupts it leaves the run SCHEDULED, to
        be continued.
        """
        found = self.find(number)
        tags = {TRIAL: str(number), "mlflow.parentRunId": parent}
        run = Run(self.client, found or self._create("trial", f"trial {number}", tags))
        monitor = SystemMetricsMonitor(
            run.id,
            sampling_interval=self.settings.system_metrics_seconds,
            resume_logging=found is not None,
            tracking_uri=self.settings.tracking_uri,
        )
        try:
            set_state(self.client, run.id, "RUNNING")
            self._describe(run.id, config, data, splits)
            monitor.start()
            yield run
        except BaseException:
            set_state(self.client, run.id, "WAITING")
            raise
        finally:
            monitor.finish()

    def reconcile(self, states: dict[int, str]) -> None:
        """Give every trial's run the status that belongs to its state, after a crash."""
        for run in self._search("tags.role = 'trial'", limit=50_000):
            state = states.get(int(run.data.tags[TRIAL]), "FAIL")
            if run.info.status != STATUS[state]:
                set_state(self.client, run.info.run_id, state)

    def _create(self, role: str, name: str, tags: dict[str, str]) -> MlflowRun:
        own = {"role": role, STUDY: self.study, STUDY_ID: self.study_id}
        return self.client.create_run(
            self.experiment, tags=tags | own | source_tags(), run_name=name
        )

    def _describe(
        self, run_id: str, config: Config, data: str, splits: tuple[Split, Split]
    ) -> None:
        """Parameters, config, environment and data of a run."""
        run = self.client.get_run(run_id)
        if run.inputs.dataset_inputs:
            return  # the last of these steps was done before an interruption
        flat = flatten(config.model_dump())
        params = [Param(p, str(v)) for p, v in flat.items() if p not in run.data.params]
        self.client.log_batch(run_id, params=params)
        self.client.log_text(run_id, yaml.safe_dump(config.model_dump(), sort_keys=False), CONFIG)
        found = provenance.identity(threads=config.train.threads)
        found["data"] = {split.name: split.fingerprint for split in splits}
        self.client.log_text(run_id, json.dumps(found, indent=2), IDENTITY)
        if patch := provenance.diff():
            self.client.log_text(run_id, patch, "code.diff")
        inputs = [data_input(split, data, str(config.data.folder)) for split in splits]
        self.client.log_inputs(run_id, inputs)

    def find(self, number: int) -> MlflowRun | None:
        """The run of a trial, if there is one."""
        runs = self._search(f"tags.{TRIAL} = '{number}' and tags.role = 'trial'")
        return runs[0] if runs else None

    def _search(self, condition: str, limit: int = 1) -> list[MlflowRun]:
        condition = f"{condition} and tags.{STUDY_ID} = '{self.study_id}'"
        return list(
            self.client.search_runs([self.experiment], condition, ViewType.ACTIVE_ONLY, limit)
        )

    def data(self, run: MlflowRun) -> tuple[str, str]:
        """Name of the data folder, and digest of the val split, that a run was trained on."""
        names = {one.dataset.name: one.dataset.digest for one in run.inputs.dataset_inputs}
        name, digest = next(item for item in names.items() if item[0].endswith("/val"))
        return name.removesuffix("/val"), digest

    def text(self, run_id: str, file: str) -> str:
        """A text that a run keeps; UserError if it has none such."""
        try:
            return Path(self.client.download_artifacts(run_id, file)).read_text()
        except (MlflowException, OSError):
            raise UserError(f"run {run_id} has no {file}: nothing was trained in it") from None

    def weights(self, run_id: str) -> Path:
        """A run's best weights; UserError if it has none."""
        try:
            return Path(self.client.download_artifacts(run_id, f"{WEIGHTS}/best.safetensors"))
        except (MlflowException, OSError):
            raise UserError(f"run {run_id} has no weights") from None


def connect(settings: Settings) -> MlflowClient:
    """A client of the tracking server or database; UserError if it cannot be reached."""
    file = sqlite_file(settings.tracking_uri)
    try:
        with exclusive(settings.runs / ".setup.lock"):
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_ahead(str(file))
            client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError) as error:
        raise UserError(
            f"MLflow at {settings.tracking_uri}: {str(error).splitlines()[0]}"
        ) from None
    return client


def set_state(client: MlflowClient, run_id: str, state: str) -> None:
    """Tag a run with Optuna's state of its trial, and set its status accordingly."""
    client.set_tag(run_id, STATE, state)
    if STATUS[state] in ("RUNNING", "SCHEDULED"):
        client.update_run(run_id, STATUS[state])
    else:
        client.set_terminated(run_id, STATUS[state])


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
    commit = provenance.git("rev-parse", "HEAD")
    tags = {
        "mlflow.source.name": "experiments search",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": getpass.getuser(),
    }
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})
