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
        ({"optim.lr": "fast"}, "optim.lr: expected a number above 0, got 'fast'"),
        ({"optim.lr": None}, "optim.lr: expected a number above 0, got null"),
        ({"augment.rotate_limit": 20.0}, "augment.rotate_limit: expected a number from 0 to 15, got 20.0"),
        ({"data.height": 63}, "data.height: expected a whole number from 64 to 4096, a multiple of 32, got 63"),
        ({"loss.size_weight": float("nan")}, "loss.size_weight: expected a number from 0, got nan"),
        ({"optim.milestones": [0.5, 2.0]}, "optim.milestones: expected a list of a number above 0 and below 1, got [0.5, 2.0]"),
        ({"data.resize": "fit"}, "data.resize: expected letterbox or stretch, got 'fit'"),
        ({"model.pretrained": "false"}, "model.pretrained: false (no quotes), imagenet, or a"),
        ({"data.folder": "a\0b"}, r"data.folder: 'a\x00b' can be no name of a file"),
        ({"data.follow_links": ["/", "\ud800"]}, r"data.follow_links: '\ud800' can be no name of a file"),
        ({"": 5}, "'' is not a config field"),
        ({"optim.lr": "1e-3"}, "optim.lr: YAML reads 1e-3 as text; write 1.0e-3"),
        ({"optim.batch_size": True}, "optim.batch_size: expected a whole number from 1 to 65536, got true"),
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


@pytest.mark.parametrize(
    "text", ["optim.lr: 0.1\noptim: {lr: 0.2}", "optim: {lr: 0.2}\noptim.lr: 0.1"]
)
def test_a_field_in_two_spellings_is_given_twice(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml: optim\.lr is given twice"):
        load(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    "value",
    ["[" * 3000, "9" * 5000, "x" * 3000, "[" + "1, " * 2000 + "1]"],
    ids=lambda text: text[:9],
)
@pytest.mark.parametrize(
    "path", ["optim.lr", "data.cache_mb", "f" * 3000], ids=lambda text: text[:9]
)
def test_a_mistake_of_thousands_of_characters_is_told_in_a_few(path: str, value: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(parse_overrides([f"{path}={value}"]))
    assert len(str(error.value)) < 300
