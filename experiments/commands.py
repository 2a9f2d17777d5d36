"""What the commands of cli.py do; imported only once one of them runs."""

import argparse
import os
import re
import signal
import socket
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NoReturn

import yaml
from rich.console import Console

from centernet.config import Config, flatten, load, parse_overrides, resolve
from centernet.dataset.coco import read_training
from centernet.dataset.demo import demo_folder
from centernet.dataset.split import Split
from centernet.errors import UserError
from centernet.train import check
from experiments import display, launch, promote, search_space, settings, study
from experiments import reproduce as again
from experiments.lock import exclusive
from experiments.objective import Search
from experiments.registry import Registry, Version
from experiments.search_space import SearchSpace
from experiments.settings import Settings
from experiments.tracking import Tracker, connect

FREE = ("data.folder", "data.workers", "data.cache_mb", "train.device")  # change no result
NAME = r"[A-Za-z0-9][\w.-]*"  # of a study: it is also a folder


def search(options: argparse.Namespace) -> int:
    """Launch or continue a study, then register its best model."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    console = Console()
    own = settings.load(options.settings)
    space = search_space.read(options.space)
    study.make_sampler(space, number=0, seed=0)
    study.make_pruner(space)
    base, data = base_config(options, space, own)
    name = study_name(options.study or f"{space.file.stem}-{data}")
    for candidate in search_space.candidates(space, base):
        check(candidate)
    points = [search_space.default_point(space, base)]
    points += [points[0] | point for point in space.enqueue]
    splits = read_training(Path(str(base.data.folder)))
    connect(own)  # before a study is made that could not log
    trials = options.trials or space.trials
    with exclusive(own.runs / "trials" / f"{name}.lock", busy=f"study {name} is being searched"):
        ours = study.open_study(
            own,
            name,
            space,
            identity=identity(space, base, splits),
            points=points,
            threads=base.train.threads,
        )
        base = changed(base, {"train.threads": ours.user_attrs[study.THREADS]})
        tracker = Tracker(own, name, ours.user_attrs[study.ID])
        folder = own.runs / "trials" / f"{name}-{tracker.study_id[:8]}"
        console.print(
            display.introduction(name, space, base, splits, own, trials),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        texts = {"search_space.yaml": space.file.read_text(), "config.yaml": dump(base)}
        with tracker.open(tags={"data": data}, texts=texts) as parent:
            shared = Search(ours, space, base, data, splits, tracker, parent, folder)
            known = [display.row(trial, base.train.epochs) for trial in study.finished(ours)]
            with (
                closing(launch.LAUNCHERS["inline"](shared, trials=trials)) as events,
                display.Screen(console, trials=trials, known=known) as screen,
            ):
                screen.follow(events)
            with suppress(OSError):  # it holds trials that a smaller budget left unfinished
                folder.rmdir()
            text = conclusion(shared, own)
            console.print(text, highlight=False, markup=False, soft_wrap=True)
    return 0


def base_config(
    options: argparse.Namespace, space: SearchSpace, own: Settings
) -> tuple[Config, str]:
    """The config that trials start from, and the name of its data."""
    overrides = parse_overrides(options.set)
    for path in overrides:
        if path in space.parameters:
            raise UserError(f"--set {path}: {space.file} varies it")
    config = load(options.config or space.config, space.pinned | overrides)
    folder = options.data or (Path(config.data.folder) if config.data.folder else None)
    if folder is None:
        return changed(config, {"data.folder": str(demo_folder(own.runs))}), "demo"
    name = re.sub(r"[^\w-]+", "-", folder.resolve().name, flags=re.ASCII).strip("-") or "data"
    return changed(config, {"data.folder": str(folder.resolve())}), name


def study_name(name: str) -> str:
    """The name, if it can be that of a folder; UserError otherwise."""
    if not re.fullmatch(NAME, name, flags=re.ASCII) or ".." in name:
        raise UserError(f"--study {name}: letters, digits, '.', '_' and '-', please")
    return name


def changed(config: Config, values: dict[str, Any]) -> Config:
    """The config with some fields replaced."""
    return resolve(flatten(config.model_dump()) | values)


def identity(space: SearchSpace, base: Config, splits: tuple[Split, Split]) -> dict[str, Any]:
    """What has to stay the same for trials of one study to be comparable."""
    free = {*FREE, *space.parameters, "train.threads"}  # the study keeps its threads itself
    return {
        "objective": study.VALUE,
        **{f"{split.name} data": split.fingerprint for split in splits},
        **{f"space {path}": text for path, text in space.identity().items()},
        **{k: v for k, v in flatten(base.model_dump()).items() if k not in free},
    }


def conclusion(shared: Search, own: Settings) -> str:
    """Register the best trial; say what was found and what to type next."""
    best = study.best_trial(shared.study)
    if best is None or best.value is None:
        return "No trial was completed: nothing to register. make status shows the reasons."
    version, decision = register_trial(own, shared.tracker, best.number, best.value)
    default = study.find_trial(shared.study, 0)
    return display.summary(shared.study.study_name, best, default, version, decision, own.alias)


def register_trial(
    own: Settings, tracker: Tracker, number: int, value: float, *, by_hand: bool = False
) -> tuple[Version, promote.Decision]:
    """Register a trial's model; the alias moves where the policy, or a person, says so.

    The policy decides about a version once: what a person did since then stays.
    """
    run = tracker.find(number)
    if run is None:
        raise UserError(f"trial {number} of study {tracker.study} has no run in MLflow")
    data, digest = tracker.data(run)
    registry = Registry(own, own.model_name(data))
    with exclusive(own.runs / ".registry.lock"):
        version = registry.register(
            tracker, run.info.run_id, trial=number, value=value, data=digest
        )
        champion = registry.at(own.alias)
        if by_hand:
            decision = promote.Decision(True, "as you asked")
        elif champion and champion.version == version.version:
            decision = promote.Decision(True, "as before")
        elif version.decided and champion:
            decision = promote.Decision(False, "as decided before")
        else:
            decision = promote.decide(version, champion)
        if decision.promote:
            registry.point(own.alias, version)
        registry.decided(version, decision.why)
    return version, decision


def open_last(options: argparse.Namespace) -> tuple[Settings, Any, Tracker]:
    """Settings, the study named or searched last, and its runs."""
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    return own, ours, Tracker(own, ours.study_name, ours.user_attrs[study.ID])


def register(options: argparse.Namespace) -> int:
    """Register a trial's model by hand, as the champion."""
    own, ours, tracker = open_last(options)
    trial = study.find_trial(ours, options.trial)
    if not trial.state.is_finished() or not trial.intermediate_values:
        raise UserError(f"trial {trial.number} is {trial.state.name}: it has no model to register")
    value = max(trial.intermediate_values.values())
    version, _ = register_trial(own, tracker, trial.number, value, by_hand=True)
    print(
        f"{version.name} version {version.version}: study {ours.study_name}, trial "
        f"{trial.number}, val AP {value:.1f}\n"
        f"models:/{version.name}@{own.alias} is now version {version.version}"
    )
    return 0


