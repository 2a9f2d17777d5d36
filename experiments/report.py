"""What a study found, on one page that needs nothing else: charts, tables, the best trial."""

import base64
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
)
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from centernet.wording import written
from experiments import charts, study
from experiments.budget import NOISE
from experiments.charts import Row
from experiments.finalists import Finalist
from experiments.outcome import finals_result, headline
from experiments.ranges import position

RESAMPLES = 20  # studies drawn from the trials, for the intervals of the importances
FEWEST = 6  # complete trials for anything to be said about importances
EDGE = 0.05  # of a range: an optimum this near to its end hugs it


@dataclass(frozen=True, slots=True)
class Page:
    """A report: the page, and its charts as PNG by name."""

    html: str
    pictures: dict[str, bytes]


def report(
    ours: study.Study,
    *,
    distributions: dict[str, BaseDistribution],
    links: dict[int, str],
    picture: bytes | None,
    watts: float | None,
    finals: Sequence[Finalist] = (),
) -> Page:
    """The page of a study.

    links: to each trial's run; picture: what the best trial detects; watts: that the GPUs drew on
    average, where it was measured.
    """
    trials = [t for t in ours.get_trials(deepcopy=False) if t.state.name != "WAITING"]
    rows = [
        Row(t.number, t.state.name, study.score(t), t.intermediate_values, t.params) for t in trials
    ]
    best = study.best_trial(ours)
    drawn = draw(rows, trials, distributions, best.number if best else None)
    sections = [section(title, svg, note, wide) for title, (svg, _), note, wide in drawn]
    if picture is not None and best is not None:
        data = base64.b64encode(picture).decode()
        image = f'<img alt="detections" src="data:image/png;base64,{data}">'
        sections.append(section(f"Trial {best.number}: truth and detections", image, "", True))
    if finals:
        told = (line.split(maxsplit=1) for line in finals_result(finals))
        lines = "".join(f"<li><b>{word}</b> {escape(text)}</li>" for word, text in told)
        title = "Finals: trained again with fresh seeds"
        sections.insert(0, section(title, f"<ul>{lines}</ul>", "", True))
    if remarks := advice(best, distributions):
        items = "".join(f"<li>{escape(text)}</li>" for text in remarks)
        sections.insert(0, section("To consider", f"<ul>{items}</ul>", "", True))
    sections.append(section("Trials", table(trials, list(distributions), best, links), "", True))
    template = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    html = template.substitute(
        name=escape(ours.study_name),
        lead=escape(
            f"Winner of the finals: {headline(finals)}."
            if finals and finals[0].finals
            else answer(best, study.find_trial(ours, 0))
        ),
        facts="".join(fact(value, name) for name, value in cost(ours, trials, watts).items()),
        sections="".join(sections),
    )
    names = ("history", "epochs", "importances", "slices", "parallel")
    return Page(html, dict(zip(names, (png for _, (_, png), _, _ in drawn), strict=False)))


