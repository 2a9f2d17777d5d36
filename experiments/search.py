"""Launch or continue a study, its finals and its promotion: what `experiments search` does."""

import argparse
import json
import os
import re
import shutil
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from centernet import style
from centernet.checkpoint import write_bytes
from centernet.config import Config, flatten, resolve
from centernet.dataset.coco import read_training
from centernet.dataset.demo import demo_folder
from centernet.dataset.split import Split
from centernet.errors import UserError
from centernet.interrupts import as_ctrl_c
from centernet.lock import exclusive
from centernet.presets import parse_overrides
from centernet.seed import cores
from centernet.state import FREE
from experiments import display, finalists, launch, question, settings, study
from experiments.budget import Budget
from experiments.budget import changed as changed_budget
from experiments.conclude import conclude, hold_finals
from experiments.drive import drive
from experiments.energy import watts
from experiments.lint import lint
from experiments.objective import Search
from experiments.provenance import pretrained
from experiments.search_space import SearchSpace
from experiments.settings import Settings
from experiments.study.finals import SUFFIX
from experiments.study.warm_start import first_points
from experiments.tracking import Tracker, connect
from experiments.tracking.run import CARD, as_yaml, keep_once

PER_CORE = 4  # workers; each is a process with a training
NAME = r"[A-Za-z0-9][\w.-]*"  # of a study: it is also a folder


