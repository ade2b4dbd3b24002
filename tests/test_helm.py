"""The Helm chart: its values, and, where Helm is, what it makes of them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.command_options import check_command
from tests.programs import program
from tests.test_deploy import DEPLOY, _instructions

CHART: Final = DEPLOY / "helm" / "thinwire"
SHARED: Final = {
    "replicas": 2,
    "database": {"existingSecret": "database"},
    "objects": {"url": "s3://bucket/federation", "existingSecret": "store"},
    "ingress": {"enabled": True},
    "trustedProxies": "10.0.0.0/8",
    "options": ["--durability", "fsync"],
}
EACH: Final = pytest.mark.parametrize("values", [{}, SHARED], ids=["alone", "shared"])


def _values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def _paths(values: Any, before: str = "") -> set[str]:
    if not isinstance(values, dict) or not values:
        return {before}
    return {path for key, inner in values.items() for path in _paths(inner, f"{before}.{key}".lstrip("."))}


def _rendered(values: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The objects that Helm makes: by the program, or by its library from a wheel."""
    helm = program("helm")
    if helm is not None:
        file = folder / "values.json"
        file.write_text(json.dumps(values))
        done = subprocess.run(
            [helm, "template", "fed", str(CHART), "--values", str(file)], capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise ValueError(done.stderr)
        texts = [done.stdout]
    elif importlib.util.find_spec("helm_python") is not None:
        import helm_python  # type: ignore[import-not-found,unused-ignore]

        try:
            made = helm_python.Chart.load(str(CHART)).render(values, name="fed")
        except helm_python.HelmError as error:
            raise ValueError(str(error)) from None
        texts = [text for name, text in made.items() if name.endswith(".yaml")]
    else:
        pytest.skip("Helm is not on this machine, nor its library: pip install helm-python-sdk")
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def test_every_value_is_used_and_no_other() -> None:
    texts = "".join(path.read_text() for path in sorted((CHART / "templates").iterdir()))
    used = set(re.findall(r"\.Values\.([A-Za-z.]+)", texts))
    held = _paths(_values())
    # A whole part that is handed on holds what is under it.
    assert {name for name in held if not any(f"{name}.".startswith(f"{whole}.") for whole in used)} == set()
    assert {name for name in used if not any(f"{path}.".startswith(f"{name}.") for path in held)} == set()


def test_the_schema_is_of_these_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = _values()
    assert set(schema["properties"]) == {*values, "global"}
    for name, inner in values.items():
        if isinstance(inner, dict) and "properties" in schema["properties"][name]:
            assert set(schema["properties"][name]["properties"]) == set(inner), name


def test_no_secret_stands_in_the_chart() -> None:
    texts = "".join(path.read_text() for path in CHART.rglob("*") if path.is_file())
    assert "kind: Secret" not in texts
    assert not re.search(r"(?i)(password|secret_access_key|(?<!account)token):", texts)


def test_the_chart_has_the_packages_version(root: Path) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (version,) = re.findall(r'^version = "(.*)"$', (root / "pyproject.toml").read_text(), re.MULTILINE)
    assert chart["appVersion"] == version


def test_helm_finds_no_fault() -> None:
    helm = program("helm")
    if helm is not None:
        done = subprocess.run([helm, "lint", "--strict", str(CHART)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout
        return
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("Helm is not on this machine, nor its library: pip install helm-python-sdk")
    import helm_python

    report = helm_python.lint(str(CHART), None, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@EACH
def test_the_pod_is_closed_limited_and_asked_how_it_is(values: dict[str, Any], tmp_path: Path) -> None:
    made = _rendered(values, tmp_path)
    kinds = [one["kind"] for one in made]
    expected = ["NetworkPolicy", "PodDisruptionBudget", "Service", "StatefulSet"]
    assert sorted(kinds) == sorted(expected + (["Ingress"] if values else []))
    pod = next(one for one in made if one["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in ("/healthz", "/readyz")
    (entry,) = (rest for step, rest in _instructions(DEPLOY / "coordinator.Containerfile") if step == "ENTRYPOINT")
    command = [*json.loads(entry), *container["args"]]
    check_command([Path(command[0]).name, *command[1:]])
    secrets = [one["valueFrom"]["secretKeyRef"]["name"] for one in container["env"] if "valueFrom" in one]
    assert secrets == (["database"] if values else [])
    selected = next(one for one in made if one["kind"] == "Service")["spec"]["selector"]
    labels = next(one for one in made if one["kind"] == "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert selected.items() <= labels.items()


@EACH
def test_the_objects_are_those_that_kubernetes_knows(values: dict[str, Any], tmp_path: Path) -> None:
    known = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for one in _rendered(values, tmp_path):
        known.validate(one, "1.33", strict=True)


@pytest.mark.parametrize(
    "values",
    [{"replicas": 2}, {"replicas": 2, "objects": {"url": "s3://b"}}, {"replica": 2}, {"objects": {"url": "b"}}],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"replicas|additional properties|url"):
        _rendered(values, tmp_path)
