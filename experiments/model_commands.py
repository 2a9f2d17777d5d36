"""What the commands about registered models do; imported only once one of them runs."""

import argparse
import os
import socket
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NoReturn

from centernet import commands as detector_commands
from centernet.errors import UserError, did_you_mean
from experiments import promote as promotion
from experiments import settings, study
from experiments.finalists import ORIGIN
from experiments.outcome import judged
from experiments.promote import Candidate, promote
from experiments.registry import DECISION, VALUE, Registry, Version, names
from experiments.settings import Settings
from experiments.tracking import Tracker

SCHEME = "models:/"
ASK = """\
  {{ printf '{{"dataframe_records": [{{"image": "'; base64 -w0 IMAGE; printf '"}}]}}'; }} \\
    | curl -H 'Content-Type: application/json' -d @- {}"""


def register(options: argparse.Namespace) -> int:
    """Register a trial's model as the champion by hand, once it has passed the checks."""
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    tracker = Tracker.of(own, ours)
    trial = study.find_trial(ours, options.trial)
    if not trial.state.is_finished() or not trial.intermediate_values:
        raise UserError(f"trial {trial.number} is {trial.state.name}: it has no model to register")
    value = max(trial.intermediate_values.values())
    found = tracker.find(trial.number)
    if found is None:
        raise UserError(f"trial {trial.number} of study {ours.study_name} has no run in MLflow")
    origin = trial.user_attrs.get(ORIGIN, trial.number)
    notes = {"finalist": str(trial.number)} if ORIGIN in trial.user_attrs else {}
    candidate = Candidate(tracker, found.info.run_id, origin, value, notes)
    folder = options.data and options.data.resolve()
    verdict = promote(own, candidate, by_hand=True, folder=folder)
    said = f"study {ours.study_name}, trial {trial.number}, val AP {value:.1f}"
    print(f"{verdict.version.name} version {verdict.version.version}: {said}")
    *tested, model = judged(verdict, own.alias)
    if verdict.earlier:
        print(model)
        return 0
    for line in tested:
        print(line)
    would = "promote" if verdict.decision.promote else "refuse"
    print(f"Gate     would {would} it: {verdict.decision.why}")
    print(f"models:/{verdict.version.name}@{own.alias} is now version {verdict.version.version}")
    return 0


def models(options: argparse.Namespace) -> int:
    """List the versions of a registered model, with what decided about each."""
    own = settings.load(options.settings)
    registry = Registry(own, model_name(own, options.model))
    print(registry.name)
    for version in registry.versions():
        print("\n".join(about(version)))
    return 0


def about(version: Version) -> list[str]:
    """What a version's tags say, in lines."""
    found = defaultdict(lambda: "?", version.tags)  # anybody can delete a tag
    aliases = "".join(f" @{alias}" for alias in version.aliases)
    head = f"version {version.version}{aliases}"
    if not version.ours:
        return [f"{head}: made elsewhere"]
    lines = [
        f"{head}: study {found['study']}, trial {found['trial']}, val AP {in_short(found[VALUE])}",
        f"    run {version.run_id}, data {found['data_folder']} ({found['data']})",
    ]
    lines += [f"    {line}" for line in found.get("finals", "").splitlines()]
    if promotion.TEST in found:
        lines.append(f"    test AP {found[promotion.TEST]} on {found['test_images']} images")
    lines.append(f"    {found.get(DECISION, 'not decided yet')}")
    for name in (promotion.PROMOTED, promotion.ROLLED_BACK):
        lines += [f"    {name.replace('_', ' ')} {found[name]}"] if name in found else []
    return lines


def in_short(value: str) -> str:
    """An AP of a tag with one digit; what somebody else wrote there as it is."""
    try:
        return f"{float(value):.1f}"
    except ValueError:
        return value


def rollback(options: argparse.Namespace) -> int:
    """Move the champion back to the version before it, or to a given one."""
    own = settings.load(options.settings)
    registry = Registry(own, model_name(own, options.model))
    before, now = promotion.rollback(own, registry, to=options.to, why=options.why)
    print(f"models:/{registry.name}@{own.alias}: version {before.version} -> {now.version}")
    print(f"Why      {options.why}")
    return 0


def predict(options: argparse.Namespace) -> int:
    """`centernet predict` with the weights of a registered model."""
    own = settings.load(options.settings)
    if options.weights is None or options.weights.startswith(SCHEME):
        registry, version = chosen(own, options.weights)
        weights = registry.weights(version)
    else:
        weights = Path(options.weights)
    options.weights = weights
    return detector_commands.predict(options)


def serve(options: argparse.Namespace) -> int:
    """MLflow's scoring server on 127.0.0.1 with a registered model, in place of this process."""
    own = settings.load(options.settings)
    registry, version = chosen(own, options.weights)
    port = free_port(options.port or own.serve_port, "make serve")
    address = f"http://127.0.0.1:{port}/invocations"
    print(f"{version.uri}: {address} (Ctrl-C stops it)\n{ASK.format(address)}", flush=True)
    become_server(own, str(registry.files(version)), port)


def become_server(own: Settings, folder: str, port: int) -> NoReturn:
    """Become MLflow's scoring server, one process, that must not unpickle."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", folder]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--env-manager", "local"]
    environment = os.environ | {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_TRACKING_URI": own.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONWARNINGS": "ignore",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",  # uvicorn
    }
    os.execve(sys.executable, command, environment)  # noqa: S606  # no shell is wanted


def free_port(port: int, command: str) -> int:
    """The port, if nobody listens on it; UserError otherwise."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise UserError(f"port {port} is taken; {command} PORT={port % 65535 + 1}") from None
    return port


def chosen(own: Settings, uri: str | None) -> tuple[Registry, Version]:
    """The model that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names; default: the champion.

    UserError where there is none.
    """
    text = (uri or "").removeprefix(SCHEME)
    name, at, alias = text.rpartition("@")
    if not at:
        name, _, number = text.partition("/")
        if number and not number.isdecimal():
            raise UserError(f"{uri}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
        if number:
            registry = Registry(own, model_name(own, name))
            return registry, registry.get(int(number))
    registry = Registry(own, model_name(own, name or None))
    version = registry.at(alias or own.alias)
    if version is None:
        raise UserError(f"{registry.name} has no {alias or own.alias}: make search, make register")
    return registry, version


def model_name(own: Settings, name: str | None) -> str:
    """A registered model; by default the only one, or that of the study searched last."""
    known = names(own)
    if not known:
        raise UserError("no model is registered yet: make search")
    if name is not None:
        if name not in known:
            near = did_you_mean(name, known) or f" (there are {', '.join(known)})"
            raise UserError(f"no registered model is named {name}{near}")
        return name
    if len(known) == 1:
        return known[0]
    last: Any = study.load_study(own, None)
    data = Tracker.of(own, last).data_name()
    wanted = own.model_name(data)
    if wanted not in known:
        raise UserError(f"which one? There are {', '.join(known)}: --model NAME")
    return wanted