def search(options: argparse.Namespace) -> int:
    """Launch or continue a study, train its best again, and let the gate judge the winner."""
    as_ctrl_c()
    console = style.console()
    own = settings.load(options.settings)
    space, base = question.read(options.space, options.config, parse_overrides(options.set))
    space = replace(space, warm_start=(*space.warm_start, *options.warm_start))
    budget = limits(options, space)
    workers = options.workers or (len((options.gpus or "0").split(",")) * options.per_gpu)
    check_gpus(options.gpus)
    check_workers(workers)
    base, data = with_data(base, options.data, own)
    name = study_name(options.study or f"{space.file.stem}-{data}")
    points = first_points(space, base, own)
    splits = read_training(Path(str(base.data.folder)), base.data.follow_links)
    connect(own)  # before a study is made that could not log
    with exclusive(own.runs / "trials" / f"{name}.lock", busy=f"study {name} is being searched"):
        ours = study.open_study(
            own,
            name,
            space,
            identity=identity(space, base, splits),
            points=points,
            threads=base.train.threads or None,
            share=max(cores() // workers, 1),
        )
        finalists.check_name(ours)
        base = changed(base, {"train.threads": ours.user_attrs[study.THREADS]})
        tracker = Tracker(own, name, ours.user_attrs[study.ID])
        folder = trial_folder(own, tracker)
        say(console, display.introduction(name, space, base, splits, own, budget, workers))
        for remark in lint(replace(space, budget=budget), base):
            say(console, f"Remark   {remark}")
        texts = {"search_space.yaml": space.file.read_text(), "config.yaml": as_yaml(base)}
        with tracker.open(tags={"data": data}, texts=texts) as parent:
            keep_once(tracker.client, parent, CARD, lambda: card_files(base, splits))
            shared = Search(ours, space, base, data, splits, tracker, parent, folder)
            known = [display.row(trial) for trial in study.finished(ours)]
            ours.set_user_attr(study.SESSION, session(budget, workers, base, options.gpus))
            crew = launch.crew(shared, workers=workers, per_gpu=options.per_gpu, gpus=options.gpus)
            with (
                closing(drive(shared, budget, crew)) as events,
                display.Screen(console, budget=budget, known=known) as screen,
            ):
                screen.follow(events)
            tidy(folder)
            finals = hold_finals(shared, options, workers=workers, console=console)
            text = conclude(shared, finals)
            if finals is not None:
                tidy(finals[0].folder)
            page = write_report(own, ours, tracker)
            text += f"\nReport   {os.path.relpath(page)}"
            say(console, text)
    return 0


def session(budget: Budget, workers: int, base: Config, gpus: str | None) -> dict[str, Any]:
    """What others may know of this search: when it began, what it may spend, on what it runs."""
    if gpus is None:
        device = base.train.device
        cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
        used = list(range(torch.cuda.device_count() if workers > 1 else 1)) if cuda else []
    else:
        used = [int(index) for index in gpus.split(",") if index]
    return {"began": time.time(), "budget": asdict(budget), "workers": workers, "gpus": used}


def say(console: Console, text: str) -> None:
    """Print a text as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def card_files(base: Config, splits: tuple[Split, Split]) -> dict[str, bytes]:
    """The data card, as JSON and as a picture."""
    from centernet.card import data_card  # late: matplotlib takes a second

    card, picture = data_card(
        splits,
        [problem for split in splits for problem in split.problems],
        height=base.data.height,
        width=base.data.width,
        letterbox=base.data.resize == "letterbox",
        stride=base.model.stride,
    )
    return {"card.json": json.dumps(card, indent=1).encode(), "card.png": picture}


def tidy(folder: Path) -> None:
    """Delete a folder of trials in progress, if none is left unfinished."""
    if not any(part.is_dir() for part in folder.glob("*")):
        shutil.rmtree(folder, ignore_errors=True)


def check_gpus(wanted: str | None) -> None:
    """UserError for GPUs that this machine does not have: trials would run on its CPU instead."""
    there = torch.cuda.device_count()
    for index in map(int, wanted.split(",")) if wanted else ():
        if index >= there and not os.environ.get("RAY_ADDRESS"):
            raise UserError(f"--gpus {wanted}: this machine has {there} GPUs, counted from 0")


def check_workers(count: int) -> None:
    """UserError for more processes than this machine can mean; those of a cluster, Ray counts."""
    most = PER_CORE * max(cores(), torch.cuda.device_count())
    if count > most and "RAY_ADDRESS" not in os.environ:
        raise UserError(
            f"--workers {count}: at most {most} on this machine, {PER_CORE} for each of its "
            f"{cores()} cores"
        )


def limits(options: argparse.Namespace, space: SearchSpace) -> Budget:
    """The budget of the command line, else the search space's."""
    names = ("trials", "epochs", "hours", "until_plateau")
    return changed_budget(space.budget, **{name: getattr(options, name) for name in names})


def with_data(base: Config, given: Path | None, own: Settings) -> tuple[Config, str]:
    """The config with the data folder (default: its own, or the demo's), and the data's name."""
    folder = given or (Path(base.data.folder) if base.data.folder else None)
    if folder is None:
        return changed(base, {"data.folder": str(demo_folder(own.runs))}), "demo"
    name = re.sub(r"[^\w-]+", "-", folder.resolve().name, flags=re.ASCII).strip("-") or "data"
    return changed(base, {"data.folder": str(folder.resolve())}), name


def study_name(name: str) -> str:
    """The name, if it can be that of a folder; UserError otherwise."""
    if not re.fullmatch(NAME, name, flags=re.ASCII) or ".." in name:
        raise UserError(f"--study {name}: letters, digits, '.', '_' and '-', please")
    if name.endswith(SUFFIX):
        raise UserError(f"--study {name}: a name that ends with {SUFFIX} is of a study's finals")
    return name


def identity(space: SearchSpace, base: Config, splits: tuple[Split, Split]) -> dict[str, Any]:
    """What has to stay the same for trials of one study to be comparable."""
    free = {*FREE, *space.parameters, "train.threads"}  # the study keeps its threads itself
    initial = pretrained(base.model.pretrained)
    return {
        **({"pretrained weights": initial} if initial else {}),
        **space.question(),
        **{f"{split.name} data": split.fingerprint for split in splits},
        **{f"space {path}": text for path, text in space.identity().items()},
        **{k: v for k, v in flatten(base.model_dump()).items() if k not in free},
    }


def changed(config: Config, values: dict[str, Any]) -> Config:
    """The config with some fields replaced."""
    return resolve(flatten(config.model_dump()) | values)


def trial_folder(own: Settings, tracker: Tracker) -> Path:
    """Where a study's trials in progress live."""
    return own.runs / "trials" / f"{tracker.study}-{tracker.study_id[:8]}"


def write_report(own: Settings, ours: Any, tracker: Tracker) -> Path:
    """The study's page and charts, in `runs/reports` and with the study's run; the page's file."""
    from experiments import report  # late: scikit-learn takes seconds

    distributions = study.distributions(ours)
    best = study.best_trial(ours)
    runs = {number: run.info.run_id for number, run in tracker.numbered().items()}
    picture = tracker.picture(runs[best.number]) if best and best.number in runs else None
    page = report.report(
        ours,
        distributions=distributions,
        links={number: tracker.link(run_id) for number, run_id in runs.items()},
        picture=picture,
        watts=watts(tracker, ours.user_attrs.get(study.SESSION, {}).get("gpus", [])),
        finals=finalists.load_standings(ours),
    )
    folder: Path = own.runs / "reports" / str(ours.study_name)
    files = {"report.html": page.html.encode()}
    files |= {f"{name}.png": content for name, content in page.pictures.items()}
    for name, content in files.items():
        write_bytes(folder / name, content)
    tracker.keep_report(folder)
    return folder / "report.html"
