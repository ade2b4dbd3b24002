"""A few architectures in plain torch. Each is a chain of blocks and a head: progressive training cuts it between them.

`model.blocks()` are the blocks in the order of growth, `model.head()` is what follows the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import nn

from .unet import UNet

Shape = tuple[int, ...]


class BlockNet(nn.Sequential):
    """Blocks, then a head; as an `nn.Sequential` it can be cut at any index."""

    def __init__(self, blocks: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__(*blocks, head)

    def blocks(self) -> list[nn.Module]:
        return list(self)[:-1]

    def head(self) -> nn.Module:
        return self[-1]


def mlp(shape: Shape, classes: int, hidden: Sequence[int] = (256, 256)) -> BlockNet:
    """Fully connected with ReLU; 784-256-256-10 has 269,322 parameters. `shape`: of one input."""
    sizes = [_elements(shape), *hidden]
    blocks: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(sizes)):
        first = [nn.Flatten()] if index == 0 else []
        blocks.append(nn.Sequential(*first, nn.Linear(before, after), nn.ReLU()))
    return BlockNet(blocks, nn.Linear(sizes[-1], classes))


def digits_convnet(shape: Shape, classes: int) -> BlockNet:
    """For 8x8 images: conv 16, pool, conv 32, pool, fc 64; 13,706 parameters with one channel and 10 classes."""
    channels, height, width = shape
    blocks = [
        nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(32 * (height // 4) * (width // 4), 64), nn.ReLU()),
    ]
    return BlockNet(blocks, nn.Linear(64, classes))


def cifar_convnet(shape: Shape, classes: int) -> BlockNet:
    """ProgFed's ConvNet for CIFAR-10 (Wang et al., ICML 2022): conv1 | conv2 | conv3 | fc1, head fc2; 122,570
    parameters with three channels, 32x32 and 10 classes.
    """
    channels, height, width = shape
    sides = [((side - 2) // 2 - 2) // 2 - 2 for side in (height, width)]
    blocks = [
        nn.Sequential(nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(64 * sides[0] * sides[1], 64), nn.ReLU()),
    ]
    return BlockNet(blocks, nn.Linear(64, classes))


def emnist_convnet(shape: Shape, classes: int) -> BlockNet:
    """ProgFed's ConvNet for EMNIST (Wang et al., ICML 2022): conv1 | conv2 | fc1, head fc2; 1,206,590 parameters
    with one channel, 28x28 and 62 classes. Without the paper's dropout, so that an outcome is a function of its seed
    alone under every method.
    """
    channels, height, width = shape
    sides = [(side - 4) // 2 for side in (height, width)]
    blocks = [
        nn.Sequential(nn.Conv2d(channels, 32, 3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(64 * sides[0] * sides[1], 128), nn.ReLU()),
    ]
    return BlockNet(blocks, nn.Linear(128, classes))


def conv_net(shape: Shape, classes: int, widths: Sequence[int]) -> BlockNet:
    """Conv2, Conv4, Conv6, Conv10 (Frankle, Carbin 2019; Isik et al. 2023): for each width two 3x3 convolutions and a
    pool, then fc 256, 256; no normalisation. Conv4 on 1x28x28: 1,933,258 parameters, Conv6 on 3x32x32: 2,262,602.
    """
    before, height, width = shape
    blocks: list[nn.Module] = []
    for channels in widths:
        blocks.append(nn.Sequential(nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()))
        blocks.append(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)))
        before, height, width = channels, height // 2, width // 2
    blocks.append(nn.Sequential(nn.Flatten(), nn.Linear(before * height * width, 256), nn.ReLU()))
    blocks.append(nn.Sequential(nn.Linear(256, 256), nn.ReLU()))
    return BlockNet(blocks, nn.Linear(256, classes))


def vgg16(shape: Shape, classes: int, groups: int = 2) -> BlockNet:
    """VGG-16 for small images (Simonyan, Zisserman, ICLR 2015): group normalisation, one linear layer behind the last
    pool; 14,728,266 parameters with three channels and 10 classes.

    Blocks end at max-pools, the first two of which ProgFed (Wang et al., ICML 2022) merges; the head pools globally.
    """
    blocks: list[nn.Module] = []
    before, layers = shape[0], list[nn.Module]()
    for index, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        for _ in range(depth):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.GroupNorm(groups, width), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
        if index > 0:
            blocks.append(nn.Sequential(*layers))
            layers = []
    return BlockNet(blocks, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes)))


class Residual(nn.Module):
    """Two 3x3 convolutions with group normalisation around a shortcut (He et al., CVPR 2016)."""

    def __init__(self, before: int, after: int, stride: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.GroupNorm(groups, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.GroupNorm(groups, after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.GroupNorm(groups, after))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(inputs) + self.shortcut(inputs))


def resnet18(shape: Shape, classes: int, groups: int = 2) -> BlockNet:
    """ResNet-18 for small images: 3x3 stem, group normalisation; 11,220,132 parameters with 100 classes.

    Blocks are the four residual stages, the stem belongs to the first; the head pools globally.
    """
    blocks: list[nn.Module] = []
    before = 64
    for index, width in enumerate((64, 128, 256, 512)):
        stem = [nn.Conv2d(shape[0], 64, 3, padding=1, bias=False), nn.GroupNorm(groups, 64), nn.ReLU()]
        stage = [Residual(before, width, 1 if index == 0 else 2, groups), Residual(width, width, 1, groups)]
        blocks.append(nn.Sequential(*(stem if index == 0 else []), *stage))
        before = width
    return BlockNet(blocks, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes)))


class NextCharacter(nn.Module):
    """Embedding, two LSTM layers and the next character's scores, after LEAF (Caldas et al. 2018, arXiv 1812.01097)."""

    def __init__(self, characters: int, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, 8)
        self.lstm = nn.LSTM(8, width, num_layers=2, batch_first=True)
        self.scores = nn.Linear(width, characters)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.lstm(self.embedding(inputs))
        scores: torch.Tensor = self.scores(hidden[:, -1])
        return scores


def _elements(shape: Shape) -> int:
    return int(torch.Size(shape).numel())


ARCHITECTURES: Final[Mapping[str, Callable[[Shape, int], nn.Module]]] = {
    "mlp": mlp,
    "digits_convnet": digits_convnet,
    "cifar_convnet": cifar_convnet,
    "emnist_convnet": emnist_convnet,
    "conv2": lambda shape, classes: conv_net(shape, classes, (64,)),
    "conv4": lambda shape, classes: conv_net(shape, classes, (64, 128)),
    "conv6": lambda shape, classes: conv_net(shape, classes, (64, 128, 256)),
    "conv10": lambda shape, classes: conv_net(shape, classes, (64, 128, 256, 512, 1024)),
    "vgg16": vgg16,
    "resnet18": resnet18,
    "unet": lambda shape, classes: UNet(shape[0], classes),
    "next_character": lambda shape, classes: NextCharacter(classes),
}
"""By name: the shape of one input (channels, height, width) and the number of outputs -> the model."""
