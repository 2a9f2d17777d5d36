from pathlib import Path

import optuna
import pytest

from centernet.config import field_paths, flatten
from centernet.errors import UserError
from centernet.presets import load
from experiments.search_space import read
from experiments.settings import Settings
from experiments.study.methods import PRUNERS, SAMPLERS, exhausted, make_pruner, make_sampler
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
    "optim.lr: hihg is not an option of a float; did you mean high?": "parameters: {optim.lr: {type: float, low: 1, hihg: 2}}",
    "optim.lr: low: a float needs a number, got '1e-5'": "parameters: {optim.lr: {type: float, low: 1e-5, high: 1}}",
    "augment.flip_p: Input should be less than or equal to 1": "parameters: {augment.flip_p: {type: float, low: 0, high: 2}}",
    "choices: expected a list": "parameters: {loss.size_loss: {type: categorical}}",
    "nothing varies": "parameters: {optim.lr: 1.0e-3}",
    "expected at least one": "sampler: tpe",
    "a search space has no paramters; did you mean parameters?": "paramters: {}",
    "enqueue: loss.size_weight is not varied": f"parameters: {{{GOOD}}}\nenqueue: [{{loss.size_weight: 1.0}}]",
    "enqueue: optim.lr: 5.0 is outside": f"parameters: {{{GOOD}}}\nenqueue: [{{optim.lr: 5.0}}]",
    "budget: trails is not a limit; did you mean trials?": f"parameters: {{{GOOD}}}\nbudget: {{trails: 3}}",
    "budget: hours: expected a number above 0": f"parameters: {{{GOOD}}}\nbudget: {{hours: -1}}",
    "trials: expected a whole number above 0, got 0": f"parameters: {{{GOOD}}}\nbudget: {{trials: 0}}",
    "finals: seed is no option; did you mean seeds?": f"parameters: {{{GOOD}}}\nfinals: {{seed: 3}}",
    "finals: seeds: expected a whole number from 1, got 0": f"parameters: {{{GOOD}}}\nfinals: {{seeds: 0}}",
    "objectives: loss is none": f"parameters: {{{GOOD}}}\nobjectives: [AP, loss]",
    "AP comes first": f"parameters: {{{GOOD}}}\nobjectives: [latency_ms]",
    "latency is not a cost; did you mean latency_ms?": f"parameters: {{{GOOD}}}\nconstraints: {{latency: 9}}",
    "constraints: latency_ms: expected a number above 0": f"parameters: {{{GOOD}}}\nconstraints: {{latency_ms: -1}}",
    "not YAML": "parameters: {",
    "model.channels: Input should be a multiple of 8": "parameters: {model.channels: {type: int, low: 32, high: 64}}",
    "enqueue: optim.batch_size: 8.0 is outside": "parameters: {optim.batch_size: {type: int, low: 4, high: 9}}\nenqueue: [{optim.batch_size: 8.0}]",
    "data.folder: it is the same for all trials": "parameters: {data.folder: {type: categorical, choices: [a, b]}}",
    "type is one of float": "parameters: {optim.lr: {type: [float], low: 1, high: 2}}",
    "step: a int needs a number, got 0.5": "parameters: {optim.batch_size: {type: int, low: 4, high: 9, step: 0.5}}",
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_a_mistake_is_one_line_that_names_the_file(message: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(BAD[message])
    with pytest.raises(UserError) as error:
        read(file)
    assert str(error.value).startswith(str(file)) and message in str(error.value)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("sampler: tbe", "no sampler is named tbe; did you mean tpe?"),
        (
            "sampler: {name: tpe, n_startup: 3}",
            "tpe has no n_startup; did you mean n_startup_trials?",
        ),
        ("pruner: {name: median, n_warmup_step: 3}", "median has no n_warmup_step; did you mean"),
    ],
)
def test_samplers_and_pruners_are_checked(section: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(f"parameters: {{{GOOD}}}\n{section}")
    space = read(file)
    with pytest.raises(UserError, match=message):
        make_sampler(space, number=0, seed=0)
        make_pruner(space)


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
        make_sampler(read(file), number=0, seed=0)


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
        ("{targets.sigma_rule: squared}", "targets.sigma_rule is never 'squared'"),
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
    with pytest.raises(UserError, match=r"the default, 8\.0, is outside of its range"):
        default_point(read(file), load("default"))
