"""Where a client trains: what `--device` may say, and what is said where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from thinwire.edge_client.devices import devices_of, require_devices, require_own_loop
from thinwire.edge_client.join import serve
from thinwire.edge_client.settings import JoinSettings, UsageError
from thinwire.protocol.exit_codes import Exit


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cpu", ["cpu"]),
        ("cuda", ["cuda"]),
        ("cuda:1", ["cuda:1"]),
        ("cuda:0,1", ["cuda:0", "cuda:1"]),
        ("cuda:2, 0, cuda:1", ["cuda:2", "cuda:0", "cuda:1"]),
        ("cpu,cpu", ["cpu", "cpu"]),
    ],
)
def test_one_or_several_are_named(text: str, found: list[str]) -> None:
    assert devices_of(text) == tuple(map(torch.device, found))


@pytest.mark.parametrize("text", ["", "gpu", "cuda:0,", "0,1", "cuda:x", "cpu;cpu"])
def test_what_is_no_device_is_told(text: str) -> None:
    with pytest.raises(UsageError, match=r"names no device; write cpu"):
        devices_of(text)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_cuda_the_message_says_so_before_anything_else(tmp_path: Path) -> None:
    options = JoinSettings(task="digits", data_dir=tmp_path / "client", device="cuda:0,1")
    code, said = serve("http://127.0.0.1:1", options)
    assert code == Exit.USAGE
    assert said.startswith("--device cuda:0,1: there is no CUDA here")
    assert not (tmp_path / "client").exists()


def test_several_are_for_a_loop_of_the_tasks_own(root: Path, tmp_path: Path) -> None:
    require_devices("cpu,cpu")
    require_own_loop("cpu,cpu", has_fit=True)
    require_own_loop("cpu", has_fit=False)
    code, said = serve(
        "http://127.0.0.1:1", JoinSettings(task="digits", data_dir=tmp_path / "client", device="cpu,cpu")
    )
    assert code == Exit.USAGE
    assert "the task has no fit of its own" in said
