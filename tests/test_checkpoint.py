from pathlib import Path

import pytest
import torch

from centernet import checkpoint
from centernet.ema import Ema
from centernet.errors import UserError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = {"a/b": torch.randn(3, 4).t(), "c": torch.arange(5), "d": torch.tensor(1.5)}
    record = {"text": "ü", "list": [1, None, {"x": 0.1}]}
    checkpoint.write(tmp_path / "x.safetensors", tensors, record)
    read, found = checkpoint.read(tmp_path / "x.safetensors")
    assert found == record
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert checkpoint.digest(read) == checkpoint.digest(tensors)


def test_the_digest_sees_a_single_bit() -> None:
    a = {"x": torch.zeros(1000)}
    b = {"x": torch.zeros(1000)}
    b["x"][500] = -0.0
    assert checkpoint.digest(a) != checkpoint.digest(b)
    assert checkpoint.digest(a) != checkpoint.digest({"y": a["x"]})


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.safetensors"
    checkpoint.write(file, {"a": torch.ones(2)}, {"v": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(file, {"a": torch.zeros(2)}, {"v": 2})
    assert checkpoint.read(file)[1] == {"v": 1}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x80\x02}q\x00."])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match="x: not a checkpoint"):
        checkpoint.read(tmp_path / "x")
    with pytest.raises(UserError, match="gone: no such file"):
        checkpoint.read(tmp_path / "gone")


def test_the_average_equals_its_formula_batch_norm_included() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    ema = Ema(model, decay=0.5)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(8, 2))
        ema.update(model)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            floating = value.is_floating_point()
            expected[name] = (
                expected[name] * decay + value * (1 - decay) if floating else value.clone()
            )
    for name, value in ema.model.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-5), name
    assert not ema.model.training
