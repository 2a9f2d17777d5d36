from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centernet.config import Config, field_paths, flatten, nest, resolve
from centernet.errors import UserError
from centernet.presets import PRESETS, load, parse_overrides


def test_the_defaults_are_the_missions() -> None:
    config = Config()
    assert (config.loss.heatmap_weight, config.loss.size_weight, config.loss.offset_weight) == (
        1,
        0.1,
        0.1,
    )
    assert (config.targets.sigma_rule, config.targets.sigma_divisor) == ("area", 6)
    assert config.augment.motion_blur_p == 0.2
    assert config.augment.hue_saturation_value_p == 0.3
    assert config.augment.random_gamma_p == 0.2
    assert config.augment.rotate_limit == 15


@pytest.mark.parametrize("file", sorted(PRESETS.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_preset_loads_by_name_and_by_path(file: Path) -> None:
    assert load(file.stem) == load(str(file))


def test_flatten_and_nest_are_inverse() -> None:
    tree = Config().model_dump()
    assert nest(flatten(tree)) == tree
    assert resolve(flatten(tree)) == Config()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 1}, "lr is not a config field; did you mean optim.lr?"),
        ({"train.lr": 1}, "train.lr is not a config field; did you mean optim.lr?"),
        ({"optm.lrr": 1}, "optm.lrr is not a config field; did you mean optim.lr?"),
        ({"optim.learning_rate": 1}, "optim.learning_rate is not a config field; optim has name, lr,"),
        ({"ln": 1}, "ln is not a config field (SECTION.NAME of data, model, targets,"),
        ({"targets.sigma_divsor": 6.0}, "targets.sigma_divsor is not a config field; did you mean targets.sigma_divisor?"),
        ({"optim.lr": "fast"}, "optim.lr: Input should be a valid number, got 'fast'"),
        ({"augment.rotate_limit": 20.0}, "augment.rotate_limit: Input should be less than or equal to 15"),
        ({"data.height": 100}, "data.height: Input should be a multiple of 32"),
        ({"loss.size_weight": float("nan")}, "loss.size_weight: Input should be a finite number"),
        ({"optim.lr": "1e-3"}, "optim.lr: YAML reads 1e-3 as text; write 1.0e-3"),
        ({"optim.batch_size": True}, "optim.batch_size: Input should be a valid integer"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_rule(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["loss: [1, 2", "- a\n- b", "1: 2", "loss: {size_weight: 1.0, size_weight: 2.0}", "\t:", "a: &x [*x]"]
)  # fmt: skip
def test_a_broken_yaml_file_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load(str(file))
    assert str(error.value).startswith(str(file))


def test_overrides_are_read_as_yaml() -> None:
    assert parse_overrides(["a=1.0e-3", "b=true", "c=x=y"]) == {"a": 1e-3, "b": True, "c": "x=y"}
    with pytest.raises(UserError, match="expected FIELD=VALUE"):
        parse_overrides(["nothing"])


@given(
    st.sampled_from(field_paths()),
    st.one_of(st.none(), st.text(), st.floats(), st.lists(st.integers())),
)
def test_any_value_for_any_field_is_accepted_or_a_user_error(path: str, value: object) -> None:
    try:
        resolve({path: value})
    except UserError as error:
        assert "\n" not in str(error) or "\\n" in str(error)
