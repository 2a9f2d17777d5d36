"""What a run recorded of its training: found by trial, run id or model version.

Only MLflow is asked, so a store that came from elsewhere, without Optuna's, is enough.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Metric
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from centernet import yaml_text
from centernet.config import Config, flatten, resolve
from centernet.errors import UserError, one_line
from centernet.logs import from_lines, numbers
from centernet.structures import Epoch
from experiments.label import parse
from experiments.next_steps import first_search
from experiments.references import SCHEME, model_reference
from experiments.settings import Settings, sqlite_file
from experiments.tracking import run
from experiments.tracking.lookup import Lookup
from experiments.tracking.store import connect
from experiments.tracking.tracker import STUDY, TRIAL

ROLE, REPRODUCES, VERDICT = "role", "reproduces", "verdict"  # tags of a reproduction
REPRODUCED, REPRODUCED_BY = "reproduced", "reproduced_by"  # tags of the original
NOTE = "mlflow.note.content"  # what the UI shows as a run's description
PATCH = r"code-[0-9a-f]{12}\.patch"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run says about its training."""

    run_id: str
    experiment: str
    study: str
    name: str  # trial 7, or of the finals: trial 7, seed 2
    state: str
    reason: str  # of its end, if it failed or was pruned
    data: str  # name of its data folder
    values: dict[str, Any]  # its config, as the version of then wrote it
    epochs: list[Epoch]
    identity: dict[str, Any]
    continued: list[dict[str, Any]] = field(default_factory=list)  # other identities, later on
    patch: str | None = None
    manifest: dict[str, str] | None = None

    @property
    def config(self) -> Config:
        """Its config, as this version reads it."""
        return resolve(self.values)


