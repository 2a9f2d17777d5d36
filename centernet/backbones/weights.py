"""Initial weights of a backbone: downloaded, packaged or from a file, never unpickled."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from centernet import files
from centernet.errors import UserError, one_line
from centernet.finite import refuse_not_finite

Tensors = dict[str, Tensor]
Pretrained = Literal[False] | str  # from scratch, IMAGENET, or a file's path
IMAGENET = "imagenet"
TIMM = "timm>=1.0.31"  # the extra of pyproject.toml
PACKAGED = "efficientnet_lite0, 1 and 2 have packaged weights"


def initialise(
    backbone: nn.Module,
    net: nn.Module,
    pretrained: Pretrained,
    imagenet: Callable[[], Tensors] | None = None,
) -> None:
    """Give `backbone`, parts of a library's `net`, the weights that `pretrained` names.

    The weights have the names of `net`; its other parts, the classifier, may be missing.
    """
    if pretrained is False:
        return
    if pretrained != IMAGENET:
        fill(backbone, net, read(Path(pretrained)), source=pretrained)
    else:
        assert imagenet is not None, "check_backbone"
        fill(backbone, net, imagenet(), source=IMAGENET)


@torch.no_grad()
def fill(backbone: nn.Module, net: nn.Module, tensors: Tensors, *, source: str) -> None:
    """Copy the tensors of `backbone`, by their names in `net`; all of them, or UserError."""
    wanted = {id(tensor) for tensor in backbone.state_dict(keep_vars=True).values()}
    given = {flat(name): tensor for name, tensor in tensors.items()}
    pairs: list[tuple[Tensor, Tensor]] = []
    for name, own in net.state_dict(keep_vars=True).items():
        if id(own) not in wanted:
            continue
        found = given.get(flat(name))
        if found is None and name.endswith("num_batches_tracked"):
            continue  # files from before torch 0.4.1 have none, and nothing depends on it
        if found is None:
            raise UserError(f"model.pretrained: {source}: has no {name}: another network's weights")
        if found.shape != own.shape:
            raise UserError(
                f"model.pretrained: {source}: {name} is {list(found.shape)}, and "
                f"{list(own.shape)} in this network"
            )
        refuse_not_finite(found, name, f"model.pretrained: {source}")
        pairs.append((own, found))
    for own, found in pairs:
        own.copy_(found)


def flat(name: str) -> str:
    """A tensor's name as timm's feature extractors have it, and as its whole networks have it.

    `stages_0.x`, `model.stages.0.x` and `body.stages.0.x` are `stages.0.x`, `body_x` is `body.x`.
    """
    return re.sub(r"^(model|body)[._]", "", name).replace(".", "_")


def read(file: Path) -> Tensors:
    """Named tensors of a safetensors file or a .pth; UserError for anything else."""
    try:
        files.check(file)
        found: Any = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError:
        raise UserError(f"model.pretrained: {file}: no such file") from None
    except Exception:  # a broken or hostile file makes these readers raise almost anything
        raise UserError(
            f"model.pretrained: {file}: neither safetensors nor a .pth of tensors alone"
        ) from None
    for wrapper in ("state_dict", "model"):  # as training programs wrap it
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict):
        raise UserError(f"model.pretrained: {file}: holds no named tensors")
    return {
        str(name).removeprefix("module."): value
        for name, value in found.items()
        if isinstance(value, Tensor)
    }


def from_torchvision(name: str) -> Tensors:
    """torchvision's ImageNet weights, fetched as the user asked."""
    from torchvision import models

    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    found: Tensors = fetch(
        weights.url, lambda: weights.get_state_dict(check_hash=True, weights_only=True)
    )
    return found


def from_timm(name: str) -> Tensors:
    """timm's ImageNet weights, fetched as the user asked."""
    timm = import_timm(f"model.pretrained: {IMAGENET}, for {name},")
    net = from_hub(f"timm's {name}", lambda: timm.create_model(name, pretrained=True))
    found: Tensors = net.state_dict()
    return found


def import_timm(wanted: str) -> Any:
    """The package timm; UserError where it is not installed."""
    try:
        import timm
    except ModuleNotFoundError:
        raise UserError(f"{wanted} needs the package timm: pip install '{TIMM}'") from None
    return timm


def from_hub(what: str, download: Callable[[], Any]) -> Any:
    """As `fetch`, of Hugging Face's hub, whose library tries ten times if it does not answer.

    It is asked once before, and if it is silent, only what was fetched earlier is looked for.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=5).close()  # noqa: S310
    except HTTPError:
        pass  # an answer
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        return fetch(what, download)
    finally:
        constants.HF_HUB_OFFLINE = before


def fetch(what: str, download: Callable[[], Any]) -> Any:
    """What `download` brings; UserError says what to do where it brings nothing."""
    for library in ("huggingface_hub", "timm"):  # which would tell of each of ten tries
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        return download()
    except Exception as error:  # each library, and each of its HTTP clients, has its own
        reason = one_line(str(error)).split("; ")[0][:120]
        raise UserError(
            f"model.pretrained: {what} could not be fetched ({reason}); set it to a file that was "
            f"downloaded elsewhere (.safetensors, .pth) or to false; {PACKAGED}"
        ) from None
