"""mlflow.yaml and the environment -> Settings: where everything lives."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import unquote, urlparse

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from centernet.errors import UserError, did_you_mean
from centernet.presets import read_yaml
from centernet.wording import allowed, brief

FILE = Path("mlflow.yaml")  # where nobody names another one
CHALLENGER = "challenger"  # alias of the last version that the gate refused
Cost = Literal["latency_ms", "parameters_m"]  # of COSTS in costs.py
Check = Literal["loads", "predictions", "onnx", "signature"]  # of CHECKS in checks.py
LETTERS = "letters, digits, '_', '-'"
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[
    str, Field(pattern=r"^([\w. -]|\{data\})+$", description=f"{LETTERS}, '.', ' ' and {{data}}")
]  # what a registry takes


class Policy(BaseModel):
    """When a model may become the champion: `gate:` of mlflow.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    margin: Annotated[float, Field(ge=0)] = 0.0  # test AP by which it has to be better
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95  # that it is, one-sided
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000  # of the test images
    minimum_ap: Annotated[float, Field(ge=0, le=100)] = 1.0  # test AP of a first champion
    limits: dict[Cost, Annotated[float, Field(gt=0)]] = {}  # the most that a cost may be
    checks: list[Check] = list(get_args(Check))  # before any alias moves


class Settings(BaseModel):
    """The fields of mlflow.yaml, with paths made absolute by `load`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tracking_uri: Text
    artifacts: Text
    studies: Text
    folder: Text
    registered_model: Name = "centernet-{data}"
    alias: Annotated[
        str, Field(pattern=r"^[A-Za-z][\w-]*$", description=f"a letter, then {LETTERS}")
    ] = "champion"
    system_metrics_seconds: Annotated[float, Field(gt=0)] = 10.0
    keep_best: Annotated[int, Field(ge=1)] = 5
    keep_gb: Annotated[float, Field(gt=0)] = 20.0
    retries: Annotated[int, Field(ge=0)] = 3
    stall_minutes: Annotated[float, Field(gt=0)] = 60.0
    outage_minutes: Annotated[float, Field(ge=0)] = 10.0
    ui_port: Annotated[int, Field(ge=1, le=65535)] = 5000
    serve_port: Annotated[int, Field(ge=1, le=65535)] = 5001
    gate: Policy = Policy()

    @field_validator("alias")
    @classmethod
    def _not_reserved(cls, alias: str) -> str:
        if re.fullmatch(r"latest|v\d+", alias):
            raise ValueError(f"MLflow reserves {alias}")
        if alias == CHALLENGER:
            raise ValueError("that is the name of who did not become it")
        return alias

    @property
    def artifact_root(self) -> str:
        """`artifacts` as what MLflow reads as that very folder, whatever characters it has."""
        folder = self.artifacts
        as_it_is = "://" in folder or folder == urlparse(unquote(folder)).path
        return folder if as_it_is else Path(folder).as_uri()

    @property
    def runs(self) -> Path:
        """The folder of trials in progress."""
        return Path(self.folder)

    def model_name(self, data: str) -> str:
        """Registered model of a data set."""
        return self.registered_model.replace("{data}", data)


def load(file: Path = FILE) -> Settings:
    """Read the settings; UserError names the file and the field."""
    tree = read_yaml(file)
    if uri := given("MLFLOW_TRACKING_URI"):
        tree["tracking_uri"] = uri
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "extra_forbidden"
        known = [*Settings.model_fields, *(f"gate.{one}" for one in Policy.model_fields)]
        if unknown:
            hint = did_you_mean(name, known) or f" (there is {', '.join(known)})"
            raise UserError(f"{file}: there is no {name}{hint}") from None
        raise UserError(f"{file}: {reason(first)}") from None
    home = file.resolve().parent
    check_name(home)
    check_name(Path(settings.artifacts))
    absolute = {
        "tracking_uri": _absolute(settings.tracking_uri, home),
        "studies": _absolute(settings.studies, home),
        "artifacts": str(home / settings.artifacts)
        if "://" not in settings.artifacts
        else settings.artifacts,
        "folder": str(home / settings.folder),
    }
    check_registry(absolute["tracking_uri"], home)
    return settings.model_copy(update=absolute)


def reason(error: ErrorDetails) -> str:
    """The field, what it may hold and what came, in words of our own."""
    if error["type"] == "value_error":
        return f"{error['loc'][0]}: {error['ctx']['error']}"
    section, *inner = error["loc"]
    fields = Policy.model_fields if section == "gate" and inner else Settings.model_fields
    name = str(inner[0] if section == "gate" and inner else section)
    came = "nothing" if error["type"] == "missing" else brief(error["input"])
    place = f"gate.{name}" if fields is Policy.model_fields else name
    return f"{place}: expected {allowed(fields[name])}, got {came}"


def given(name: str) -> str:
    """An environment variable; one that is empty counts as not set."""
    return os.environ.get(name, "").strip()


def check_registry(tracking_uri: str, home: Path) -> None:
    """UserError where the environment asks for models elsewhere than the runs that made them."""
    uri = given("MLFLOW_REGISTRY_URI")
    if uri and _absolute(uri, home).rstrip("/") != tracking_uri.rstrip("/"):
        raise UserError(
            f"MLFLOW_REGISTRY_URI is {uri}, the runs are at {tracking_uri}: a model is registered "
            "where its run is; unset MLFLOW_REGISTRY_URI, or set it to the same"
        )


def check_name(folder: Path) -> None:
    """UserError for a folder that the stores would look for elsewhere."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{folder}: stores cannot lie in a folder whose name is not UTF-8"
        ) from None
    if encoded := re.search(r"%[0-9A-Fa-f]{2}", str(folder)):
        raise UserError(
            f"{folder}: MLflow takes {encoded[0]} in a path for {unquote(encoded[0])!r} and looks "
            "elsewhere; rename the folder"
        )


def sqlite_file(uri: str) -> Path | None:
    """The file behind a SQLite URI; none behind another one."""
    url = _sqlite(uri)
    return None if url is None else Path(str(url.database))


def _sqlite(uri: str) -> URL | None:
    """A SQLite URI in its parts; UserError if it names no file."""
    if not uri.startswith("sqlite"):
        return None
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        url = URL.create("sqlite")
    if not url.database or url.host:
        raise UserError(f"{uri}: expected sqlite:///FILE")
    return url


def _absolute(uri: str, home: Path) -> str:
    """The URI that SQLAlchemy reads as that very file, whatever characters its path has."""
    url = _sqlite(uri)
    if url is None:
        return uri
    url = url.set(database=str(home / str(url.database)))
    text = url.render_as_string(hide_password=False)
    if "%" in text:  # MLflow 3.17 would make a folder of that name, but not with a driver's name
        text = url.set(drivername="sqlite+pysqlite").render_as_string(hide_password=False)
    if make_url(text).database != url.database:  # SQLAlchemy 2.0 quotes nothing
        raise UserError(f"{url.database}: a path with ? or % in it needs SQLAlchemy 2.1")
    return text
