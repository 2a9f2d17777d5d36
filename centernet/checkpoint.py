"""Weights and training state on disk: safetensors with JSON beside them, never pickled code.

Two kinds of file. `last.safetensors` is all that a training needs to go on exactly; weights files
(`best.safetensors`) are all that `predict` needs: EMA weights, classes, geometry.
"""

import json
import os
import tempfile
from base64 import b64encode
from hashlib import sha256  # twice as fast as blake2b where the processor knows it
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from centernet import files
from centernet.errors import UserError
from centernet.finite import refuse_not_finite
from centernet.wording import LONGEST, brief

Tensors = dict[str, Tensor]
LAST, BEST = "last.safetensors", "best.safetensors"
FORMAT = 2  # raise it when the same tensors come to mean something else


def write(file: Path, tensors: Tensors, record: dict[str, Any]) -> None:
    """Write tensors and a JSON record to one file, which is there whole or not at all.

    A tensor that has several names, as layers may share one, is written under each.
    """
    own: Tensors = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        one = tensor.detach().cpu().contiguous()
        own[name] = one.clone() if one.data_ptr() in seen else one
        seen.add(one.data_ptr())
    write_bytes(file, save(own, {"record": json.dumps(record)}))


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file atomically: temporary file, fsync, rename, fsync of the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(scratch).chmod(0o644)
        Path(scratch).replace(file)
    except BaseException:
        Path(scratch).unlink()
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(file: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and record of a file that `write` wrote; UserError for any other.

    Also for one with a number that is not finite: its network would find nothing, in silence.
    """
    try:
        files.check(file)
        with safe_open(file, framework="pt") as stream:
            record = dict(json.loads((stream.metadata() or {})["record"]))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{file}: is a folder; its {BEST} is wanted") from None
    except OSError as error:
        raise UserError(f"{file}: {files.reason(error)}") from None
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError):
        raise UserError(f"{file}: not a checkpoint of this program") from None
    for name, tensor in tensors.items():
        refuse_not_finite(tensor, name, str(file))
    return tensors, record


def is_ours(file: Path) -> bool:
    """Whether `write` wrote this file, as far as its header says."""
    try:
        files.check(file)
        with safe_open(file, framework="pt") as stream:
            return "record" in (stream.metadata() or {})
    except (SafetensorError, OSError):
        return False


def expect(file: Path, record: dict[str, Any], kind: str) -> None:
    """UserError unless the record is of this kind and format."""
    if record.get("kind") != kind:
        raise UserError(f"{file}: holds {str(record.get('kind'))[:LONGEST]}, not {kind}")
    if record.get("format") != FORMAT:
        raise UserError(
            f"{file}: format {brief(record.get('format'))}; this program reads {FORMAT}"
        )


def digest(*groups: Tensors) -> str:
    """Digest of named tensors, bit for bit."""
    return combined(digests(*groups))


def digests(*groups: Tensors) -> list[bytes]:
    """A digest of each tensor with its name, type and shape; by name within each group."""
    return [digest_one(name, tensors[name]) for tensors in groups for name in sorted(tensors)]


def digest_one(name: str, tensor: Tensor) -> bytes:
    """Digest of one named tensor, bit for bit."""
    content = tensor.detach().cpu().contiguous()
    found = sha256(f"{name} {content.dtype} {tuple(content.shape)}".encode())
    found.update(content.reshape(-1).view(torch.uint8).numpy().data)
    return found.digest()


def combined(digests: list[bytes]) -> str:
    """One digest of them all."""
    return sha256(b"".join(digests)).hexdigest()[:32]


def short(digests: list[bytes]) -> str:
    """Four characters (24 bits) of each: enough to say which tensor is another."""
    return "".join(b64encode(digest[:3]).decode() for digest in digests)


def names(file: Path) -> list[str]:
    """Names of a training's tensors, in the order of `digests(model, ema)`; none if it has none."""
    try:
        files.check(file)
        with safe_open(file, framework="pt") as stream:
            found = sorted(stream.keys())
    except (SafetensorError, OSError):
        return []
    return [name for group in ("model/", "ema/") for name in found if name.startswith(group)]


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    """The tensors under `prefix/name`."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Tensors) -> Tensors:
    """The inverse of `prefixed`."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's state as `index/name` tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}/{name}": torch.as_tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put `optimizer_tensors` back, each laid out in memory as its parameter is.

    The fused optimizers walk parameter and state together, by address.
    """
    groups = optimizer.state_dict()["param_groups"]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, Tensors] = {}
    for path, tensor in tensors.items():
        index, name = path.split("/")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
