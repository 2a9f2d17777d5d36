from dataclasses import dataclass

from experiments.promote import decide


@dataclass(frozen=True)
class Model:
    value: float
    data: str = "d"


def test_only_a_better_model_on_the_same_images_becomes_champion() -> None:
    assert decide(Model(10), None).promote
    assert decide(Model(11), Model(10)).promote
    assert not decide(Model(10), Model(11)).promote
    assert not decide(Model(10), Model(10)).promote
    other = decide(Model(99, "e"), Model(10))
    assert not other.promote and "other val images" in other.why
