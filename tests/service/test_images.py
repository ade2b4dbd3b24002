"""The images of `deploy/`: built, and a run in them, by an engine on this machine. No engine or base image: skipped.

`THINWIRE_ENGINE`: the engine and its options, default `podman`. `THINWIRE_BASE_IMAGE`: a local image with Python, since
nothing is pulled. `THINWIRE_BUILD`: further options of `build`, such as the volumes that bring an index of packages.
`THINWIRE_RUN`: further options of `run`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

ENGINE: Final = shlex.split(os.environ.get("THINWIRE_ENGINE", "podman"))
FURTHER: Final = {word: shlex.split(os.environ.get(f"THINWIRE_{word.upper()}", "")) for word in ("build", "run")}
ROLES: Final = ("coordinator", "client")
EXAMPLE: Final = "time_series.py"
PORT: Final = 8080
SHUT_IN: Final = [
    "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all",  # noqa: S108
    "--security-opt", "no-new-privileges", "--network", "host",
]  # fmt: skip

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


def engine(*words: str, check: bool = True) -> str:
    """What the engine prints."""
    done = subprocess.run([*ENGINE, *words], capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0 or not check, f"{shlex.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def images(root: Path) -> dict[str, str]:
    """Both images by their role, built from the checkout."""
    base = os.environ.get("THINWIRE_BASE_IMAGE")
    if shutil.which(ENGINE[0]) is None:
        pytest.skip(f"{ENGINE[0]} is not on this machine")
    if base is None:
        pytest.skip("THINWIRE_BASE_IMAGE names no image on this machine that has Python")
    for role in ROLES:
        options = ["--format", "docker", "--build-arg", f"BASE={base}", *FURTHER["build"]]
        file = str(root / "deploy" / f"{role}.Containerfile")
        engine("build", *options, "-f", file, "-t", f"localhost/thinwire-{role}", str(root))
    return {role: f"localhost/thinwire-{role}" for role in ROLES}


@pytest.fixture
def volumes() -> Iterator[dict[str, str]]:
    """A volume of each role, and what was started is gone behind the test."""
    named = {role: f"thinwire-test-{role}" for role in ROLES}
    yield named
    for name in named.values():
        engine("rm", "--force", name, check=False)
        engine("volume", "rm", "--force", name, check=False)


def start(role: str, images: dict[str, str], volumes: dict[str, str], given: Sequence[str] = (), *words: str) -> None:
    """A container of this role, called as its volume; `given`: further options, `words`: its command."""
    name = volumes[role]
    options = ["--detach", "--name", name, "--volume", f"{name}:/data", *SHUT_IN, *FURTHER["run"], *given]
    engine("run", *options, images[role], *words)


def inside(volumes: dict[str, str], *words: str, check: bool = True) -> str:
    return engine("exec", volumes["coordinator"], *words, check=check)


def wait_until_well(volumes: dict[str, str], check: list[str]) -> None:
    """The image's own health check passes."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if subprocess.run([*ENGINE, "exec", volumes["coordinator"], *check], capture_output=True).returncode == 0:
            return
    raise AssertionError(engine("logs", volumes["coordinator"]))


def test_a_run_in_both_images(root: Path, images: dict[str, str], volumes: dict[str, str]) -> None:
    """Neither is root, their roots are read-only, the coordinator has no torch, is well by its own check, is killed in
    the midst and goes on; the run ends with a model that can be pulled.
    """
    (known,) = json.loads(engine("image", "inspect", images["coordinator"]))
    kind, *check = (known.get("Healthcheck") or known["Config"]["Healthcheck"])["Test"]
    assert (kind, known["Config"]["User"]) == ("CMD", "10001")
    thinwire = "/opt/thinwire/bin/thinwire"
    start("coordinator", images, volumes)
    wait_until_well(volumes, check)
    assert inside(volumes, "id", "-u") == "10001"
    written = subprocess.run([*ENGINE, "exec", volumes["coordinator"], "touch", "/there"], capture_output=True)
    assert written.returncode != 0
    find_torch = "import importlib.util as found; print(found.find_spec('torch'))"
    assert inside(volumes, "/opt/thinwire/bin/python", "-c", find_torch) == "None"
    told = inside(volumes, thinwire, "client", "invite", "--format", "json", "--data-dir", "/data")
    invite = json.loads(told)["invite"]
    task = ["--volume", f"{root / 'docs' / 'examples' / EXAMPLE}:/task.py:ro"]
    made = ["run", "--rm", *task, "--volume", f"{volumes['coordinator']}:/data", *SHUT_IN, *FURTHER["run"]]
    engine(*made, images["client"], "model", "init", "--task", "/task.py", "--out", "/data/first.safetensors")
    settings = [word for one in ("name=night", "rounds=6", "cohort=1") for word in ("--set", one)]
    inside(volumes, thinwire, "run", "start", "--model", "/data/first.safetensors", *settings, "--data-dir", "/data")
    given = ["--env", f"THINWIRE_INVITE={invite}", *task]
    joins = ["join", f"http://127.0.0.1:{PORT}", "--task", "/task.py", "--data-dir", "/data/client"]
    start("client", images, volumes, given, *joins)
    inside(volumes, thinwire, "run", "show", "night", "--data-dir", "/data")
    engine("kill", "--signal", "KILL", volumes["coordinator"])
    engine("start", volumes["coordinator"])
    wait_until_well(volumes, check)
    inside(volumes, thinwire, "run", "watch", "night", "--data-dir", "/data")
    found = json.loads(inside(volumes, thinwire, "run", "show", "night", "--format", "json", "--data-dir", "/data"))
    assert found["run"]["outcome"] == "completed", found["run"]
    inside(volumes, thinwire, "run", "pull", "night", "--out", "/data/final.safetensors", "--data-dir", "/data")
    for role, image in images.items():
        print(role, engine("image", "inspect", "--format", "{{.Size}}", image), "bytes")
