"""Adapters: what is trained and travels, that a merged model computes the same, and that other programs read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from thinwire.edge_client.adapters import CoreAdapter, add_cores, add_lora, merge_adapters, write_peft
from thinwire.edge_client.cli import app
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.methods.tensors import model_arrays

Adapt = Callable[[nn.Module], nn.Module]
RANK = 3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.attention = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.attention(self.convolution(images).flatten(2).transpose(1, 2))
        found: torch.Tensor = self.head(rows.mean(1))
        return found


NAMES = ["convolution", "attention.linear*", "attention.self_attn.out_proj"]
IMAGES = torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def _net() -> Net:
    torch.manual_seed(0)
    return Net()


def _lora(model: nn.Module) -> nn.Module:
    return add_lora(model, NAMES, rank=RANK, alpha=6.0, also=["head.*"])


def _cores(model: nn.Module) -> nn.Module:
    return add_cores(model, NAMES, rank=RANK, also=["head.*"])


def _trained(model: nn.Module) -> nn.Module:
    """With other numbers in all that is trained."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    return model


kinds = pytest.mark.parametrize("adapt", [_lora, _cores])


@kinds
def test_a_model_begins_as_its_base(adapt: Adapt) -> None:
    assert torch.allclose(adapt(_net())(IMAGES), _net()(IMAGES), atol=1e-6)


def test_what_travels_is_what_is_trained() -> None:
    lora = {name: array.shape for name, array in model_arrays(_lora(_net())).items()}
    assert lora == {
        "convolution.lora_A": (3, 2, 3, 3), "convolution.lora_B": (6, 3, 1, 1),
        "attention.self_attn.out_proj.lora_A": (3, 6), "attention.self_attn.out_proj.lora_B": (6, 3),
        "attention.linear1.lora_A": (3, 6), "attention.linear1.lora_B": (8, 3),
        "attention.linear2.lora_A": (3, 8), "attention.linear2.lora_B": (6, 3),
        "head.weight": (4, 6), "head.bias": (4,),
    }  # fmt: skip
    cores = {name: array.shape for name, array in model_arrays(_cores(_net())).items() if "head" not in name}
    assert set(cores.values()) == {(3, 3)}
    assert len(cores) == 4


@kinds
@pytest.mark.parametrize("training", [True, False])
def test_merged_it_computes_the_same(adapt: Adapt, training: bool) -> None:
    """In evaluation too, where attention reads weights instead of calling layers."""
    model = _trained(adapt(_net())).train(training)
    with torch.no_grad():
        before = model(IMAGES)
        assert not torch.allclose(before, _net()(IMAGES), atol=1e-2)
        merged = merge_adapters(model)
        assert list(merged.state_dict()) == list(_net().state_dict())
        assert torch.allclose(merged(IMAGES), before, atol=1e-5)


@kinds
def test_training_moves_nothing_but_the_adapters(adapt: Adapt) -> None:
    model = _trained(adapt(_net()))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    model(IMAGES).square().mean().backward()
    optimizer.step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == set(model_arrays(model))


def test_the_mean_of_cores_is_the_mean_of_the_products() -> None:
    one, other = (CoreAdapter(_net().head, RANK) for _ in range(2))
    with torch.no_grad():
        one.core.copy_(torch.arange(9.0).view(3, 3))
        other.core.copy_(torch.eye(3))
        mean = (one.delta() + other.delta()) / 2
        one.core.copy_((one.core + other.core) / 2)
    assert torch.allclose(one.delta(), mean, atol=1e-6)


def test_the_singular_vectors_are_those_of_the_base() -> None:
    layer = _net().attention.linear1
    adapter = CoreAdapter(layer, RANK)
    singular = torch.linalg.svdvals(layer.weight.detach())[:RANK]
    found = adapter.left.T @ layer.weight.detach() @ adapter.right.T
    assert torch.allclose(found, torch.diag(singular), atol=1e-5)


@pytest.mark.parametrize(
    ("names", "said"),
    [(["encoder.*"], "there are: convolution, attention.self_attn.out_proj"), (["grouped"], "one group")],
)
def test_what_cannot_be_adapted_is_told(names: list[str], said: str) -> None:
    model = _net()
    model.grouped = nn.Conv2d(4, 4, 3, groups=2)
    with pytest.raises(ValueError, match=said):
        add_lora(model, names)
    with pytest.raises(ValueError, match="no adapters"):
        merge_adapters(_net())


def test_peft_reads_what_is_written(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="the package peft is not installed")
    with pytest.raises(ValueError, match=r"does not see attention\.self_attn\.out_proj"):
        write_peft(_lora(_net()), tmp_path)
    model = _trained(add_lora(_net(), NAMES[:2], rank=RANK, alpha=6.0, also=["head.*"]))
    write_peft(model, tmp_path)
    # Not in evaluation: attention then reads the weights of layers, and theirs say those of the base.
    theirs = peft.PeftModel.from_pretrained(_net(), str(tmp_path)).train()
    with torch.no_grad():
        assert torch.allclose(theirs(IMAGES), model(IMAGES), atol=1e-5)


TASK = """
import torch
from thinwire.edge_client.adapters import add_lora
from thinwire.edge_client.data import Data

def model():
    return add_lora(torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2)), ["0"], rank=2)

def data(client):
    return Data(train=(torch.randn(8, 4), torch.zeros(8, dtype=torch.long)))
"""


def test_a_trained_file_is_merged_and_exported(tmp_path: Path) -> None:
    """What `run pull` gives holds the adapters alone; the base comes from the task file and its seed."""
    task, pulled, merged = tmp_path / "task.py", tmp_path / "pulled.safetensors", tmp_path / "merged.pt"
    task.write_text(TASK)
    arrays = {
        "0.lora_A": np.full((2, 4), 0.5, np.float32), "0.lora_B": np.arange(10, dtype=np.float32).reshape(5, 2)
    }  # fmt: skip
    pulled.write_bytes(model_bytes(arrays))
    given = ["model", "merge", str(pulled), "--task", str(task), "--out", str(merged), "--seed", "3"]
    assert CliRunner().invoke(app, given).exit_code == 0
    torch.manual_seed(3)
    base = torch.nn.Linear(4, 5)
    found = torch.load(merged, weights_only=True)
    assert list(found) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    added = 8.0 * torch.from_numpy(arrays["0.lora_B"] @ arrays["0.lora_A"])
    assert torch.allclose(found["0.weight"], base.weight.detach() + added)
    folder = tmp_path / "peft"
    exported = CliRunner().invoke(app, [*given[:1], "export", *given[2:5], "--peft", str(folder), "--seed", "3"])
    assert exported.exit_code == 0, exported.output
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == ["0"]
    written = read_model(folder / "adapter_model.safetensors")
    assert np.array_equal(written["base_model.model.0.lora_A.weight"], arrays["0.lora_A"])


def test_only_lora_is_written_for_peft(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other adapters"):
        write_peft(_cores(_net()), tmp_path)
    with pytest.raises(ValueError, match="no adapters"):
        write_peft(_net(), tmp_path)