class Archive:
    """The runs of every study in one MLflow."""

    def __init__(self, settings: Settings) -> None:
        """Connect; UserError, and no new database, where there is none."""
        file = sqlite_file(settings.tracking_uri)
        if file is not None and not file.exists():
            raise UserError(f"there is no study yet: {first_search()}")
        self.settings = settings
        self.client: MlflowClient = connect(settings)
        self.lookup = Lookup(self.client)

    def find(self, reference: str, study: str | None = None) -> MlflowRun:
        """A run by its trial (7), final (7.2), run id, `runs:/id` or `models:/name@alias`, `/3`.

        Numbers are of the study named, else of the one searched last. UserError if there is none.
        """
        label = parse(reference)
        if label is not None:
            return self.lookup.run(label, study or self.lookup.last_study())
        try:
            found = self.client.get_run(self._run_id(reference))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise UserError(f"{reference}: no such run or model version in MLflow") from None
        if found.info.lifecycle_stage == "deleted":
            raise UserError(f"{reference}: run {found.info.run_id} was deleted in MLflow")
        if found.data.tags.get(ROLE) not in ("trial", "final"):
            original = found.data.tags.get(REPRODUCES)
            hint = f"; it reproduces run {original}" if original else ""
            raise UserError(f"{reference}: is not the run of a trial{hint}")
        return found

    def _run_id(self, reference: str) -> str:
        if not reference.startswith(SCHEME):
            return reference.removeprefix("runs:/")
        wanted = model_reference(reference)
        if wanted.alias is not None:
            return str(self.client.get_model_version_by_alias(wanted.name, wanted.alias).run_id)
        return str(self.client.get_model_version(wanted.name, str(wanted.version)).run_id)

    def trials(self, study: str) -> list[MlflowRun]:
        """The runs of a study's trials, the newest first; UserError if there is no such study."""
        return self.lookup.trials(self.lookup.logged(study))

    def words(self, found: MlflowRun) -> str:
        """What people call the training of a run."""
        label = self.lookup.label(found)
        return f"final {found.data.tags.get(TRIAL, '?')}" if label is None else label.words

    def read(self, found: MlflowRun) -> Recorded:
        """Everything that a run recorded; UserError if that is not enough to train it again."""
        try:
            return self._read(found)
        except (KeyError, TypeError, AttributeError, *yaml_text.ERRORS) as error:
            raise UserError(
                f"run {found.info.run_id} is not as it was recorded: {one_line(repr(error))}"
            ) from None

    def _read(self, found: MlflowRun) -> Recorded:
        tags = found.data.tags
        identity = json.loads(self._wanted(found, run.IDENTITY))
        epochs, continued = self._text(found, run.EPOCHS), self._text(found, run.CONTINUED)
        name = next((one.dataset.name for one in found.inputs.dataset_inputs), "data/train")
        patch = str(identity.get("patch"))
        return Recorded(
            run_id=found.info.run_id,
            experiment=found.info.experiment_id,
            study=one_line(tags[STUDY]),
            name=self.words(found),
            state=tags.get(run.STATE, "RUNNING"),
            reason=one_line(tags.get(run.REASON, "")),
            data=name.rpartition("/")[0],
            values=flatten(yaml_text.parse(self._wanted(found, run.CONFIG))),
            epochs=from_lines(epochs or ""),
            identity=identity,
            continued=[json.loads(line) for line in (continued or "").splitlines()],
            patch=self._text(found, patch) if re.fullmatch(PATCH, patch) else None,
            manifest=self._manifest(found, identity["data"]),
        )

    def _manifest(self, found: MlflowRun, data: dict[str, str]) -> dict[str, str] | None:
        parent = found.data.tags.get(run.PARENT)
        if parent is None:
            return None
        text = self._text(self.client.get_run(parent), run.manifest_name(data.values()))
        return dict(json.loads(text)) if text else None

    def _wanted(self, found: MlflowRun, file: str) -> str:
        text = self._text(found, file)
        if text is None:
            raise UserError(f"run {found.info.run_id} has no {file}: nothing was trained in it")
        return text

    def _text(self, found: MlflowRun, file: str) -> str | None:
        """A text that a run keeps; where the store was moved, from the artifacts' place now."""
        text = run.text_of(self.client, found.info.run_id, file)
        if text is None:
            home = Path(self.settings.artifacts).resolve()
            study, id = found.data.tags.get(STUDY, ""), found.info.run_id
            moved = (home / study / id / "artifacts" / file).resolve()
            if moved.is_relative_to(home) and moved.is_file():
                text = moved.read_bytes().decode()
        return text

    @contextmanager
    def reproduction(self, then: Recorded) -> Iterator["Reproduction"]:
        """A run of its own below the original's, RUNNING inside the block."""
        tags = {ROLE: "reproduction", REPRODUCES: then.run_id, STUDY: then.study}
        tags |= {run.PARENT: then.run_id} | run.source_tags()
        tags["mlflow.source.name"] = "experiments reproduce"
        name = f"{then.name} again"
        made = self.client.create_run(then.experiment, tags=tags, run_name=name)
        status = "FINISHED"
        try:
            yield Reproduction(self.client, made.info.run_id, then)
        except BaseException as error:
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            raise
        finally:
            self.client.set_terminated(made.info.run_id, status)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The run of a reproduction: metrics and tags only, so a store that was moved can take it."""

    client: MlflowClient
    id: str
    then: Recorded

    def log(self, epoch: Epoch) -> None:
        """Log one epoch's numbers."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(run.metric_name(name), value, now, epoch.number)
            for name, value in numbers(epoch).items()
        ]
        self.client.log_batch(self.id, metrics=metrics)

    def conclude(self, verdict: str, note: str) -> None:
        """Tag it and the original with the verdict; the note is what the screen said."""
        for name, value in {VERDICT: verdict, NOTE: note}.items():
            self.client.set_tag(self.id, name, value)
        for name, value in {REPRODUCED: verdict, REPRODUCED_BY: self.id}.items():
            self.client.set_tag(self.then.run_id, name, value)
