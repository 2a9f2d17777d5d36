"""Optimizers and schedules by name; the learning rate of a step and of a batch."""

import pytest
import torch
from torch import nn

from centernet.ema import Ema
from centernet.optim import OPTIMIZERS, SCHEDULES, learning_rate, parameter_groups, peak_rate


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_warms_up_to_its_peak_and_only_falls_after(schedule: str) -> None:
    options = {"schedule": schedule, "milestones": [0.5, 0.8], "factor": 0.1}
    rates = [learning_rate(step, 100, peak=2.0, warmup=10, **options) for step in range(1, 101)]
    assert rates[9] == 2.0 and rates[0] == 0.2
    assert rates[:10] == sorted(rates[:10]) and rates[9:] == sorted(rates[9:], reverse=True)
    assert learning_rate(1, 3, peak=2.0, warmup=100, **options) == 2.0  # never eats the training
    assert learning_rate(1, 1, peak=2.0, warmup=0, **options) >= 0


def test_cosine_ends_at_zero_and_steps_fall_at_fractions_of_the_training() -> None:
    assert learning_rate(100, 100, peak=2.0, warmup=10) == pytest.approx(0)
    assert learning_rate(55, 100, peak=2.0, warmup=10) == pytest.approx(1)
    options = {"schedule": "step", "milestones": [0.8, 0.5], "factor": 0.1}
    rates = [learning_rate(step, 100, peak=1.0, warmup=0, **options) for step in (50, 51, 80, 81)]
    assert rates == pytest.approx([1, 0.1, 0.1, 0.01])


def test_the_rate_follows_the_batch_by_each_optimizers_rule_only_if_asked() -> None:
    rates = {
        name: peak_rate(0.01, optimizer=name, batch_size=64, lr_batch=16) for name in OPTIMIZERS
    }
    assert rates == {"adamw": pytest.approx(0.02), "sgd": pytest.approx(0.04)}
    for name in OPTIMIZERS:
        assert peak_rate(0.01, optimizer=name, batch_size=64, lr_batch=None) == 0.01
        assert peak_rate(0.01, optimizer=name, batch_size=64, lr_batch=64) == 0.01


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({
        "backbone": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
        "size": nn.Conv2d(2, 1, 1),
    })  # fmt: skip


def test_every_parameter_is_in_one_group_and_norms_and_biases_decay_only_if_asked() -> None:
    model = network()
    for decay_norms in (False, True):
        groups = parameter_groups(
            model, weight_decay=0.1, decay_norms=decay_norms, backbone_lr_factor=0.5
        )
        found = [id(p) for group in groups for p in group["params"]]
        assert sorted(found) == sorted(map(id, model.parameters()))
        for group in groups:
            for p in group["params"]:
                assert group["weight_decay"] == (0.1 if p.ndim > 1 or decay_norms else 0.0)
        backbone = {id(p) for p in model["backbone"].parameters()}  # type: ignore[index]
        for group in groups:
            inside = {id(p) in backbone for p in group["params"]}
            assert inside == {group["factor"] == 0.5}


def test_a_layer_scale_is_a_vector_whatever_its_shape_and_a_kernel_is_none() -> None:
    decays = {
        (96, 1, 1): False, (5,): False, (): False, (1, 8, 3, 3): True, (1, 8, 1, 1): True, (4, 6): True,
    }  # fmt: skip
    model = nn.ParameterList(torch.ones(shape) for shape in decays)
    groups = parameter_groups(model, weight_decay=0.1, decay_norms=False, backbone_lr_factor=1.0)
    found = {tuple(p.shape): g["weight_decay"] > 0 for g in groups for p in g["params"]}
    assert found == decays


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_equals_torchs_plain_one(name: str, momentum: float) -> None:
    ours, theirs = nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False)
    theirs.load_state_dict(ours.state_dict())
    groups = [{"params": list(ours.parameters()), "weight_decay": 0.1}]
    optimizer = OPTIMIZERS[name].build(groups, momentum=momentum, nesterov=True)
    plain = {
        "adamw": lambda p: torch.optim.AdamW(p, betas=(momentum, 0.999), weight_decay=0.1),
        "sgd": lambda p: torch.optim.SGD(
            p, momentum=momentum, nesterov=momentum > 0, weight_decay=0.1
        ),
    }[name](theirs.parameters())
    for step in range(4):
        for model, one in ((ours, optimizer), (theirs, plain)):
            for group in one.param_groups:
                group["lr"] = 0.1
            one.zero_grad()
            model(torch.full((2, 3), 1.0 + step)).square().mean().backward()
            one.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)


def test_the_average_follows_its_warm_up_and_with_decay_0_is_the_model_itself() -> None:
    model = network()
    none, slow, full = (
        Ema(model, decay=decay, warmup=warmup) for decay, warmup in ((0, 10), (0.9, 10), (0.9, 1))
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    for ema in (none, slow, full):
        ema.update(model)
    for name, value in model.state_dict().items():
        assert torch.equal(none.model.state_dict()[name], value)
    bias, before = model["size"].bias.item(), model["size"].bias.item() - 1  # type: ignore[index,union-attr]
    assert slow.model["size"].bias.item() == pytest.approx(0.1 * before + 0.9 * bias)  # type: ignore[index,union-attr]
    assert full.model["size"].bias.item() == pytest.approx(0.9 * before + 0.1 * bias)  # type: ignore[index,union-attr]
