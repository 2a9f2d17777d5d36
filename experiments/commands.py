"""What the commands of cli.py do; imported only once one of them runs."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from centernet import style
from centernet.config import Config
from centernet.errors import UserError, counted
from centernet.lock import exclusive, holder
from experiments import display, question, settings, study
from experiments.audit import audit
from experiments.lint import lint as remarks_on
from experiments.model_commands import listen, models, predict, register, rollback, serve
from experiments.registry import pinned
from experiments.reproduce import reproduce
from experiments.retention import forget, surplus
from experiments.search import search, trial_folder, write_report
from experiments.search_space import SearchSpace
from experiments.servers.run import become
from experiments.servers.ui import environment as ui_environment
from experiments.settings import Settings
from experiments.study.finals import load_finals, refuse
from experiments.study.warm_start import first_points
from experiments.tracking import Tracker, connect


def open_last(options: argparse.Namespace) -> tuple[Settings, Any, Tracker]:
    """Settings, the study named or searched last, and its runs."""
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    return own, ours, Tracker.of(own, ours)


def lint(options: argparse.Namespace) -> int:
    """Print what is unwise about a search space; what `search` refuses, it refuses too."""
    space, base = question.read(options.space, options.config)
    if options.settings != settings.FILE:  # named, so it must be there
        settings.load(options.settings)
    remarks = remarks_on(space, base)
    if space.warm_start and not look_for(space, base, options.settings):
        names = ", ".join(space.warm_start)
        remarks.append(f"warm_start: there is no store of studies here to look for {names} in")
    for remark in remarks:
        print(f"{options.space}: {remark}")
    print(f"{options.space}: {counted(len(remarks), 'remark') if remarks else 'no remarks'}")
    return 0


def look_for(space: SearchSpace, base: Config, file: Path) -> bool:
    """Whether the studies are in a file here; UserError if those of `warm_start` are not in it."""
    if not file.is_file():
        return False
    own = settings.load(file)
    database = settings.sqlite_file(own.studies)
    if database is None or not database.is_file():
        return False
    first_points(space, base, own)
    return True


def status(options: argparse.Namespace) -> int:
    """Print the trials of a study."""
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    if options.check:
        return check_stores(own, ours)
    trials = ours.get_trials(deepcopy=False)
    console = style.console()
    searched = ours.user_attrs.get(study.PARENT, ours.study_name)
    process = holder(own.runs / "trials" / f"{searched}.lock")
    noted = ours.user_attrs.get(study.SESSION)
    hours = ours.user_attrs.get(study.SECONDS, 0.0) / 3600
    live = "nobody searches it now"
    if process is not None:
        beside = f" with {noted['workers']} workers" if noted is not None else ""
        live = f"being searched by {process}{beside}"
    counted = f"{len(study.finished(ours))} finished trials in {hours:.2f} hours, {live}"
    text = f"Study {ours.study_name}: {counted}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    if process is not None and noted is not None:
        console.print(display.session(console, trials, noted).render())
        for log in sorted((own.runs / "logs" / ours.study_name).glob("worker-*.log")):
            said = log.read_text(errors="replace").splitlines()[-1:]
            text = f"{log.stem}: {''.join(said)}"
            console.print(text, style="dim", highlight=False, markup=False)
    else:
        show_trials(console, ours)
    if (held := load_finals(ours)) is not None:
        console.print(f"Finals, with fresh seeds ({held.study_name}):", highlight=False)
        show_trials(console, held)
    return 0


def show_trials(console: Console, holder: study.Study) -> None:
    """Print a table of trials, each under the number that `reproduce` and `register` take."""
    best = study.best_trial(holder)
    console.print(display.table(display.rows(holder), best=best.number if best else None))


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
    own = settings.load(options.settings)
    ours = study.load_study(own, options.study)
    refuse(ours, "its report shows them")
    print(write_report(own, ours, Tracker.of(own, ours)))
    return 0


def gc(options: argparse.Namespace) -> int:
    """Delete the weights that a study's limits do not allow to stay."""
    own, ours, tracker = open_last(options)
    lock = own.runs / "trials" / f"{tracker.study}.lock"
    with exclusive(lock, busy=f"study {ours.study_name} is being searched"):
        unwanted = surplus(ours, tracker, pinned(own))
        for one in unwanted:
            value = "" if one.value is None else f", AP {one.value:.1f}"
            print(f"{tracker.label(one.number).words}{value}: {one.bytes / 1e6:.1f} MB")
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
    opened = listen(options.port or own.ui_port, "ui")
    connect(own)
    address = "http://{}:{}".format(*opened.getsockname())
    print(f"MLflow UI: {address} (Ctrl-C stops it){runs_page(own, address)}", flush=True)
    become("experiments.servers.ui", opened, ui_environment(own.tracking_uri, own.artifacts))


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


__all__ = [
    "gc", "lint", "models", "predict", "register", "report", "reproduce", "rollback", "search",
    "serve", "status", "ui",
]  # fmt: skip
