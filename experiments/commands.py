"""What the commands of cli.py do; imported only once one of them runs."""

import argparse
import os
import sys
from typing import Any, NoReturn

from centernet import style
from centernet.errors import UserError
from centernet.lock import exclusive, holder
from centernet.presets import load
from experiments import display, search_space, settings, study
from experiments.audit import audit
from experiments.lint import lint as remarks_on
from experiments.model_commands import free_port, models, predict, register, rollback, serve
from experiments.registry import pinned
from experiments.reproduce import reproduce
from experiments.retention import forget, surplus
from experiments.search import search, trial_folder, write_report
from experiments.settings import Settings
from experiments.study.suggest import default_point
from experiments.tracking import Tracker, connect


def open_last(options: argparse.Namespace) -> tuple[Settings, Any, Tracker]:
    """Settings, the study named or searched last, and its runs."""
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    return own, ours, Tracker.of(own, ours)


def lint(options: argparse.Namespace) -> int:
    """Print what is unwise about a search space."""
    space = search_space.read(options.space)
    base = load(options.config or space.config, space.pinned)
    default_point(space, base)
    for remark in (remarks := remarks_on(space, base)):
        print(f"{options.space}: {remark}")
    print(f"{options.space}: {len(remarks) or 'no'} remarks")
    return 0


def status(options: argparse.Namespace) -> int:
    """Print the trials of a study."""
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    if options.check:
        return check_stores(own, ours)
    trials = ours.get_trials(deepcopy=False)
    console = style.console()
    process = holder(own.runs / "trials" / f"{ours.study_name}.lock")
    noted = ours.user_attrs.get(study.SESSION)
    hours = ours.user_attrs.get(study.SECONDS, 0.0) / 3600
    live = "nobody searches it now"
    if process is not None and noted is not None:
        live = f"being searched by {process} with {noted['workers']} workers"
    counted = f"{len(study.finished(ours))} finished trials in {hours:.2f} hours, {live}"
    text = f"Study {ours.study_name}: {counted}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    if process is not None and noted is not None:
        console.print(display.session(console, trials, noted).render())
        for log in sorted((own.runs / "logs" / ours.study_name).glob("worker-*.log")):
            said = log.read_text(errors="replace").splitlines()[-1:]
            text = f"{log.stem}: {''.join(said)}"
            console.print(text, style="dim", highlight=False, markup=False)
        return 0
    best = study.best_trial(ours)
    rows = [display.row(trial) for trial in trials]
    console.print(display.table(rows, best=best.number if best else None))
    return 0


def check_stores(own: Settings, ours: Any) -> int:
    """Compare Optuna with MLflow; 1 if they do not tell the same story."""
    tracker = Tracker.of(own, ours)
    folder = trial_folder(own, tracker)
    found = audit(ours, tracker, lambda number: folder / f"{number}.lock")
    for problem in found.problems:
        print(problem)
    verdict = f"{len(found.problems)} problems" if found.problems else "all as it should be"
    print(
        f"Study {ours.study_name}: {found.trials} trials, {found.points} metric points, {verdict}"
    )
    return 1 if found.problems else 0


def report(options: argparse.Namespace) -> int:
    """Write a study's report, and log it to the study's run."""
    own, ours, tracker = open_last(options)
    print(write_report(own, ours, tracker))
    return 0


def gc(options: argparse.Namespace) -> int:
    """Delete the weights that a study's limits do not allow to stay."""
    own, ours, tracker = open_last(options)
    lock = own.runs / "trials" / f"{tracker.study}.lock"
    with exclusive(lock, busy=f"study {ours.study_name} is being searched"):
        unwanted = surplus(ours, tracker, pinned(own))
        for one in unwanted:
            value = "" if one.value is None else f", AP {one.value:.1f}"
            print(f"trial {one.number}{value}: {one.bytes / 1e6:.1f} MB")
        if not options.dry_run:
            forget(ours, tracker, unwanted)
    total = sum(one.bytes for one in unwanted) / 1e6
    verb = "would be" if options.dry_run else "are"
    what = f"weights of {len(unwanted)} trials, {total:.1f} MB"
    print(f"Study {ours.study_name}: {what}, {verb} deleted")
    return 0


def ui(options: argparse.Namespace) -> int:
    """Serve the MLflow UI on 127.0.0.1, in place of this process."""
    own = settings.load(options.settings)
    if own.tracking_uri.startswith("http"):
        raise UserError(f"the runs are on a server; its UI is {own.tracking_uri}")
    port = free_port(options.port or own.ui_port, "make ui")
    connect(own)
    address = f"http://127.0.0.1:{port}"
    print(f"MLflow UI: {address} (Ctrl-C stops it){runs_page(own, address)}", flush=True)
    become_ui(own, port)


def runs_page(own: Settings, address: str) -> str:
    """Where the runs of the study searched last are; empty where there is none yet."""
    try:
        ours = study.load_study(own, None)
    except UserError:
        return ""
    known = connect(own).get_experiment_by_name(ours.study_name)
    if known is None or known.lifecycle_stage != "active":  # whoever deleted it wants it gone
        return ""
    return f"\n{ours.study_name}: {address}/#/experiments/{known.experiment_id}/runs"


def become_ui(own: Settings, port: int) -> NoReturn:
    """Become the MLflow server. The store's address, perhaps with a password, is no argument."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--default-artifact-root", own.artifact_root]
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


__all__ = [
    "gc", "lint", "models", "predict", "register", "report", "reproduce", "rollback", "search",
    "serve", "status", "ui",
]  # fmt: skip
