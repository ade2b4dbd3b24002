"""Architectures have the numbers of parameters that their papers state, whole and cut."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thinwire.edge_client.problems.architectures import ARCHITECTURES, BlockNet
from thinwire.edge_client.problems.unet import UNet


def _count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


COUNTS = [
    ("cifar_convnet", (3, 32, 32), 10, 122_570),
    ("emnist_convnet", (1, 28, 28), 62, 1_206_590),
    ("resnet18", (3, 32, 32), 100, 11_220_132),
    ("vgg16", (3, 32, 32), 10, 14_728_266),
    ("mlp", (1, 28, 28), 10, 269_322),
    ("conv4", (1, 28, 28), 10, 1_933_258),
    ("conv6", (3, 32, 32), 10, 2_262_602),
    ("conv10", (3, 32, 32), 100, 19_197_092),
    ("digits_convnet", (1, 8, 8), 10, 13_706),
]


@pytest.mark.parametrize(("name", "shape", "classes", "parameters"), COUNTS, ids=[row[0] for row in COUNTS])
def test_the_count_is_the_published_one(name: str, shape: tuple[int, ...], classes: int, parameters: int) -> None:
    assert _count(ARCHITECTURES[name](shape, classes)) == parameters


@pytest.mark.parametrize(
    ("name", "shape", "classes", "stages"),
    [
        ("cifar_convnet", (3, 32, 32), 10, [1_226, 20_042, 56_970]),
        ("emnist_convnet", (1, 28, 28), 62, [2_366, 22_846]),
        ("resnet18", (3, 32, 32), 100, [156_324, 688_292, 2_800_804]),
    ],
)
def test_each_sub_model_with_a_pooled_linear_head_has_the_published_count(
    name: str, shape: tuple[int, ...], classes: int, stages: list[int]
) -> None:
    model = ARCHITECTURES[name](shape, classes)
    assert isinstance(model, BlockNet)
    features = torch.zeros(2, *shape)
    for index, parameters in enumerate(stages):
        features = model.blocks()[index](features)
        head = features.shape[1] * classes + classes
        assert _count(*model.blocks()[: index + 1]) + head == parameters


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in ("unet", "next_character", "conv10")])
def test_blocks_and_head_are_the_model(name: str) -> None:
    shape = (1, 8, 8) if name == "digits_convnet" else (3, 32, 32)
    torch.manual_seed(0)
    model = ARCHITECTURES[name](shape, 7).eval()
    assert isinstance(model, BlockNet)
    inputs = torch.rand(2, *shape)
    hidden = inputs
    for block in model.blocks():
        hidden = block(hidden)
    assert torch.equal(model.head()(hidden), model(inputs))
    assert model(inputs).shape == (2, 7)


def test_a_u_net_gives_a_map_of_the_size_of_its_input() -> None:
    model = UNet(3, 2, base=4)
    assert model(torch.rand(2, 3, 32, 48)).shape == (2, 2, 32, 48)


def test_a_u_net_that_has_not_grown_uses_only_its_outer_levels() -> None:
    torch.manual_seed(0)
    model = UNet(3, 1, base=4)
    inputs = torch.rand(2, 3, 16, 16)
    for stage in range(1, len(model.blocks()) + 1):
        model.zero_grad()
        model.forward_stage(inputs, stage).sum().backward()
        for index, block in enumerate(model.blocks()):
            used = any(p.grad is not None for p in block.parameters())
            assert used == (index < stage)


def test_the_innermost_level_s_missing_input_is_zeros() -> None:
    torch.manual_seed(0)
    model = UNet(3, 1, base=4, levels=1)
    inputs = torch.rand(1, 3, 8, 8)
    alone = model.forward_stage(inputs, 1)
    up = model.blocks()[1].up
    assert isinstance(up, nn.ConvTranspose2d)
    assert up.bias is not None
    nn.init.zeros_(up.weight)
    nn.init.zeros_(up.bias)
    assert torch.equal(model(inputs), alone)
