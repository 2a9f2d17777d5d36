"""What a space asks for is refused in one line, or it runs: every sampler with every pruner."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from journey import run

from centernet.errors import UserError
from centernet.presets import load
from experiments import cli, study
from experiments.pruners import PRUNERS
from experiments.samplers import SAMPLERS
from experiments.search import check_workers
from experiments.search_space import SearchSpace, read
from experiments.settings import Settings
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
    made = optuna.create_study(directions=space.directions, pruner=make_pruner(space))
    made.enqueue_trial(default_point(space, base))
    tried: list[dict[str, Any]] = []
    for number in range(3):
        if space.sampler["name"] == "grid" and exhausted(space, base, tried):
            return
        made.sampler = make_sampler(space, number=number, seed=0)
        trial = made.ask()
        suggest(trial, space, base)
        tried.append(trial.params)
        if not space.costs:
            for epoch in (1, 2):
                trial.report(10.0 * epoch + number, epoch)
                trial.should_prune()
        for name, most in space.limits.items():
            trial.set_constraint(name, number - most)
        made.sampler = optuna.samplers.RandomSampler()  # as where a trial is run
        made.tell(trial, [10.0 + number, *(1.0 for _ in space.costs)])


@pytest.mark.parametrize(
    "sampler",
    [pytest.param(name, marks=[pytest.mark.slow] if name == "gp" else []) for name in SAMPLERS],
)
def test_every_combination_is_refused_in_one_line_or_runs_without_a_word(
    sampler: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "space.yaml"
    optuna.logging.enable_propagation()
    ran = 0
    cases = [(pruner, "a choice and a number", "AP", "{}", {}) for pruner in PRUNERS]
    for options in OPTIONS.get(sampler, [{}]):
        slow = sampler == "gp" and bool(options)  # a second each
        fields = ("a condition",) if slow else FIELDS
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
                assert sampler == "cmaes", file.read_text()
                assert "several objectives" in str(error) or "two numeric fields" in str(error)
        assert not caplog.get_records("call"), (file.read_text(), caplog.text)
    optuna.logging.disable_propagation()
    assert ran >= 10


GOOD = "targets.sigma_divisor: {type: float, low: 4, high: 40}"
REFUSED = {
    "no sampler is named 'tbe'": f"parameters: {{{GOOD}}}\nsampler: tbe",
    "there is no n_startup_trial;": f"parameters: {{{GOOD}}}\nsampler: {{name: tpe, n_startup_trial: 1}}",
    "expected a number from 0 to 100, got 200": f"parameters: {{{GOOD}}}\npruner: {{name: percentile, percentile: 200}}",
    "cannot do several objectives": f"parameters: {{{GOOD}}}\nsampler: cmaes\nobjectives: [AP, latency_ms]",
    "the grid sampler needs a `step`": f"parameters: {{{GOOD}}}\nsampler: grid",
    "loss.size_loss: there is no l3": "parameters: {loss.size_loss: {type: categorical, choices: [giou, l3]}}",
    "model.backbone: ": "parameters: {model.backbone: {type: categorical, choices: [resnet18, resnet81]}}",
    "the config has 8.0, which is not a number from 9 to 40": "parameters: {targets.sigma_divisor: {type: float, low: 9, high: 40}}",
    "enqueue: targets.sigma_divisor: expected a number from 4 to 40, got 41": f"parameters: {{{GOOD}}}\nenqueue: [{{targets.sigma_divisor: 41}}]",
    "no study is named before": f"parameters: {{{GOOD}}}\nwarm_start: before",
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_lint_refuses_what_search_refuses_in_the_same_words(
    message: str, furnished: Path, settings: Settings
) -> None:
    space = read_text(furnished, GOOD)
    study.open_study(settings, "other", space, identity={}, points=[], threads=1)
    (furnished / "space.yaml").write_text(REFUSED[message])
    said = run(furnished, "lint", "space.yaml", status=2)
    assert message in said and said.count("\n") == 1
    assert run(furnished, "search", "--space", "space.yaml", status=2) == said


def read_text(folder: Path, fields: str) -> SearchSpace:
    (folder / "other.yaml").write_text(f"parameters: {{{fields}}}")
    return read(folder / "other.yaml")


def test_without_a_store_lint_says_that_it_did_not_look_for_studies(home: Path) -> None:
    (home / "space.yaml").write_text(f"parameters: {{{GOOD}}}\nwarm_start: before")
    said = run(home, "lint", "space.yaml")
    assert "warm_start: there is no store of studies here to look for before in" in said
    assert said.endswith("1 remark\n") and not (home / "runs").exists()


NUMBERS = {
    "search": ["--workers", "--per-gpu", "--trials", "--epochs", "--hours", "--seeds", "--finalists"],
    "reproduce": ["--epochs", "--threads", "--workers"],
    "rollback": ["--to"],
    "serve": ["--port"],
    "ui": ["--port"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "option"), [(command, one) for command in NUMBERS for one in NUMBERS[command]]
)
def test_a_number_is_bounded_and_written_in_the_digits_0_to_9(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in (
        "٣",
        "²",
        "-1",
        "1e99",
        "9" * 5000,
        "10000000000000",
        "nan",
        "inf",
        "1_0",
        " 1",
        "",
    ):
        with pytest.raises(SystemExit) as ended:
            cli.parser().parse_args([command, f"{option}={text}"])
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.count("\n") == 1 and len(said) < 300, said
        assert option in said and "from" in said


def test_workers_are_bounded_by_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="--workers 1000: at most"):
        check_workers(1000)
    check_workers(4)
