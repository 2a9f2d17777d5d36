"""What the commands of cli.py do; imported only once one of them runs."""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from centernet.config import Config, flatten, load, parse_overrides, resolve
from centernet.dataset.coco import read_training
from centernet.dataset.demo import demo_folder
from centernet.dataset.split import Split
from centernet.errors import UserError
from experiments import display, launch, promote, search_space, settings, study
from experiments import reproduce as again
from experiments.lock import exclusive
from experiments.objective import Progress, Search
from experiments.registry import Registry, Version
from experiments.search_space import SearchSpace
from experiments.settings import Settings
from experiments.tracking import Tracker, connect

FREE = ("data.folder", "data.workers", "data.cache_mb", "train.threads", "train.device")


def search(options: argparse.Namespace) -> int:
    """Launch or continue a study, then register its best model."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    console = Console()
    own = settings.load(options.settings)
    space = search_space.read(options.space)
    study.make_sampler(space, seed=0)
    base, data = base_config(options, space, own)
    splits = read_training(Path(str(base.data.folder)))
    name = options.study or f"{space.file.stem}-{data}"
    trials = options.trials or space.trials
    folder = own.runs / "trials" / name
    busy = f"study {name} is being searched already"
    with exclusive(own.runs / "trials" / f"{name}.lock", busy=busy):
        ours = study.open_study(
            own, name, space, identity=identity(space, base, splits), points=points(space, base)
        )
        tracker = Tracker(own, name)
        console.print(introduction(name, space, base, splits, own, trials), highlight=False)
        texts = {"search_space.yaml": space.file.read_text(), "config.yaml": dump(base)}
        with tracker.open(tags={"data": data}, texts=texts) as parent:
            shared = Search(ours, space, base, data, splits, tracker, parent, folder)
            known = [frozen(trial, base.train.epochs) for trial in study.finished(ours)]
            with display.Screen(console, trials=trials, known=known) as screen:
                screen.follow(launch.LAUNCHERS["inline"](shared, trials=trials))
            shutil.rmtree(folder, ignore_errors=True)
            console.print(summary(shared, own), highlight=False, soft_wrap=True)
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
    data = "demo"
    if folder is None:
        folder = demo_folder(own.runs)
    else:
        data = folder.resolve().name
    resolved = {
        "data.folder": str(folder.resolve()),
        "train.threads": config.train.threads or os.cpu_count() or 1,
    }
    return resolve(flatten(config.model_dump()) | resolved), data


def identity(space: SearchSpace, base: Config, splits: tuple[Split, Split]) -> dict[str, Any]:
    """What has to stay the same for trials of one study to be comparable."""
    flat = {k: v for k, v in flatten(base.model_dump()).items() if k not in FREE}
    return {
        "objective": study.VALUE,
        **{split.name: split.fingerprint for split in splits},
        **{f"space {path}": text for path, text in space.identity().items()},
        **{path: value for path, value in flat.items() if path not in space.parameters},
    }


def points(space: SearchSpace, base: Config) -> list[dict[str, Any]]:
    """What to try first: the default config, then the space's known points."""
    first = search_space.default_point(space, base)
    return [first, *(first | point for point in space.enqueue)]


def introduction(
    name: str,
    space: SearchSpace,
    base: Config,
    splits: tuple[Split, Split],
    own: Settings,
    trials: int,
) -> str:
    """What will run, and where it is logged."""
    train, val = splits
    skipped = sum(len(split.problems) for split in splits)
    note = f" ({skipped} defects skipped: centernet check-data)" if skipped else ""
    classes = ", ".join(train.classes[:8]) + (" ..." if len(train.classes) > 8 else "")
    size = f"{base.data.width}x{base.data.height} px"
    methods = f"{space.sampler['name']} sampler, {space.pruner['name']} pruner"
    return (
        f"Study    {name}: {trials} trials, {methods}\n"
        f"Varies   {', '.join(space.parameters)}\n"
        f"Data     {base.data.folder}: {len(train)} train, {len(val)} val images, "
        f"{classes}{note}\n"
        f"Model    {base.model.backbone}, {size}, {base.train.epochs} epochs a trial\n"
        f"Logged   {settings.without_password(own.tracking_uri)} (make ui)\n"
    )


def frozen(trial: Any, epochs: int) -> Progress:
    """A finished trial as a row of the table."""
    values = trial.intermediate_values.values()
    best = max(values, default=None)
    reason = trial.user_attrs.get(study.REASON, "")
    return Progress(trial.number, trial.params, trial.state.name, epochs, None, best, reason)


