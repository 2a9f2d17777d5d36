"""Models in MLflow's registry: register a run's weights, read and move the alias."""

import base64
import io
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.tracking import Tracker, connect  # first: it turns telemetry off

import mlflow
import pandas as pd
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types.schema import AnyType, ColSpec, DataType, Schema
from PIL import Image
from yaml import YAMLError

import centernet
from centernet import checkpoint
from centernet.backbones import TIMM, import_timm
from centernet.checkpoint import BEST
from centernet.errors import UserError
from centernet.geometry import PADDING
from experiments import serving
from experiments.references import LARGEST_VERSION
from experiments.tracking.run import WEIGHTS
from experiments.settings import Settings

OUTPUT = {
    "image": DataType.long, "x1": DataType.double, "y1": DataType.double, "x2": DataType.double,
    "y2": DataType.double, "score": DataType.double, "label": DataType.long,
    "class": DataType.string,
}  # fmt: skip
VALUE, DECISION, REPLACED = "val_AP", "decision", "replaced"  # tags
LOGGED = "detector"  # what a run's logged model is called
PACKAGES = (
    "mlflow", "torch", "torchvision", "safetensors", "numpy", "pillow", "pydantic",
    "opencv-python-headless", "pandas", "pyyaml",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model version, with what its tags say."""

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]

    @property
    def uri(self) -> str:
        """How to load it."""
        return f"models:/{self.name}/{self.version}"

    @property
    def decided(self) -> bool:
        """Whether it was decided if it becomes the champion."""
        return DECISION in self.tags

    @property
    def ours(self) -> bool:
        """Whether it was registered here."""
        return VALUE in self.tags


class Registry:
    """Versions of one registered model."""

    def __init__(self, settings: Settings, name: str) -> None:
        """Connect; the model is created with its first version."""
        self.settings, self.name = settings, name
        self.client: MlflowClient = connect(settings)

    def at(self, alias: str) -> Version | None:
        """The version that an alias points to; none if the model, alias or version is not there."""
        model = existing(self.client.get_registered_model, self.name)
        number = model.aliases.get(alias) if model is not None else None
        return self._numbered(int(number)) if number else None

    def versions(self) -> list[Version]:
        """All of them, the oldest first."""
        return [self.get(number) for number in sorted(int(one.version) for one in self._search())]

    def get(self, number: int) -> Version:
        """A version by its number; UserError if there is none such."""
        version = self._numbered(number) if number <= LARGEST_VERSION else None
        if version is None:
            raise UserError(f"{self.name} has no version {number}")
        return version

    def find(self, run_id: str) -> Version | None:
        """The version made from a run, if there is one."""
        same = [one for one in self._search() if one.run_id == run_id and VALUE in one.tags]
        return self.get(int(same[0].version)) if same else None

    def register(self, tracker: Tracker, run_id: str, tags: Mapping[str, str]) -> Version:
        """Register a run's best weights as a new version, or return the version there is."""
        known = self.find(run_id)
        if known:
            lost = {name: text for name, text in tags.items() if name not in known.tags}
            return self.note(known, lost) if lost else known
        model = logged_model(self.client, run_id, tracker.experiment)
        if model is None:
            weights = tracker.weights(run_id)
            model = log_model(self.settings, run_id, tracker.experiment, weights)
        self._ensure_model()
        made = self.client.create_model_version(
            self.name, model.model_uri, run_id, tags=dict(tags), model_id=model.model_id
        )
        return self._version(made)

    def note(self, version: Version, tags: Mapping[str, str], description: str = "") -> Version:
        """Set tags of a version, and its description; the version as it is then."""
        for name, text in tags.items():
            self.client.set_model_version_tag(self.name, str(version.version), name, text)
        if description:
            self.client.update_model_version(self.name, str(version.version), description)
        return self.get(version.version)

    def files(self, version: Version) -> Path:
        """The folder of a version's model."""
        uri = self.settings.tracking_uri
        mlflow.set_tracking_uri(uri)
        try:
            return Path(mlflow.artifacts.download_artifacts(version.uri, tracking_uri=uri))
        except (MlflowException, OSError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"the files of {version.uri} cannot be read: {reason}") from None

    def weights(self, version: Version) -> Path:
        """The weights that a version holds; UserError if it is no model of ours."""
        folder = self.files(version)
        try:
            flavor = Model.load(str(folder)).flavors["python_function"]
            weights = folder / str(flavor["artifacts"]["weights"]["path"])
        except (MlflowException, KeyError, TypeError, AttributeError, YAMLError):
            raise UserError(f"{version.uri} is not a detector of this program") from None
        if not weights.is_file():
            raise UserError(f"{version.uri}: its weights are gone: {weights}")
        return weights

    def trained(self, version: Version) -> Path:
        """The weights as the version's run keeps them; UserError if it has none."""
        try:
            return Path(self.client.download_artifacts(version.run_id, f"{WEIGHTS}/{BEST}"))
        except (MlflowException, OSError):
            raise UserError(f"run {version.run_id} of {version.uri} keeps no weights") from None

    def attach(self, version: Version, name: str, content: bytes) -> None:
        """Keep a file with the version's run, under `gate/`, by the version's number."""
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / f"version-{version.version}-{name}"
            file.write_bytes(content)
            self.client.log_artifact(version.run_id, str(file), "gate")

    def missing(self, version: Version) -> list[str]:
        """What a version's model does not say about itself."""
        model = Model.load(str(self.files(version)))
        parts = {
            "input signature": model.signature and model.signature.inputs,
            "output signature": model.signature and model.signature.outputs,
            "input example": model.saved_input_example_info,
        }
        return [name for name, there in parts.items() if not there]

    def _ensure_model(self) -> None:
        if existing(self.client.get_registered_model, self.name) is None:
            self.client.create_registered_model(self.name)

    def _search(self) -> list[Any]:
        """What MLflow lists of the versions: all but their aliases."""
        quote = '"' if "'" in self.name else "'"
        condition = f"name = {quote}{self.name}{quote}"
        return every(self.client.search_model_versions, filter_string=condition)

    def _numbered(self, number: int) -> Version | None:
        found = existing(self.client.get_model_version, self.name, str(number))
        return None if found is None else self._version(found)

    def point(self, alias: str, version: Version) -> None:
        """Move an alias."""
        self.client.set_registered_model_alias(self.name, alias, str(version.version))

    def unpoint(self, alias: str, version: Version) -> None:
        """Take an alias from a version, if it has it."""
        if alias in version.aliases:
            self.client.delete_registered_model_alias(self.name, alias)

    def _version(self, found: Any) -> Version:
        """What MLflow knows; a version that was made elsewhere has none of our tags."""
        return Version(
            name=self.name,
            version=int(found.version),
            run_id=str(found.run_id),
            tags=dict(found.tags),
            aliases=tuple(found.aliases),
        )


def names(settings: Settings) -> list[str]:
    """The registered models."""
    return sorted(one.name for one in every(connect(settings).search_registered_models))


def pinned(settings: Settings) -> set[str]:
    """The runs that any registered version of any model was made from."""
    return {str(version.run_id) for version in every(connect(settings).search_model_versions)}


def rounded(text: str, digits: int) -> str:
    """The number in a tag, rounded; what somebody wrote there instead, as it is."""
    try:
        return f"{float(text):.{digits}f}"
    except ValueError:
        return text


def existing(call: Callable[..., Any], *arguments: str) -> Any:
    """What a call of MLflow's client finds; none where there is none such."""
    try:
        return call(*arguments)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def every(search: Callable[..., Any], **condition: str) -> list[Any]:
    """What a search of MLflow's client finds, on all of its pages."""
    found, token = [], None
    while True:
        page = search(**condition, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def logged_model(client: MlflowClient, run_id: str, experiment: str) -> LoggedModel | None:
    """The model that was logged for a run before, if one was; those begun and left are deleted."""
    condition = f"source_run_id = '{run_id}' AND name = '{LOGGED}'"
    found = every(lambda **at: client.search_logged_models([experiment], condition, **at))
    for model in found:
        if str(model.status) != "READY":
            client.delete_logged_model(model.model_id)
    return next((model for model in found if str(model.status) == "READY"), None)


def log_model(settings: Settings, run_id: str, experiment: str, weights: Path) -> LoggedModel:
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
            name=LOGGED,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            python_model=serving.__file__,
            artifacts={"weights": str(weights)},
            code_paths=[str(Path(centernet.__file__).parent)],
            pip_requirements=requirements(weights),
            signature=signature,
            input_example=example(),
        )
    return mlflow.get_logged_model(info.model_id)


def requirements(weights: Path) -> list[str]:
    """The packages that a model of these weights needs, each as it is here."""
    _, record = checkpoint.read(weights)
    packages = [*PACKAGES]
    if record["model"]["backbone"].startswith(TIMM):
        import_timm(f"registering a model of {record['model']['backbone']}")
        packages.append("timm")
    return [f"{name}=={metadata.version(name)}" for name in packages]


def example() -> pd.DataFrame:
    """A valid input: one grey image, as base64 text, the form that JSON can carry."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (PADDING, PADDING, PADDING)).save(stream, "PNG")
    return pd.DataFrame({"image": [base64.b64encode(stream.getvalue()).decode()]})
