from pathlib import Path

import optuna
import pytest

from centernet.config import field_paths, flatten
from centernet.errors import UserError
from centernet.presets import load
from experiments.pruners import PRUNERS
from experiments.samplers import SAMPLERS
from experiments.search_space import read
from experiments.settings import Settings
from experiments.study.methods import exhausted, make_pruner, make_sampler
from experiments.study.suggest import default_point, suggest
from experiments.study.warm_start import first_points

SPACES = sorted((Path(__file__).parents[1] / "search_spaces").glob("*.yaml"))


@pytest.mark.parametrize("file", SPACES, ids=lambda f: f.stem)
def test_every_shipped_space_suggests_valid_configs_of_what_it_names(file: Path) -> None:
    space = read(file)
    base = load(space.config, space.pinned)
    study = optuna.create_study(sampler=make_sampler(space, number=0, seed=0))
    seen = []
    for _ in range(5):
        trial = study.ask()
        config = flatten(suggest(trial, space, base).model_dump())
        active = {path for path in space.parameters if space.active(path, config)}
        assert {path: config[path] for path in active} == trial.params
        unchanged = set(field_paths()) - set(space.parameters)
        assert all(config[p] == flatten(base.model_dump())[p] for p in unchanged)
        seen.append(tuple(trial.params.values()))
    assert len(set(seen)) == 5
    assert set(default_point(space, base)) <= set(space.parameters)


MISSION = {
    "loss.size_weight": 0.1,
    "loss.offset_weight": 0.1,
    "targets.sigma_divisor": 6.0,
}
PAPER = MISSION | {"loss.offset_weight": 1.0, "targets.sigma_divisor": 11.0}


@pytest.mark.parametrize("name", ["smoke", "weights", "full"])
def test_the_spaces_of_weights_try_the_missions_and_the_papers_first(
    name: str, settings: Settings
) -> None:
    space = read(next(file for file in SPACES if file.stem == name))
    base = load(space.config, space.pinned)
    first = first_points(space, base, settings)[:3]
    for known in (MISSION, PAPER):
        assert any(known.items() <= point.items() for point in first)
    assert flatten(base.model_dump())["loss.heatmap_weight"] == 1.0


@pytest.mark.parametrize("file", SPACES, ids=lambda f: f.stem)
def test_every_shipped_space_tries_the_mission_preset_in_what_it_varies(
    file: Path, settings: Settings
) -> None:
    space = read(file)
    mission = flatten(load("mission").model_dump())
    points = first_points(space, load(space.config, space.pinned), settings)
    wanted = {path: mission[path] for path in space.parameters if space.active(path, mission)}
    assert any(wanted.items() <= point.items() for point in points)


GRID = """
parameters:
  loss.size_loss: {type: categorical, choices: [l1, giou]}
  targets.sigma_rule: {type: categorical, choices: [area, overlap]}
  targets.sigma_divisor: {type: float, low: 4.0, high: 4.3, step: 0.1, when: {targets.sigma_rule: area}}
  optim.batch_size: {type: int, low: 8, high: 16, step: 8, when: {loss.size_loss: l1}}
sampler: grid
"""