def summary(shared: Search, own: Settings) -> str:
    """Register the best trial; say what was found and what to type next."""
    best = study.best_trial(shared.study)
    if best is None or best.value is None:
        return "No trial was completed: nothing to register. See the reasons above."
    name = shared.study.study_name
    default = study.find_trial(shared.study, 0)
    lines = [f"\nBest     trial {best.number}: AP {best.value:.1f}"]
    if default.value is not None and default.number != best.number:
        gain = best.value - default.value
        lines[0] += f", the default config (trial 0): AP {default.value:.1f} ({gain:+.1f})"
    elif default.number == best.number:
        lines[0] += ", which is the default config: nothing tried was better"
    lines += [f"         {k} = {display.number(v)}" for k, v in best.params.items()]
    version, decision = register_trial(own, shared.tracker, best.number, best.value)
    alias = f"models:/{version.name}@{own.alias}"
    verb = f"is now {alias}" if decision.promote else f"registered; {alias} stays"
    lines += [
        f"Model    {version.name} version {version.version} {verb}: {decision.why}",
        "\nNext     make ui                      compare the runs",
        f"         make reproduce TRIAL={best.number}       train it again, compare bit by bit",
        f"         make register TRIAL=N        make another trial the {own.alias}",
        f"         make search ... TRIALS=N     more trials of {name}",
    ]
    return "\n".join(lines)


def register_trial(
    own: Settings, tracker: Tracker, number: int, value: float, *, by_hand: bool = False
) -> tuple[Version, promote.Decision]:
    """Register a trial's model; the alias moves where the policy, or a person, says so."""
    run = tracker.find(number)
    if run is None:
        raise UserError(f"trial {number} of study {tracker.study} has no run in MLflow")
    data, digest = tracker.data(run)
    registry = Registry(own, own.model_name(data))
    with exclusive(own.runs / ".registry.lock"):
        version = registry.register(
            tracker, run.info.run_id, trial=number, value=value, data=digest
        )
        decision = promote.decide(version, registry.at(own.alias))
        if by_hand:
            decision = promote.Decision(True, "as you asked")
        if decision.promote:
            registry.point(own.alias, version)
    return version, decision


def register(options: argparse.Namespace) -> int:
    """Register a trial's model by hand, as the champion."""
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    trial = study.find_trial(ours, options.trial)
    if not trial.state.is_finished() or not trial.intermediate_values:
        raise UserError(f"trial {trial.number} is {trial.state.name}: it has no model yet")
    tracker = Tracker(own, ours.study_name)
    value = max(trial.intermediate_values.values())
    version, _ = register_trial(own, tracker, trial.number, value, by_hand=True)
    print(
        f"{version.name} version {version.version}: study {ours.study_name}, trial "
        f"{trial.number}, val AP {value:.1f}"
    )
    print(f"models:/{version.name}@{own.alias} is now version {version.version}")
    return 0


def status(options: argparse.Namespace) -> int:
    """Print the trials of a study."""
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    console = Console()
    trials = ours.get_trials(deepcopy=False)
    rows = [frozen(trial, 0) for trial in trials]
    best = study.best_trial(ours)
    console.print(f"Study {ours.study_name}: {len(study.finished(ours))} finished trials")
    console.print(display.table(rows, best=best.number if best else None))
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Train a trial again and compare it with its run."""
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    study.find_trial(ours, options.trial)
    then = again.recorded(Tracker(own, ours.study_name), options.trial)
    changes: dict[str, Any] = {}
    if options.data:
        changes["data.folder"] = str(options.data.resolve())
    if options.workers is not None:
        changes["data.workers"] = options.workers
    config = resolve(flatten(then.config.model_dump()) | changes)
    print(
        f"Trial {options.trial} of study {ours.study_name} (run {then.run_id}), "
        f"{len(then.epochs)} epochs"
    )
    found = again.suspects(then, config)
    for text in found:
        print(f"  differs now: {text}")
    own.runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".reproduce-", dir=own.runs) as scratch:
        for comparison in again.reproduce(then, config, Path(scratch)):
            now = comparison.now
            ap = f"AP {now.metrics['AP']:.2f}, " if "AP" in now.metrics else ""
            left = display.duration((len(then.epochs) - now.number) * now.seconds)
            what = ", ".join(comparison.differs)
            same = f"differs: {what}" if what else "identical"
            print(
                f"  epoch {now.number}/{len(then.epochs)}: {ap}weights {now.digest[:12]}, "
                f"{same} (ETA {left})",
                flush=True,
            )
            if what:
                print(f"DIVERGED at epoch {now.number}: {what}")
                for text in found:
                    print(f"  suspect: {text}")
                return 1
    print(f"IDENTICAL: {len(then.epochs)} epochs, every loss, metric and weight bit for bit")
    return 0


def ui(options: argparse.Namespace) -> int:
    """Serve the MLflow UI on 127.0.0.1."""
    own = settings.load(options.settings)
    port = options.port or own.ui_port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            raise UserError(f"port {port} is taken; make ui PORT={port + 1}") from None
    connect(own)
    print(f"MLflow UI: http://127.0.0.1:{port} (Ctrl-C stops it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", own.tracking_uri, "--workers", "1"]
    command += ["--default-artifact-root", own.artifacts]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    return subprocess.run(command, env=os.environ | quiet, check=False).returncode


def dump(config: Config) -> str:
    """The config as YAML."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)
