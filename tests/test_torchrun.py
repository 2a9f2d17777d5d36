"""What torchrun puts into the environment, where somebody else put something there."""

import pytest
import torch

from centernet import seed
from centernet.distributed import joined
from centernet.errors import UserError

RIGHT = {
    "TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "1",
    "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
}  # fmt: skip


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.5", "9" * 5000], ids=lambda text: text[:9])
def test_a_number_of_processes_that_is_none_is_one_line(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", text)
    with pytest.raises(UserError, match=r"^LOCAL_WORLD_SIZE .* whole number from 1, .{0,80}$"):
        seed.cores()


@pytest.mark.parametrize("name", [name for name in RIGHT if name != "TORCHELASTIC_RUN_ID"])
def test_a_variable_of_torchrun_that_is_missing_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other, value in RIGHT.items():
        monkeypatch.setenv(other, value)
    monkeypatch.delenv(name)
    with pytest.raises(UserError, match=f"^{name} "), joined(torch.device("cpu")):
        pass