def status(options: argparse.Namespace) -> int:
    """Print the trials of a study."""
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    rows = [display.row(trial, 0) for trial in ours.get_trials(deepcopy=False)]
    best = study.best_trial(ours)
    console = Console()
    console.print(f"Study {ours.study_name}: {len(study.finished(ours))} finished trials")
    console.print(display.table(rows, best=best.number if best else None))
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Train a trial again and compare it with its run."""
    own, ours, tracker = open_last(options)
    study.find_trial(ours, options.trial)
    then = again.recorded(tracker, options.trial)
    changes: dict[str, Any] = {}
    if options.data:
        changes["data.folder"] = str(options.data.resolve())
    if options.workers is not None:
        changes["data.workers"] = options.workers
    config = changed(then.config, changes)
    count = len(then.epochs)
    print(f"Trial {options.trial} of study {ours.study_name} (run {then.run_id}), {count} epochs")
    print(f"  guarantee: {again.guarantee(config)}")
    found = again.suspects(then, config)
    for text in found:
        print(f"  differs now: {text}")
    own.runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".reproduce-", dir=own.runs) as scratch:
        for comparison in again.reproduce(then, config, Path(scratch)):
            print(display.compared(comparison, count), flush=True)
            if comparison.differs:
                print(f"DIVERGED at epoch {comparison.now.number}: {', '.join(comparison.differs)}")
                for text in found:
                    print(f"  suspect: {text}")
                return 1
    print(f"IDENTICAL: {count} epochs, every loss, metric and weight bit for bit")
    return 0


def ui(options: argparse.Namespace) -> int:
    """Serve the MLflow UI on 127.0.0.1, in place of this process."""
    own = settings.load(options.settings)
    if own.tracking_uri.startswith("http"):
        raise UserError(f"the runs are on a server; its UI is {own.tracking_uri}")
    port = options.port or own.ui_port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            raise UserError(f"port {port} is taken; make ui PORT={port % 65535 + 1}") from None
    connect(own)
    print(f"MLflow UI: http://127.0.0.1:{port} (Ctrl-C stops it)", flush=True)
    serve(own, port)


def serve(own: Settings, port: int) -> NoReturn:
    """Become the MLflow server. The store's address, perhaps with a password, is no argument."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--default-artifact-root", own.artifacts]
    command += ["--uvicorn-opts", "--log-level warning"]
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": own.tracking_uri,
        "PYTHONWARNINGS": "ignore",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    os.execve(sys.executable, command, environment)  # noqa: S606  # no shell is wanted


def dump(config: Config) -> str:
    """The config as YAML."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)