def draw(
    rows: Sequence[Row],
    trials: Sequence[FrozenTrial],
    distributions: dict[str, BaseDistribution],
    best: int | None,
) -> list[tuple[str, tuple[str, bytes], str, bool]]:
    """Every chart with its title, its note and whether it takes the page's width."""
    paths = {path: axis(distribution) for path, distribution in distributions.items()}
    default = study.score(trials[0]) if trials else None
    history = charts.history(rows, noise=NOISE, default=default)
    curves = charts.curves(rows, best=best)
    band = f"The band is {NOISE} AP to either side: what another seed alone may move."
    found = [
        ("Optimisation history", history, band, False),
        ("AP by epoch", curves, "", False),
    ]
    weights = importances(trials, distributions)
    if weights:
        note = "fANOVA; the whiskers span 80 % of studies resampled from these trials."
        size = (6.4, 0.6 + 0.34 * len(weights))
        found.append(("Importance", charts.importances(weights, size=size), note, False))
    tall = 2.6 * -(-len(paths) // 3)
    found.append(
        (
            "Each field alone",
            charts.slices(rows, paths, best=best, size=(9, tall)),
            "Complete trials; the best is ringed.",
            True,
        )
    )

    def place(path: str, value: Any) -> float:
        return position(distributions[path], value)

    parallel = charts.parallel(rows, list(paths), place, size=(9.6, 3.6))
    costs = dict.fromkeys(name for t in trials for name in t.user_attrs.get(study.COSTS, {}))
    fronts = [(f"AP against {name}", front(trials, name), "", False) for name in costs]
    return [
        *found,
        *fronts,
        ("All fields together", parallel, "One line is one complete trial.", True),
    ]


def axis(distribution: BaseDistribution) -> charts.Axis:
    """A field's axis: numbers as they are, choices side by side in their order."""
    if isinstance(distribution, CategoricalDistribution):
        names = [written(choice) for choice in distribution.choices]
        return charts.Axis(names=names, place=lambda value: distribution.choices.index(value))
    return charts.Axis(log=bool(getattr(distribution, "log", False)))


def front(trials: Sequence[FrozenTrial], cost: str) -> tuple[str, bytes]:
    """The trade-off between AP and a cost."""
    points = [
        (t.number, t.user_attrs[study.COSTS][cost], study.score(t) or 0.0, study.feasible(t))
        for t in trials
        if study.COSTS in t.user_attrs and study.score(t) is not None
    ]
    return charts.front(points, cost=cost)


def importances(
    trials: Sequence[FrozenTrial], distributions: dict[str, BaseDistribution]
) -> dict[str, tuple[float, float, float]]:
    """(low, middle, high) for each field that all complete trials vary; empty for too few."""
    complete = [trial for trial in trials if study.score(trial) is not None]
    shared = [
        path
        for path in distributions
        if all(path in t.params for t in complete) and len({t.params[path] for t in complete}) > 1
    ]
    if len(complete) < FEWEST or not shared or len({study.score(t) for t in complete}) < 3:
        return {}
    chance, drawn = np.random.default_rng(0), []
    for seed in range(RESAMPLES):
        sample = optuna.create_study(direction="maximize")
        chosen = chance.integers(0, len(complete), len(complete))
        sample.add_trials([alone(complete[index]) for index in chosen])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = FanovaImportanceEvaluator(n_trees=32, seed=seed)
            drawn.append(get_param_importances(sample, evaluator=evaluator, params=shared))
    spread = {path: [one.get(path, 0.0) for one in drawn] for path in shared}
    return {
        path: tuple(np.quantile(values, (0.1, 0.5, 0.9)).tolist())
        for path, values in spread.items()
    }


def alone(trial: FrozenTrial) -> FrozenTrial:
    """A trial as if AP were its one objective."""
    return optuna.trial.create_trial(
        params=trial.params, distributions=trial.distributions, value=study.score(trial)
    )


def advice(best: FrozenTrial | None, distributions: dict[str, BaseDistribution]) -> list[str]:
    """Ranges at whose end the optimum lies, with a wider one."""
    found = []
    for path, distribution in distributions.items():
        categorical = isinstance(distribution, CategoricalDistribution)
        if best is None or path not in best.params or categorical:
            continue
        at = position(distribution, best.params[path])
        if EDGE <= at <= 1 - EDGE:
            continue
        end, bound = ("lower", "low") if at < EDGE else ("upper", "high")
        found.append(
            f"{path}: the best value, {best.params[path]:.3g}, hugs the {end} end of its range; "
            f"try {bound}: {wider(distribution, bound):.3g}, if the field allows it"
        )
    return found


def wider(distribution: Any, bound: str) -> float:
    """A bound that makes a range half as wide again, on a log scale where it has one."""
    low, high = float(distribution.low), float(distribution.high)
    if getattr(distribution, "log", False):
        factor = math.sqrt(high / low)
        return low / factor if bound == "low" else high * factor
    return low - (high - low) / 2 if bound == "low" else high + (high - low) / 2


def answer(best: FrozenTrial | None, default: FrozenTrial) -> str:
    """The result in a sentence."""
    value = None if best is None else study.score(best)
    if best is None or value is None:
        return "No trial has been completed yet."
    usual = study.score(default)
    if usual is None or best.number == default.number:
        return f"Best: trial {best.number}, val AP {value:.1f}."
    gain = value - usual
    inside = ", which is inside the noise of a seed" if abs(gain) < NOISE else ""
    return (
        f"Best: trial {best.number}, val AP {value:.1f}; the default config has "
        f"{usual:.1f} ({gain:+.1f}{inside}). The best of many trials is also the luckiest: "
        "expect less of it with another seed."
    )


def cost(ours: study.Study, trials: Sequence[FrozenTrial], watts: float | None) -> dict[str, str]:
    """What the study took, and what pruning saved."""
    used = sum(trial.last_step or 0 for trial in trials)
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    saved = sum(t.user_attrs.get(study.EPOCHS, 0) - (t.last_step or 0) for t in pruned)
    spans = [(t.datetime_start, t.datetime_complete) for t in trials]
    training = sum(b.timestamp() - a.timestamp() for a, b in spans if a and b) / 3600
    complete = sum(trial.state.name == "COMPLETE" for trial in trials)
    failed = sum(trial.state.name == "FAIL" for trial in trials)
    searched = float(ours.user_attrs.get(study.SECONDS, 0.0)) / 3600
    gpus = ours.user_attrs.get(study.SESSION, {}).get("gpus", [])
    devices = {"GPU-hours": f"{len(gpus) * searched:.2f}"} if gpus else {}
    if watts is not None:
        devices["kWh of the GPUs"] = f"{watts * searched / 1000:.2f}"
    return {
        "trials": str(len(trials)),
        "complete / pruned / failed": f"{complete} / {len(pruned)} / {failed}",
        "epochs": str(used),
        f"epochs saved by pruning ({saved / max(saved + used, 1):.0%})": str(saved),
        "hours of searching": f"{searched:.2f}",
        "hours of trials": f"{training:.2f}",
        **devices,
    }


def fact(value: str, name: str) -> str:
    """One number of the page's head."""
    return f'<div class="fact"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def section(title: str, body: str, note: str, wide: bool) -> str:
    """A card of the page."""
    below = f"<p>{escape(note)}</p>" if note else ""
    return (
        f'<section class="{"wide" if wide else ""}"><h2>{escape(title)}</h2>{body}{below}</section>'
    )


def table(
    trials: Sequence[FrozenTrial], paths: list[str], best: FrozenTrial | None, links: dict[int, str]
) -> str:
    """All trials, the best one marked, each linked to its run."""
    heads = "".join(f"<th>{escape(path.rpartition('.')[2])}</th>" for path in paths)
    lines = [f"<tr><th>trial</th><th>state</th><th>AP</th><th>epochs</th>{heads}</tr>"]
    for trial in trials:
        name = str(trial.number)
        if trial.number in links:
            name = f'<a href="{escape(links[trial.number])}">{name}</a>'
        value = max(trial.intermediate_values.values(), default=None)
        cells = "".join(f"<td>{escape(value_of(trial, path))}</td>" for path in paths)
        mark = ' class="best"' if best is not None and trial.number == best.number else ""
        reason = escape(trial.user_attrs.get(study.REASON, ""))
        state = f'<span class="{trial.state.name}" title="{reason}">{trial.state.name}</span>'
        lines.append(
            f"<tr{mark}><td>{name}</td><td>{state}</td><td>{shown(value)}</td>"
            f"<td>{trial.last_step or 0}</td>{cells}</tr>"
        )
    return f"<table>{''.join(lines)}</table>"


def value_of(trial: FrozenTrial, path: str) -> str:
    """What was suggested to a trial for a field; empty where it did not vary."""
    value = trial.params.get(path, "")
    return shown(value) if isinstance(value, float) else written(value)


def shown(value: float | None) -> str:
    """A number in few characters."""
    return "" if value is None else f"{value:.4g}"