def test_a_grid_ends_when_each_of_its_points_was_tried_once(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    space = read(tmp_path / "grid.yaml")
    base = load(space.config)
    study = optuna.create_study(direction="maximize")
    tried: list[dict[str, object]] = []
    while not exhausted(space, base, tried):
        study.sampler = make_sampler(space, number=len(tried), seed=0)
        trial = study.ask()
        suggest(trial, space, base)
        tried.append(trial.params)
        study.sampler = optuna.samplers.RandomSampler()  # as when a trial is run
        study.tell(trial, 0.0)
    assert len(tried) == (2 + 1) * (4 + 1)
    assert len({tuple(sorted(point.items())) for point in tried}) == len(tried)


GOOD = "optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}"
BAD = {
    "targets.sigma_divsor is not a config field; did you mean targets.sigma_divisor?": "parameters: {targets.sigma_divsor: {type: float, low: 4, high: 40}}",
    "optim.lr: low 2 is above high 1": "parameters: {optim.lr: {type: float, low: 2, high: 1}}",
    "optim.lr: type is one of float, int, categorical, got 'flaot'": "parameters: {optim.lr: {type: flaot, low: 1, high: 2}}",
    "optim.lr: there is no hihg; did you mean high?": "parameters: {optim.lr: {type: float, low: 1, hihg: 2}}",
    "optim.lr: low: expected a number from -1e15 to 1e15, got '1e-5'": "parameters: {optim.lr: {type: float, low: 1e-5, high: 1}}",
    "augment.flip_p: expected a number from 0 to 1, got 2.0": "parameters: {augment.flip_p: {type: float, low: 0, high: 2}}",
    "loss.size_loss: choices: expected 2 to 1000 values, each text, a number, true, false or null, got nothing": "parameters: {loss.size_loss: {type: categorical}}",
    "nothing varies": "parameters: {optim.lr: 1.0e-3}",
    "expected at least one": "sampler: tpe",
    ": there is no paramters; did you mean parameters?": "paramters: {}",
    "enqueue: loss.size_weight is not varied": f"parameters: {{{GOOD}}}\nenqueue: [{{loss.size_weight: 1.0}}]",
    "enqueue: optim.lr: expected a number from 0.0001 to 0.01 (log), got 5.0": f"parameters: {{{GOOD}}}\nenqueue: [{{optim.lr: 5.0}}]",
    "budget: there is no trails; did you mean trials?": f"parameters: {{{GOOD}}}\nbudget: {{trails: 3}}",
    "budget: hours: expected a number above 0": f"parameters: {{{GOOD}}}\nbudget: {{hours: -1}}",
    "budget: trials: expected a whole number from 1 to 1000000, got 0": f"parameters: {{{GOOD}}}\nbudget: {{trials: 0}}",
    "finals: there is no seed; did you mean seeds?": f"parameters: {{{GOOD}}}\nfinals: {{seed: 3}}",
    "finals: seeds: expected a whole number from 1 to 1000, got 0": f"parameters: {{{GOOD}}}\nfinals: {{seeds: 0}}",
    "objectives: there is no loss": f"parameters: {{{GOOD}}}\nobjectives: [AP, loss]",
    "AP comes first": f"parameters: {{{GOOD}}}\nobjectives: [latency_ms]",
    "constraints: there is no latency; did you mean latency_ms?": f"parameters: {{{GOOD}}}\nconstraints: {{latency: 9}}",
    "constraints: latency_ms: expected a number above 0": f"parameters: {{{GOOD}}}\nconstraints: {{latency_ms: -1}}",
    "not YAML": "parameters: {",
    "model.channels: expected a whole number from 8 to 1024, a multiple of 8, got 33": "parameters: {model.channels: {type: int, low: 32, high: 64}}",
    "enqueue: optim.batch_size: expected a whole number from 4 to 9, got 8.0": "parameters: {optim.batch_size: {type: int, low: 4, high: 9}}\nenqueue: [{optim.batch_size: 8.0}]",
    "data.folder: it is the same for all trials": "parameters: {data.folder: {type: categorical, choices: [a, b]}}",
    "type is one of float": "parameters: {optim.lr: {type: [float], low: 1, high: 2}}",
    "step: expected a whole number from 1 to 2^53, got 0.5": "parameters: {optim.batch_size: {type: int, low: 4, high: 9, step: 0.5}}",
    "sampler: no sampler is named 'tbe'; did you mean tpe?": f"parameters: {{{GOOD}}}\nsampler: tbe",
    "sampler: tpe: there is no n_startup; did you mean n_startup_trials?": f"parameters: {{{GOOD}}}\nsampler: {{name: tpe, n_startup: 3}}",
    "n_startup_trials: expected a whole number from 0 to 1000000, got -2": f"parameters: {{{GOOD}}}\nsampler: {{name: tpe, n_startup_trials: -2}}",
    "sampler: tpe: group: true needs multivariate: true": f"parameters: {{{GOOD}}}\nsampler: {{name: tpe, group: true, multivariate: false}}",
    "sampler: nsga2: population_size: expected a whole number from 2 to 100000, got 1": f"parameters: {{{GOOD}}}\nsampler: {{name: nsga2, population_size: 1}}",
    "sampler: qmc: qmc_type: expected sobol or halton, got 'sobel'": f"parameters: {{{GOOD}}}\nsampler: {{name: qmc, qmc_type: sobel}}",
    "sampler: cmaes cannot do several objectives; tpe, gp, qmc, random, grid, nsga2 can": f"parameters: {{{GOOD}}}\nsampler: cmaes\nobjectives: [AP, latency_ms]",
    "sampler: the grid has 100001 points, and 100000 is the most": "parameters: {optim.warmup_steps: {type: int, low: 0, high: 100000}}\nsampler: grid",
    "sampler: no sampler is named null (one of": f"parameters: {{{GOOD}}}\nsampler:",
    "sampler: tpe: seed: expected a whole number from 0 and below 2^32, got -1": f"parameters: {{{GOOD}}}\nsampler: {{name: tpe, seed: -1}}",
    "median: there is no n_warmup_step; did you mean n_warmup_steps?": f"parameters: {{{GOOD}}}\npruner: {{name: median, n_warmup_step: 3}}",
    "percentile: expected a number from 0 to 100, got 200": f"parameters: {{{GOOD}}}\npruner: {{name: percentile, percentile: 200}}",
    "halving: min_resource: expected a whole number from 1 to 1000000 or auto, got 0": f"parameters: {{{GOOD}}}\npruner: {{name: halving, min_resource: 0}}",
    "halving: bootstrap_count needs a min_resource": f"parameters: {{{GOOD}}}\npruner: {{name: halving, bootstrap_count: 2}}",
    "hyperband: max_resource 2 is below min_resource 3": f"parameters: {{{GOOD}}}\npruner: {{name: hyperband, min_resource: 3, max_resource: 2}}",
    "pruner: no pruner is named 'medain'; did you mean median?": f"parameters: {{{GOOD}}}\npruner: {{name: patient, wrapped: medain}}",
    "patient: wrapped: expected a pruner other than patient, got {'name'": f"parameters: {{{GOOD}}}\npruner: &own {{name: patient, wrapped: *own}}",
    "optim.lr: log: expected true or false, got 'yes'": "parameters: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: 'yes'}}",
    "optim.lr: log needs a low above 0, got 0": "parameters: {optim.lr: {type: float, low: 0, high: 1.0e-2, log: true}}",
    "optim.lr: step and log exclude each other": "parameters: {optim.lr: {type: float, low: 1, high: 2, step: 1, log: true}}",
    "step 100 is wider than the range from 4 to 40": "parameters: {targets.sigma_divisor: {type: float, low: 4, high: 40, step: 100}}",
    "steps of 0.3 from 0 end at 0.9; write high: 0.9": "parameters: {augment.flip_p: {type: float, low: 0, high: 1, step: 0.3}}",
    "step 1E-300 is too fine": "parameters: {augment.flip_p: {type: float, low: 0, high: 1, step: 1.0e-300}}",
    "low and high are both 8; to pin a field, write `field: 8`": "parameters: {targets.sigma_divisor: {type: float, low: 8, high: 8}}",
    "got 99999999999999999999": "parameters: {optim.warmup_steps: {type: int, low: 0, high: 99999999999999999999}}",
    "high: expected a number from -1e15 to 1e15, got inf": "parameters: {loss.size_weight: {type: float, low: 0, high: .inf}}",
    "choices: l1 and l1 are the same": "parameters: {loss.size_loss: {type: categorical, choices: [l1, giou, l1]}}",
    "choices: 1 and true are the same": "parameters: {optim.batch_size: {type: categorical, choices: [1, true]}}",
    "got [[0.5], [0.6]]": "parameters: {optim.milestones: {type: categorical, choices: [[0.5], [0.6]]}}",
    "got ['l1']": "parameters: {loss.size_loss: {type: categorical, choices: [l1]}}",
    "data.height: ": "parameters: {data.height: {type: int, low: 64, high: 4096}}",
    "config: expected the name of a preset or file, got 5": f"config: 5\nparameters: {{{GOOD}}}",
    "warm_start: expected names of studies, got 3": f"parameters: {{{GOOD}}}\nwarm_start: 3",
    "constraints: latency_ms: expected a number above 0, got inf": f"parameters: {{{GOOD}}}\nconstraints: {{latency_ms: .inf}}",
    "budget: epochs: expected a whole number from 1 to 1000000000, got 1000000000000": f"parameters: {{{GOOD}}}\nbudget: {{epochs: 1000000000000}}",
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_a_mistake_is_one_line_that_names_the_file(message: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(BAD[message])
    with pytest.raises(UserError) as error:
        read(file)
    assert str(error.value).startswith(str(file)) and message in str(error.value)
    assert "\n" not in str(error.value) and "Distribution" not in str(error.value)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_by_its_seed(name: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    stepped = "optim.warmup_steps: {type: int, low: 0, high: 1000, step: 10}"
    vary = stepped if name == "grid" else f"{GOOD}, {stepped}"
    file.write_text(f"parameters: {{{vary}}}\nsampler: {name}")
    space = read(file)

    def draw(seed: int) -> list[tuple[object, ...]]:
        study, drawn = optuna.create_study(), []
        for number in range(12):
            study.sampler = make_sampler(space, number=number, seed=seed)
            trial = study.ask()
            suggest(trial, space, load())
            drawn.append(tuple(trial.params.values()))
            study.tell(trial, trial.params["optim.warmup_steps"])
        return drawn

    assert draw(1) == draw(1)
    assert len(set(draw(1))) == 12


def test_a_grid_needs_steps(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(f"parameters: {{{GOOD}}}\nsampler: grid")
    with pytest.raises(UserError, match="the grid sampler needs a `step`"):
        read(file)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_can_be_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    options = ", wrapped: {name: median, n_startup_trials: 2}" if name == "patient" else ""
    file.write_text(f"parameters: {{{GOOD}}}\npruner: {{name: {name}{options}}}")
    study = optuna.create_study(direction="maximize", pruner=make_pruner(read(file)))
    for _ in range(4):
        trial = study.ask()
        for epoch in (1, 2, 3):
            trial.report(0.5, epoch)
            trial.should_prune()
        study.tell(trial, 0.5)


CONDITIONAL = """
parameters:
  targets.sigma_rule: {type: categorical, choices: [area, overlap]}
  targets.sigma_divisor: {type: float, low: 4, high: 40, when: {targets.sigma_rule: area}}
  targets.min_overlap: {type: float, low: 0.3, high: 0.9, when: {targets.sigma_rule: [overlap]}}
"""


def test_a_field_is_varied_only_when_its_condition_holds(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(CONDITIONAL + "sampler: random")
    space = read(file)
    assert set(default_point(space, load())) == {"targets.sigma_rule", "targets.sigma_divisor"}
    seen = set()
    for number in range(12):
        study = optuna.create_study(sampler=make_sampler(space, number=number, seed=0))
        trial = study.ask()
        config = suggest(trial, space, load())
        seen.add(config.targets.sigma_rule)
        other = "sigma_divisor" if config.targets.sigma_rule == "area" else "min_overlap"
        assert set(trial.params) == {"targets.sigma_rule", f"targets.{other}"}
    assert seen == {"area", "overlap"}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{optim.lr: 1.0}", "has to be a categorical field above it"),
        (
            "{targets.sigma_rule: squared}",
            "targets.sigma_rule is never 'squared'; it is one of area, overlap",
        ),
        ("area", "expected `field: value`"),
    ],
)
def test_a_condition_is_checked(condition: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(CONDITIONAL.replace("{targets.sigma_rule: area}", condition))
    with pytest.raises(UserError, match=message):
        read(file)


def test_the_draws_of_a_study_differ_even_with_a_seed_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(f"parameters: {{{GOOD}}}\nsampler: {{name: random, seed: 5}}")
    space = read(file)
    study = optuna.create_study()
    values = []
    for number in range(4):
        study.sampler = make_sampler(space, number=number, seed=0)
        values.append(suggest(study.ask(), space, load()).optim.lr)
    assert len(set(values)) == 4


def test_a_space_without_the_default_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("parameters: {targets.sigma_divisor: {type: float, low: 9, high: 20}}")
    with pytest.raises(
        UserError,
        match=r"sigma_divisor: the config has 8\.0, which is not a number from 9 to 20; it is the first",
    ):
        default_point(read(file), load("default"))
