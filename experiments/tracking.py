"""Runs in MLflow: one for a study, one below it for each trial. No policy here, only verbs."""

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, ViewType
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient

from centernet.checkpoint import write_bytes
from centernet.config import Config, flatten
from centernet.dataset.split import Split
from centernet.errors import UserError
from centernet.structures import Epoch
from experiments import provenance
from experiments.lock import exclusive
from experiments.settings import Settings, sqlite_file, without_password
from experiments.study import write_ahead

for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="mlflow")

STUDY, TRIAL, STATE, REASON = "study", "trial", "state", "reason"  # tags
# Optuna's state of a trial -> MLflow's status of its run
STATUS = {
    "RUNNING": "RUNNING",
    "WAITING": "SCHEDULED",
    "COMPLETE": "FINISHED",
    "PRUNED": "KILLED",
    "FAIL": "FAILED",
}
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
        values = {f"loss/{name}": value for name, value in epoch.losses.items()}
        values |= {f"val/{metric_name(name)}": value for name, value in epoch.metrics.items()}
        values |= {
            "train/learning_rate": epoch.learning_rate,
            "train/images_per_second": epoch.images_per_second,
            "train/seconds": epoch.seconds,
            "val/seconds": epoch.seconds_evaluating,
        }
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, epoch.number) for name, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics)
        self.logged.add(epoch.number)
        self.client.log_text(self.id, epochs_text(self.epochs), EPOCHS)

    def finish(self, state: str, *, reason: str = "", value: float | None = None) -> None:
        """Set the run's status from Optuna's state of its trial."""
        self.client.set_tag(self.id, STATE, state)
        if reason:
            self.client.set_tag(self.id, REASON, reason)
        if value is not None:
            self.client.log_metric(self.id, "best/AP", value, step=0)
        if STATUS[state] in ("RUNNING", "SCHEDULED"):
            self.client.update_run(self.id, STATUS[state])
        else:
            self.client.set_terminated(self.id, STATUS[state])

    def file(self, local: Path, folder: str) -> None:
        """Keep a copy of a file with the run."""
        self.client.log_artifact(self.id, str(local), folder)

    def picture(self, content: bytes, scratch: Path) -> None:
        """Keep the sheet of detections with the run."""
        file = scratch / Path(PICTURE).name
        write_bytes(file, content)
        self.client.log_artifact(self.id, str(file), str(Path(PICTURE).parent))


class Tracker:
    """The runs of one study: an MLflow experiment of the study's name."""

    def __init__(self, settings: Settings, study: str) -> None:
        """Open the store, which is created by one process while the others wait."""
        self.settings, self.study = settings, study
        self.client = connect(settings)
        self.experiment = self._experiment()

    def _experiment(self) -> str:
        with exclusive(self.settings.runs / ".setup.lock"):
            known = self.client.get_experiment_by_name(self.study)
            if known is not None:
                return str(known.experiment_id)
            local = self.settings.tracking_uri.startswith("sqlite")
            location = f"{self.settings.artifacts}/{self.study}" if local else None
            return str(self.client.create_experiment(self.study, artifact_location=location))

    @contextmanager
    def open(self, *, tags: dict[str, str], texts: dict[str, str]) -> Iterator[str]:
        """The study's own run, RUNNING inside the block; the trials' runs are its children."""
        runs = self._search("tags.role = 'study'")
        if runs:
            run_id = runs[0].info.run_id
        else:
            tags = tags | {"role": "study", STUDY: self.study} | source_tags()
            run_id = self.client.create_run(
                self.experiment, tags=tags, run_name=f"study {self.study}"
            ).info.run_id
        for file, text in texts.items():
            self.client.log_text(run_id, text, file)
        self.client.update_run(run_id, "RUNNING")
        status = "FINISHED"
        try:
            yield run_id
        except BaseException as error:
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            raise
        finally:
            self.client.set_terminated(run_id, status)

    @contextmanager
    def trial(
        self, number: int, config: Config, *, parent: str, data: str, splits: tuple[Split, Split]
    ) -> Iterator[Run]:
        """The run of a trial: found again or created, RUNNING inside the block.

        The block is left by `finish`; an interruption sets the run SCHEDULED, to be continued.
        """
        found = self.find(number)
        run = Run(self.client, found or self._create(number, parent))
        if not run.logged:  # nothing of this changes when a trial continues
            self._describe(run.id, config, data, splits)
        self.client.update_run(run.id, "RUNNING")
        monitor = SystemMetricsMonitor(
            run.id,
            sampling_interval=self.settings.system_metrics_seconds,
            resume_logging=bool(run.logged),
            tracking_uri=self.settings.tracking_uri,
        )
        monitor.start()
        try:
            yield run
        except Exception as error:
            run.finish("FAIL", reason=f"{type(error).__name__}: {error}")
            raise
        except BaseException:
            run.finish("WAITING")
            raise
        finally:
            monitor.finish()

    def _create(self, number: int, parent: str) -> MlflowRun:
        tags = {
            STUDY: self.study,
            TRIAL: str(number),
            "mlflow.parentRunId": parent,
            "role": "trial",
        }
        return self.client.create_run(
            self.experiment, tags=tags | source_tags(), run_name=f"trial {number}"
        )

    def _describe(
        self, run_id: str, config: Config, data: str, splits: tuple[Split, Split]
    ) -> None:
        """Parameters, config, environment and data of a run."""
        flat = flatten(config.model_dump())
        params = [Param(path, str(value)) for path, value in flat.items()]
        self.client.log_batch(run_id, params=params)
        self.client.log_text(run_id, yaml.safe_dump(config.model_dump(), sort_keys=False), CONFIG)
        found = provenance.identity(threads=config.train.threads)
        found["data"] = {split.name: split.fingerprint for split in splits}
        self.client.log_text(run_id, json.dumps(found, indent=2), IDENTITY)
        if patch := provenance.diff():
            self.client.log_text(run_id, patch, "code.diff")
        inputs = [data_input(split, data, str(config.data.folder)) for split in splits]
        if not self.client.get_run(run_id).inputs.dataset_inputs:
            self.client.log_inputs(run_id, inputs)

    def find(self, number: int) -> MlflowRun | None:
        """The run of a trial, if there is one."""
        runs = self._search(f"tags.{TRIAL} = '{number}' and tags.role = 'trial'")
        return runs[0] if runs else None

    def _search(self, condition: str) -> list[MlflowRun]:
        return list(
            self.client.search_runs(
                [self.experiment], condition, ViewType.ACTIVE_ONLY, max_results=2
            )
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
    with exclusive(settings.runs / ".setup.lock"):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_ahead(str(file))
        try:
            client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
            client.search_experiments(max_results=1)
        except MlflowException as error:
            place = without_password(settings.tracking_uri)
            raise UserError(f"MLflow at {place}: {str(error).splitlines()[0]}") from None
    return client


def metric_name(name: str) -> str:
    """The name with what MLflow refuses (a class may be called anything) as underscores."""
    return "".join(c if c.isalnum() or c in "_-./ :" else "_" for c in name)


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
    tags = {"mlflow.source.name": "experiments search", "mlflow.source.type": "LOCAL"}
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def epochs_text(epochs: list[Epoch]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs)


def read_epochs(text: str) -> list[Epoch]:
    """The inverse of `epochs_text`."""
    return [Epoch(**json.loads(line)) for line in text.splitlines()]
