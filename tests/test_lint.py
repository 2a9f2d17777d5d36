from pathlib import Path

import pytest

from centernet.config import resolve
from centernet.presets import load
from experiments.lint import lint
from experiments.search_space import read

REPOSITORY = Path(__file__).resolve().parents[1]
SIGMA = "targets.sigma_divisor: {type: float, low: 4, high: 40, log: true}"
WEIGHT = "{type: float, low: 0.02, high: 2, log: true}"
UNWISE = {
    "all three loss weights vary": f"parameters: {{loss.heatmap_weight: {WEIGHT}, loss.size_weight: {WEIGHT}, loss.offset_weight: {WEIGHT}}}",
    "loss.size_weight: 0.02 to 2 on a linear scale": "parameters: {loss.size_weight: {type: float, low: 0.02, high: 2}}",
    "its first 10 trials are drawn at random, and there are 8": f"parameters: {{{SIGMA}}}\nbudget: {{trials: 8}}",
    "n_warmup_steps 30 is not below the 30 epochs": f"parameters: {{{SIGMA}}}\npruner: {{name: median, n_warmup_steps: 30}}",
    "min_resource 40 is not below": f"parameters: {{{SIGMA}}}\npruner: {{name: halving, min_resource: 40}}",
    "hyperband has 4 brackets here; 20 trials are few, 24 would do": f"parameters: {{{SIGMA}}}\npruner: hyperband",
    "the grid has up to 100 points, the budget 20": "parameters: {optim.warmup_steps: {type: int, low: 0, high: 99}}\nsampler: grid\npruner: none",
    "multivariate TPE needs group: true": "parameters: {targets.sigma_rule: {type: categorical, choices: [area, overlap]}, targets.min_overlap: {type: float, low: 0.3, high: 0.9, when: {targets.sigma_rule: overlap}}}\nsampler: {name: tpe, multivariate: true}",
    "until_plateau looks at 10 trials": f"parameters: {{{SIGMA}}}\nsampler: random\nbudget: {{trials: 9, until_plateau: true}}",
}  # fmt: skip


@pytest.mark.parametrize("remark", UNWISE)
def test_an_unwise_space_gets_its_remark_and_no_other(remark: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(UNWISE[remark])
    found = lint(read(file), load())
    assert len(found) == 1 and remark in found[0]


def test_trials_that_are_hardly_evaluated_are_not_pruned(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(f"parameters: {{{SIGMA}}}")
    base = resolve({"train.epochs": 10, "train.evaluate_every": 9})
    assert lint(read(file), base) == [
        "pruner: a trial is evaluated 2 times: too seldom to save much"
    ]


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "search_spaces").glob("*.yaml")), ids=lambda f: f.stem
)
def test_the_shipped_spaces_are_wise(file: Path) -> None:
    space = read(file)
    assert lint(space, load(space.config, space.pinned)) == []
