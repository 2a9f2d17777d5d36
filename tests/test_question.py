"""What a space asks for is refused in one line, or it runs: every sampler with every pruner."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest

from centernet.errors import UserError
from centernet.presets import load
from experiments.pruners import PRUNERS
from experiments.samplers import SAMPLERS
from experiments.search_space import read
from experiments.study.methods import exhausted, make_pruner, make_sampler
from experiments.study.suggest import default_point, suggest

NUMBER = "  targets.sigma_divisor: {type: float, low: 4, high: 40, step: 4}\n"
CHOICE = "  targets.sigma_rule: {type: categorical, choices: [area, overlap]}\n"
FIELDS = {
    "a number": NUMBER,
    "two numbers": NUMBER + "  optim.warmup_steps: {type: int, low: 0, high: 100, step: 50}\n",
    "a choice": CHOICE,
    "a choice and a number": CHOICE + NUMBER,
    "a condition": CHOICE + NUMBER.replace("}", ", when: {targets.sigma_rule: area}}"),
}
OPTIONS = {
    "tpe": [{"n_startup_trials": 1}, {"n_startup_trials": 1, "group": True}],
    "gp": [{}, {"n_startup_trials": 1}],
    "cmaes": [{}, {"use_separable_cma": True}, {"with_margin": True}, {"lr_adapt": True}],
    "qmc": [{}, {"qmc_type": "halton", "scramble": True}],
    "nsga2": [{"population_size": 2}],
}


def three_trials(file: Path) -> None:
    """Ask, suggest, report and tell, as a search does, without a training."""
    space = read(file)
    base = load(space.config, space.pinned)
    study = optuna.create_study(directions=space.directions, pruner=make_pruner(space))
    study.enqueue_trial(default_point(space, base))
    tried: list[dict[str, Any]] = []
    for number in range(3):
        if space.sampler["name"] == "grid" and exhausted(space, base, tried):
            return
        study.sampler = make_sampler(space, number=number, seed=0)
        trial = study.ask()
        suggest(trial, space, base)
        tried.append(trial.params)
        if not space.costs:
            for epoch in (1, 2):
                trial.report(10.0 * epoch + number, epoch)
                trial.should_prune()
        for name, most in space.limits.items():
            trial.set_constraint(name, number - most)
        study.sampler = optuna.samplers.RandomSampler()  # as where a trial is run
        study.tell(trial, [10.0 + number, *(1.0 for _ in space.costs)])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_combination_is_refused_in_one_line_or_runs_without_a_word(
    sampler: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "space.yaml"
    optuna.logging.enable_propagation()
    ran = 0
    cases = [(pruner, "a choice and a number", "AP", "{}", {}) for pruner in PRUNERS]
    for options in OPTIONS.get(sampler, [{}]):
        slow = sampler == "gp" and bool(options)  # a second each
        fields = ("a choice and a number", "a condition") if slow else FIELDS
        product = itertools.product(fields, ("AP", "[AP, latency_ms]"), ("{}", "{latency_ms: 1}"))
        cases += [("median", *case, options) for case in product]
    for pruner, fields, objectives, constraints, options in cases:
        named: dict[str, Any] = {"name": sampler} | options
        file.write_text(
            f"parameters:\n{FIELDS[fields]}objectives: {objectives}\nconstraints: {constraints}\n"
            f"sampler: {named}\npruner: {pruner}\n"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                three_trials(file)
                ran += 1
            except UserError as error:
                assert "\n" not in str(error)
                assert sampler == "cmaes" and "several objectives" in str(error), file.read_text()
        assert not caplog.get_records("call"), (file.read_text(), caplog.text)
    optuna.logging.disable_propagation()
    assert ran >= 10
