"""The layout holds: one namespace over four roots, imports in one direction, torch only at the edge."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOTS = ("codecs", "protocol", "coordinator", "edge_client")


def _python(code: str) -> str:
    """What a fresh interpreter prints; its errors are this test's."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _loaded_after(statements: str, modules: tuple[str, ...]) -> list[str]:
    return json.loads(
        _python(f"import json, sys\n{statements}\nprint(json.dumps([m for m in {modules!r} if m in sys.modules]))")
    )


@pytest.mark.parametrize("name", ROOTS)
def test_no_package_marker_closes_the_namespace(root: Path, name: str) -> None:
    assert (root / name / "thinwire").is_dir()
    assert not (root / name / "__init__.py").exists()
    assert not (root / name / "thinwire" / "__init__.py").exists()


def test_no_test_folder_is_a_package(root: Path) -> None:
    assert not [path for path in (root / "tests").rglob("test_*.py") if (path.parent / "__init__.py").exists()]


def test_every_root_is_declared_everywhere(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    tool = project["tool"]
    assert tool["hatch"]["build"]["dev-mode-dirs"] == list(ROOTS)
    assert tool["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"{name}/thinwire" for name in ROOTS]
    assert tool["mypy"]["mypy_path"] == list(ROOTS)
    packages = {
        f"{path.parent.name}.{path.name}" for name in ROOTS for path in (root / name / "thinwire").glob("[a-z]*")
    }
    assert set(tool["importlinter"]["root_packages"]) == packages
    checked = {path.partition("/")[2].replace("/", ".") for path in tool["mypy"]["files"] if "/" in path}
    assert checked == packages


def test_the_wheel_from_the_sdist_holds_exactly_the_trees_files(root: Path, tmp_path: Path) -> None:
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    (sdist,) = SdistBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    (wheel,) = WheelBuilder(str(unpacked)).build(directory=str(tmp_path), versions=["standard"])

    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tree = {
        str(path.relative_to(root / name))
        for name in ROOTS
        for path in (root / name / "thinwire").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert packed == tree


def test_imports_point_one_way(root: Path) -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_coordinator_and_all_server_halves_load_without_torch() -> None:
    everything = (
        "import thinwire.coordinator.app, thinwire.coordinator.command, thinwire.coordinator.server\n"
        "from thinwire.methods.registry import method_ids, server_half\n"
        "assert method_ids()\n"
        "for method in method_ids(): server_half(method)\n"
    )
    assert _loaded_after(everything, ("torch", "sklearn", "matplotlib")) == []


def test_the_operators_program_loads_no_service() -> None:
    service = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "torch", "thinwire.coordinator", "thinwire.edge_client")
    everything = "import thinwire.operator.cli.app, thinwire.operator.lab, thinwire.operator.reports.comparison"
    assert _loaded_after(everything, service) == []


def test_the_client_loads_without_the_coordinators_libraries() -> None:
    server = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "thinwire.coordinator", "thinwire.operator")
    assert _loaded_after("import thinwire.edge_client.cli, thinwire.edge_client.agent", server) == []


def test_the_base_install_loads_with_four_libraries() -> None:
    """codecs and protocol speak the wire without either service's dependencies."""
    everything = (
        "import thinwire.codecs, thinwire.protocol.messages, thinwire.protocol.encoding, thinwire.methods.registry"
    )
    assert _loaded_after(everything, ("torch", "httpx", "fastapi", "sqlalchemy", "typer", "rich")) == []


_ARM = ["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp"] + [
    f"--platform={tag}_aarch64" for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
]


def test_the_client_extra_resolves_for_arm(root: Path, tmp_path: Path) -> None:
    """Every dependency of a device has a wheel for 64-bit ARM Linux, or is pure Python.

    torch is only looked up: resolving its dependencies would fetch it, and half a gigabyte says nothing more.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["client"]
    torch = next(item for item in wanted if item.startswith("torch"))
    wanted.remove(torch)
    report = tmp_path / "report.json"
    constraints = root / "constraints.txt"
    command = ["install", "--dry-run", "--ignore-installed", "--target", str(tmp_path), "-c", str(constraints)]
    done = _pip(*command, *_ARM, "--report", str(report), *wanted)
    if done.returncode and _pip("index", "versions", "idna").returncode:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    installed = {item["metadata"]["name"].lower(): item for item in json.loads(report.read_text())["install"]}
    assert {"numpy", "msgpack", "pydantic", "zstandard", "httpx", "safetensors"} <= installed.keys()
    for name, item in installed.items():
        assert item["download_info"]["url"].endswith(("any.whl", "aarch64.whl")), name

    tested = next(line for line in constraints.read_text().splitlines() if line.startswith("torch=="))
    offered = _pip("index", "versions", *_ARM, "torch")
    (available,) = (line for line in offered.stdout.splitlines() if line.startswith("Available versions:"))
    assert tested.removeprefix("torch==") in re.findall(r"[0-9][0-9.]+", available)


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *arguments, "--no-input", "--retries", "1", "--timeout", "60"]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


_PROVIDED_AS = {
    "pil": "pillow",
    "sklearn": "scikit-learn",
    "prometheus_client": "prometheus-client",
    "yaml": "pyyaml",
    "opentelemetry": "opentelemetry-sdk",
}
_EXTRAS_OF = {
    "thinwire.machine": (),
    "thinwire.codecs": (),
    "thinwire.protocol": (),
    "thinwire.methods": ("client",),
    "thinwire.coordinator": ("operator", "coordinator", "postgres", "objects", "otlp"),
    "thinwire.operator": ("operator", "demo", "tensorboard"),
    "thinwire.edge_client": ("client", "demo"),
}


def test_every_module_of_the_methods_is_on_one_side(root: Path) -> None:
    """Of the learner, where torch may be imported, or of the contract that forbids it."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (without_torch,) = (contract["source_modules"] for contract in contracts if contract["id"] == "methods")
    learner = {
        "client_half", "error_feedback", "inputs", "learner", "local_optimizers", "own_part", "passes", "samples",
        "simulated_clients", "simulation", "tensors", "training", "work",
    }  # fmt: skip
    modules = {path.stem for path in (root / "protocol" / "thinwire" / "methods").glob("[a-z]*.py")}
    assert {name.removeprefix("thinwire.methods.") for name in without_torch} - {"*.server"} == modules - learner


def test_the_machine_needs_the_standard_library_alone(root: Path) -> None:
    for path in (root / "protocol" / "thinwire" / "machine").rglob("*.py"):
        assert _imports(path) <= sys.stdlib_module_names, path


@pytest.mark.parametrize("package", sorted(_EXTRAS_OF))
def test_every_import_is_declared(root: Path, package: str) -> None:
    """What a package imports is in its own extra, or, for what the demo adds, in the demo extra."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    declared = list(project["dependencies"])
    for extra in _EXTRAS_OF[package]:
        declared += project["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=~!; ]", item)[0].lower() for item in declared}
    (folder,) = (
        root / name / package.replace(".", "/") for name in ROOTS if (root / name / package.replace(".", "/")).is_dir()
    )
    for path in folder.rglob("*.py"):
        for top in _imports(path) - sys.stdlib_module_names - {"thinwire"}:
            assert _PROVIDED_AS.get(top.lower(), top.lower()) in names | {"starlette"}, f"{path} imports {top}"


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found
