"""Runs in MLflow: one for a study, one below it for each trial. No policy here, only verbs."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from centernet.config import Config
from centernet.dataset.split import Split
from centernet.errors import UserError, one_line, without_passwords
from centernet.lock import exclusive
from experiments.label import Label
from experiments.settings import Settings
from experiments.stores.retry import Retry, Waiting
from experiments.study import ID, PARENT
from experiments.study.finals import is_finals, labels
from experiments.tracking.files import Files, Gone
from experiments.tracking.run import (
    ERROR,
    PICTURE,
    REASON,
    STATE,
    STATUS,
    WEIGHTS,
    Run,
    set_state,
    source_tags,
)
from experiments.tracking.store import away, connect
from experiments.tracking.system import sampled

for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="mlflow")

STUDY, STUDY_ID, TRIAL = "study", "study_id", "trial"  # tags
NUMBER = "optuna_number"  # tag of a final's run, whose tag `trial` is its label: 7.2


class Tracker:
    """The runs of one study: an MLflow experiment of the study's name.

    `study_id` tells this study from another one of the same name that logged there before.
    """

    def __init__(self, settings: Settings, study: str, study_id: str) -> None:
        """Open the store, which is created by one process while the others wait."""
        self.settings, self.study, self.study_id = settings, study, study_id
        self.labels: dict[int, Label] = {}  # of finals
        self.client = connect(settings)
        self.experiment = self._experiment()

    @classmethod
    def of(cls, settings: Settings, study: Any) -> "Tracker":
        """The runs of an Optuna study; those of a study's finals lie beside its own."""
        name = study.user_attrs.get(PARENT, study.study_name)
        if (study_id := study.user_attrs.get(ID)) is None:
            raise UserError(f"study {study.study_name} was not made by this program")
        found = cls(settings, name, study_id)
        found.labels = labels(study) if is_finals(study) else {}
        return found

    def label(self, number: int) -> Label:
        """What a trial is called, here and on the screen."""
        return self.labels.get(number, Label(number))

    def data_name(self) -> str:
        """The name of the study's data; UserError if it has no run."""
        for run in self._search("tags.role = 'study' and tags.data != ''"):
            return str(run.data.tags["data"])
        raise UserError(f"study {self.study} has no run in MLflow that names its data")

    def _experiment(self) -> str:
        with exclusive(self.settings.runs / ".setup.lock"):
            known = self.client.get_experiment_by_name(self.study)
            if known is None:
                remote = self.settings.tracking_uri.startswith("http")
                location = None if remote else f"{self.settings.artifact_root}/{self.study}"
                kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI's layout
                return str(self.client.create_experiment(self.study, location, kind))
            if known.lifecycle_stage == "deleted":  # in the UI; its runs are wanted again
                self.client.restore_experiment(known.experiment_id)
            return str(known.experiment_id)

    @contextmanager
    def open(self, *, tags: dict[str, str], texts: dict[str, str]) -> Iterator[str]:
        """The study's own run, RUNNING inside the block; the trials' runs are its children."""
        known, name = self._search("tags.role = 'study'"), f"study {self.study}"
        run = known[0] if known else self._create("study", name, tags, find=lambda: None)
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
        self,
        number: int,
        config: Config,
        *,
        parent: str,
        data: str,
        splits: tuple[Split, Split],
        begun: bool,
    ) -> Iterator[Run]:
        """The run of a trial: found again if it was `begun`, or created; RUNNING inside the block.

        The block sets its end by `finish`; whatever interrupts it leaves the run SCHEDULED, to
        be continued.
        """
        known = self.find(number) if begun else None
        label = self.label(number)
        tags = {TRIAL: str(label), "mlflow.parentRunId": parent, STATE: "RUNNING"}
        tags |= {NUMBER: str(number)} if label.seed else {}
        role = "final" if label.seed else "trial"
        found = known or self._create(role, label.words, tags, find=lambda: self.find(number))
        run = Run(self.client, self.files(found), found, new=known is None)
        try:
            if known is not None:
                set_state(self.client, run.id, "RUNNING")
            run.describe(config, data, splits)
            with sampled(run.sample, seconds=self.settings.system_metrics_seconds):
                yield run
        except BaseException:
            run.outbox.stop()
            set_state(self.client, run.id, "WAITING")
            raise

    def settle(self, number: int, state: str, *, reason: str, details: str = "") -> None:
        """Give the run of a trial, if it has one, the state after an attempt that failed."""
        if (run := self.find(number)) is None:
            return
        self.client.set_tag(run.info.run_id, REASON, one_line(reason))
        if details:
            self.client.log_text(run.info.run_id, details, ERROR)
        set_state(self.client, run.info.run_id, state)

    def reconcile(self, states: dict[int, str]) -> None:
        """Give every trial's run the status that belongs to its state, after a crash."""
        for number, run in self.numbered().items():
            if run.info.status != STATUS[state := states.get(number, "FAIL")]:
                set_state(self.client, run.info.run_id, state)

    def _create(
        self,
        role: str,
        name: str,
        tags: dict[str, str],
        *,
        find: Callable[[], MlflowRun | None],
    ) -> MlflowRun:
        """A new run; where the answer to its creation was lost, the one that was made."""
        own = {"role": role, STUDY: self.study, STUDY_ID: self.study_id}
        every = tags | own | source_tags()
        plain = MlflowClient(self.settings.tracking_uri, self.settings.tracking_uri)
        retry = Retry(is_away=away, seconds=self.settings.outage_minutes * 60)
        return retry.create(
            lambda: plain.create_run(self.experiment, tags=every, run_name=name), look=find
        )

    def trials(self) -> list[MlflowRun]:
        """The runs of all trials."""
        return self._search(f"tags.{TRIAL} LIKE '%'", limit=50_000)

    def number(self, run: MlflowRun) -> int | None:
        """Which trial a run is of, as Optuna counts; none where somebody changed its tag."""
        text = run.data.tags.get(NUMBER) or run.data.tags.get(TRIAL, "")
        return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None

    def numbered(self) -> dict[int, MlflowRun]:
        """The runs that trials have, by their numbers."""
        runs = {self.number(run): run for run in self.trials()}
        return {number: run for number, run in runs.items() if number is not None}

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Every (step, value) of a metric, in the order of the steps."""
        found = self.client.get_metric_history(run_id, metric)
        return sorted((one.step, one.value) for one in found)

    def find(self, number: int) -> MlflowRun | None:
        """The run of a trial, if there is one."""
        names = (NUMBER, TRIAL) if self.labels else (TRIAL,)  # finals of before had only this one
        for name in names:
            for run in self._search(f"tags.{name} = '{number}'"):
                return run
        return None

    def _search(self, condition: str, limit: int = 1) -> list[MlflowRun]:
        condition = f"{condition} and tags.{STUDY_ID} = '{self.study_id}'"
        return list(
            self.client.search_runs([self.experiment], condition, ViewType.ACTIVE_ONLY, limit)
        )

    def run(self, run_id: str) -> MlflowRun:
        """A run by its id, also one that was deleted in the UI; Gone if there is none such."""
        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise Gone(f"its run {run_id} is not in MLflow any more") from None

    def check_active(self, run_id: str) -> None:
        """Gone if a run was deleted in the UI."""
        if self.run(run_id).info.lifecycle_stage != "active":
            raise Gone(f"run {run_id} was deleted in MLflow, where it can be restored")

    def data(self, run: MlflowRun) -> tuple[str, str]:
        """Name of the data folder, and digest of the val split, that a run was trained on."""
        names = {one.dataset.name: one.dataset.digest for one in run.inputs.dataset_inputs}
        name = next((name for name in names if name.endswith("/val")), None)
        if name is None:
            raise Gone(f"run {run.info.run_id} does not say what data it was trained on")
        return name.removesuffix("/val"), names[name]

    def text(self, run_id: str, file: str) -> str:
        """A text that a run keeps; Gone if it has none such."""
        try:
            return Path(self.client.download_artifacts(run_id, file)).read_text()
        except (MlflowException, OSError):
            raise Gone(f"run {run_id} has no {file}: nothing was trained in it") from None

    def picture(self, run_id: str) -> bytes | None:
        """The sheet of detections that a run keeps, if it has one."""
        with suppress(MlflowException, OSError):
            return Path(self.client.download_artifacts(run_id, PICTURE)).read_bytes()
        return None

    def keep_report(self, folder: Path) -> None:
        """Keep the study's report with its own run."""
        for run in self._search("tags.role = 'study'"):
            self.client.log_artifacts(run.info.run_id, str(folder), "report")

    def link(self, run_id: str) -> str:
        """Where the UI shows a run."""
        uri = self.settings.tracking_uri
        local = f"http://127.0.0.1:{self.settings.ui_port}"
        home = without_passwords(uri) if uri.startswith("http") else local
        return f"{home}/#/experiments/{self.experiment}/runs/{run_id}"

    def forget(self, run_id: str) -> None:
        """Delete the weights that a run keeps."""
        with suppress(Gone):
            self.files(self.run(run_id)).delete(WEIGHTS)

    def files(self, run: MlflowRun) -> Files:
        """The files of a run; their store is waited for, too."""
        files: Any = Files(run, self.settings.tracking_uri)
        retry = Retry(is_away=away, seconds=self.settings.outage_minutes * 60)
        return cast(Files, Waiting(files, retry))

    def weights(self, run_id: str) -> Path:
        """A run's best weights; Gone if it has none."""
        try:
            return Path(self.client.download_artifacts(run_id, f"{WEIGHTS}/best.safetensors"))
        except (MlflowException, OSError):
            raise Gone(
                f"run {run_id} keeps no weights: only complete trials do, the best "
                f"{self.settings.keep_best} of a study (keep_best in mlflow.yaml)"
            ) from None


def no_run() -> None:
    """There is none."""
