"""Models in MLflow's registry: register a run's weights, read and move the alias."""

import base64
import io
import os
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.tracking import Tracker, connect  # first: it turns telemetry off

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types.schema import AnyType, ColSpec, DataType, Schema
from PIL import Image

import centernet
from centernet.geometry import PADDING
from experiments import serving
from experiments.settings import Settings

OUTPUT = {
    "image": DataType.long, "x1": DataType.double, "y1": DataType.double, "x2": DataType.double,
    "y2": DataType.double, "score": DataType.double, "label": DataType.long,
    "class": DataType.string,
}  # fmt: skip
VALUE, DECISION = "val_AP", "decision"  # tags
PACKAGES = (
    "mlflow", "torch", "torchvision", "timm", "safetensors", "numpy", "pillow", "pydantic",
    "opencv-python-headless", "pandas", "pyyaml",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model version, with what its tags say."""

    name: str
    version: int
    study: str
    trial: int
    run_id: str
    value: float  # val AP
    data: str  # fingerprint of the val split
    decided: bool  # whether it was decided if it becomes the champion

    @property
    def uri(self) -> str:
        """How to load it."""
        return f"models:/{self.name}/{self.version}"


class Registry:
    """Versions of one registered model."""

    def __init__(self, settings: Settings, name: str) -> None:
        """Connect; the model is created with its first version."""
        self.settings, self.name = settings, name
        self.client: MlflowClient = connect(settings)

    def at(self, alias: str) -> Version | None:
        """The version that an alias points to; none if the model or the alias is not there."""
        try:
            model = self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        number = model.aliases.get(alias)
        return self._version(self.client.get_model_version(self.name, number)) if number else None

    def find(self, run_id: str) -> Version | None:
        """The version made from a run, if there is one."""
        found = self.client.search_model_versions(f"name = '{self.name}'")
        same = [version for version in found if version.run_id == run_id and VALUE in version.tags]
        return self._version(same[0]) if same else None

    def register(
        self, tracker: Tracker, run_id: str, *, trial: int, value: float, data: str
    ) -> Version:
        """Register a run's best weights as a new version, or return the version there is."""
        known = self.find(run_id)
        if known:
            return known
        weights = tracker.weights(run_id)
        uri = log_model(self.settings, run_id, tracker.experiment, weights)
        self._ensure_model()
        tags = {"study": tracker.study, "trial": str(trial), VALUE: f"{value:.6f}", "data": data}
        made = self.client.create_model_version(
            self.name, uri, run_id, tags=tags, description=f"{tracker.study}, trial {trial}"
        )
        return self._version(made)

    def decided(self, version: Version, why: str) -> None:
        """Note that it was decided whether this version becomes the champion, and why."""
        self.client.set_model_version_tag(self.name, str(version.version), DECISION, why)

    def _ensure_model(self) -> None:
        try:
            self.client.get_registered_model(self.name)
        except MlflowException:
            self.client.create_registered_model(self.name)

    def point(self, alias: str, version: Version) -> None:
        """Move an alias."""
        self.client.set_registered_model_alias(self.name, alias, str(version.version))

    def _version(self, found: Any) -> Version:
        """What the tags say; a version that was made elsewhere has none, and no AP."""
        return Version(
            name=self.name,
            version=int(found.version),
            study=found.tags.get("study", ""),
            trial=int(found.tags.get("trial", -1)),
            run_id=str(found.run_id),
            value=float(found.tags.get(VALUE, "nan")),
            data=found.tags.get("data", ""),
            decided=DECISION in found.tags,
        )


def pinned(settings: Settings) -> set[str]:
    """The runs that any registered version of any model was made from."""
    return {str(version.run_id) for version in connect(settings).search_model_versions()}


def log_model(settings: Settings, run_id: str, experiment: str, weights: Path) -> str:
    """Log weights as a pyfunc model of a run: code and safetensors, nothing pickled."""
    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_experiment(experiment_id=experiment)  # where MLflow puts the model's files
    signature = ModelSignature(
        inputs=Schema([ColSpec(AnyType(), "image")]),
        outputs=Schema([ColSpec(kind, name) for name, kind in OUTPUT.items()]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow about its own use of pandas
        info = Model.log(
            artifact_path=None,
            name="detector",
            flavor=mlflow.pyfunc,
            run_id=run_id,
            python_model=serving.__file__,
            artifacts={"weights": str(weights)},
            code_paths=[str(Path(centernet.__file__).parent)],
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in PACKAGES],
            signature=signature,
            input_example=example(),
        )
    return str(info.model_uri)


def example() -> pd.DataFrame:
    """A valid input: one grey image, as base64 text, the form that JSON can carry."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (PADDING, PADDING, PADDING)).save(stream, "PNG")
    return pd.DataFrame({"image": [base64.b64encode(stream.getvalue()).decode()]})


def load(uri: str, settings: Settings) -> "mlflow.pyfunc.PyFuncModel":
    """A registered model, with pickle deserialisation disallowed."""
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    mlflow.set_tracking_uri(settings.tracking_uri)
    return mlflow.pyfunc.load_model(uri)


__all__ = ["Registry", "Version", "load"]
