"""Whole runs: a real coordinator, clients as processes, and what a person at a device meets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from tests.coordinator.served import Served
from tests.edge_client.fleet import Fleet
from thinwire.codecs import Arrays
from thinwire.edge_client.cli import app
from thinwire.edge_client.model import export_state, first_model, task_model
from thinwire.edge_client.problems.built_in import ProblemOptions, find_problem
from thinwire.methods.arrays import same_bits
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.protocol.exit_codes import Exit

ROUNDS = 4


def _digits() -> Arrays:
    return first_model(find_problem("digits"), 0)


def _start(coordinator: Served, model: Arrays, **settings: object) -> str:
    wanted = {"method": "fedavg", "rounds": ROUNDS, "settings": {}, **settings}
    return str(coordinator.run(dict(model), **wanted)["id"])


def _final(path: Path) -> Arrays:
    return load_file(path)


def test_the_example_learns_and_everybody_keeps_the_same_model(coordinator: Served, fleet: Fleet, root: Path) -> None:
    task = str(root / "docs" / "examples" / "breast_cancer.py")
    run = _start(coordinator, first_model(find_problem(task), 0), cohort=3, rounds=12)
    invite = coordinator.invite()
    members = [
        fleet.join(
            coordinator.url,
            f"c{index}",
            f"{index}/3",
            invite=invite,
            task=task,
            keep_model=fleet.folder / f"{index}.safetensors",
        )
        for index in range(3)
    ]
    for member in members:
        code, said = member.end()
        assert code == Exit.OK, said
        assert "round 12/12 train" in said
        assert invite not in said
    kept = [_final(fleet.folder / f"{index}.safetensors") for index in range(3)]
    assert same_bits(kept[0], kept[1])
    assert same_bits(kept[0], kept[2])
    last = coordinator.get(f"/v1/runs/{run}/metrics").json()["exchanges"][-1]
    assert last["kind"] == "evaluate"
    assert last["metrics"]["accuracy"] > 0.9
    for index in range(3):
        stats = json.loads((fleet.folder / f"c{index}.json").read_text())
        assert stats["connections"] == 1
        if hasattr(socket, "TCP_INFO"):
            assert stats["kernel"] == stats["process"]


def _disturbed(fleet: Fleet, coordinator: Served, keep: Path) -> int:
    """Serves as client `one`, ended in turn by SIGKILL and SIGTERM after each line about a round; how often."""
    for ends in range(20):
        member = fleet.join(coordinator.url, "one", "0/2", keep_model=keep)
        try:
            member.until("joined" if ends == 0 else f"round {1 + ends // 2}/")
        except AssertionError:
            code, said = member.end()
            assert code == Exit.OK, said
            return ends
        code, said = member.end(signal.SIGKILL if ends % 2 else signal.SIGTERM)
        assert code in (-signal.SIGKILL, Exit.INTERRUPTED), said
    raise AssertionError("the run does not end")


@pytest.mark.long
def test_a_client_that_dies_again_and_again_changes_no_bit_of_the_model(coordinator: Served, fleet: Fleet) -> None:
    invite = coordinator.invite()
    finals = []
    for name in ("quiet", "disturbed"):
        _start(coordinator, _digits(), name=name, cohort=2)
        keep = fleet.folder / f"{name}.safetensors"
        other = fleet.join(coordinator.url, "two", "1/2", invite=invite)
        if name == "quiet":
            code, said = fleet.join(coordinator.url, "one", "0/2", invite=invite, keep_model=keep).end()
            assert code == Exit.OK, said
        else:
            assert _disturbed(fleet, coordinator, keep) >= 3
        code, said = other.end()
        assert code == Exit.OK, said
        finals.append(_final(keep))
    assert same_bits(*finals)


@pytest.mark.long
def test_large_payloads_survive_the_death_of_the_coordinator(coordinator: Served, fleet: Fleet) -> None:
    invite = coordinator.invite()
    model = first_model(find_problem("digits", ProblemOptions(architecture="mlp")), 0)
    finals = []
    for name in ("quiet", "disturbed"):
        run = _start(coordinator, model, name=name, cohort=1, chains="plain")
        keep = fleet.folder / f"{name}.safetensors"
        member = fleet.join(coordinator.url, "one", "0/1", invite=invite, architecture="mlp", keep_model=keep)
        if name == "disturbed":
            for round_ in (1, 2, 3):
                member.until(f"round {round_}/")
                coordinator.kill()
                coordinator.start()
        code, said = member.end()
        assert code == Exit.OK, said
        finals.append(_final(keep))
        assert coordinator.get(f"/v1/runs/{run}").json()["outcome"] == "completed"
    assert same_bits(*finals)
    # 340 kB each way: by digest and by upload, not inline.
    kinds = {row["kind"] for row in coordinator.get(f"/v1/runs/{run}/ledger").json()["rows"]}
    assert "payload" in kinds


def test_a_thin_link_changes_times_and_nothing_else(coordinator: Served, fleet: Fleet) -> None:
    invite = coordinator.invite()
    finals = []
    for name, options in (("plain", {}), ("thin", {"link": "8mbit,2ms,5%"})):
        _start(coordinator, _digits(), name=name, cohort=1, rounds=2)
        keep = fleet.folder / f"{name}.safetensors"
        code, said = fleet.join(coordinator.url, "one", "0/1", invite=invite, keep_model=keep, **options).end()
        assert code == Exit.OK, said
        finals.append(_final(keep))
    assert same_bits(*finals)


def test_a_client_sends_no_larger_answers_than_it_was_told(coordinator: Served, fleet: Fleet) -> None:
    """feddlr fits its ranks to the bytes; where even rank 1 is too large, nothing is sent."""
    invite = coordinator.invite()
    run = _start(coordinator, _digits(), method="feddlr", settings={"energy-up": 0.999}, cohort=1, rounds=2)
    code, said = fleet.join(coordinator.url, "few", "0/1", invite=invite, max_answer_bytes=100).end()
    assert code == Exit.REFUSED, said
    assert "this client sends at most 100" in said
    httpx.delete(f"{coordinator.url}/v1/clients/few", headers=coordinator.operator).raise_for_status()
    assert fleet.join(coordinator.url, "one", "0/1", invite=invite, max_answer_bytes=4000).end()[0] == Exit.OK
    rows = coordinator.get(f"/v1/runs/{run}/ledger").json()["rows"]
    sent = [row["uplink_payload_bytes"] for row in rows if row["client"] == "one" and row["kind"] == "answer"]
    assert len(sent) == 2
    assert all(3000 < size <= 4000 for size in sent)


@pytest.mark.usefixtures("kept_settings")
def test_training_takes_one_thread_unless_told_otherwise(tmp_path: Path) -> None:
    """Others on the machine are not in its way, and the bits are those of every other client."""
    before = torch.get_num_threads()
    path = tmp_path / "task.py"
    path.write_text(
        "import torch\n\n\ndef model():\n    raise ValueError(torch.get_num_threads())\n\n\ndef data(client): ...\n"
    )
    try:
        for options, threads in (([], 1), (["--threads", "2"], 2)):
            given = [
                "join",
                "http://127.0.0.1:9",
                f"--task={path}",
                f"--data-dir={tmp_path / 'c'}",
                "--invite-file",
                str(path),
            ]
            assert f"ValueError: {threads}" in CliRunner().invoke(app, [*given, *options]).output
    finally:
        torch.set_num_threads(before)


def test_sigterm_parks_the_work(coordinator: Served, fleet: Fleet) -> None:
    member = fleet.join(coordinator.url, "one", "0/1", invite=coordinator.invite())
    member.until("joined")
    code, said = member.end(signal.SIGTERM)
    assert code == Exit.INTERRUPTED
    assert "parked" in said
    assert "Traceback" not in said


def test_another_model_than_the_run_s_is_told_so(coordinator: Served, fleet: Fleet) -> None:
    _start(coordinator, _digits(), cohort=1)
    code, said = fleet.join(coordinator.url, "one", "0/1", invite=coordinator.invite(), architecture="mlp").end()
    assert code == Exit.REFUSED, said
    assert "model-mismatch" in said


def test_a_revoked_client_enrols_again_with_a_new_invite(coordinator: Served, fleet: Fleet) -> None:
    before = fleet.join(coordinator.url, "one", "0/1", invite=coordinator.invite())
    before.until("joined")
    before.end(signal.SIGTERM)
    httpx.delete(f"{coordinator.url}/v1/clients/one", headers=coordinator.operator).raise_for_status()
    code, said = fleet.join(coordinator.url, "one", "0/1").end()
    assert code == Exit.REFUSED, said
    assert "token-invalid" in said
    _start(coordinator, _digits(), cohort=1, rounds=1)
    code, said = fleet.join(coordinator.url, "one", "0/1", invite=coordinator.invite()).end()
    assert code == Exit.OK, said
    assert "enrolling again with the invite" in said


def test_a_wrong_invite_is_refused_and_never_shown(coordinator: Served, fleet: Fleet) -> None:
    code, said = fleet.join(coordinator.url, "one", "0/1", invite="wrong-invite").end()
    assert code == Exit.REFUSED
    assert "invite-invalid" in said
    assert "wrong-invite" not in said


def test_nobody_there_is_said_and_given_up_as_asked(fleet: Fleet, free_port: int) -> None:
    member = fleet.join(f"http://127.0.0.1:{free_port}", "one", "0/1", invite="any", give_up_after=0.2)
    code, said = member.end()
    assert code == Exit.UNREACHABLE
    assert "trying again" in said
    assert "gave up after 0.2 s" in said


def test_a_folder_of_another_process_is_left_alone(coordinator: Served, fleet: Fleet) -> None:
    invite = coordinator.invite()
    first = fleet.join(coordinator.url, "one", "0/1", invite=invite)
    first.until("joined")
    code, said = fleet.join(coordinator.url, "one", "0/1", invite=invite).end()
    assert code == Exit.LOCAL
    assert "another client works in" in said


@pytest.mark.usefixtures("kept_settings")
@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--task=digit"], "no task is named 'digit'"),
        (["--share=8/8"], "--share: parts are counted from 0 to 7"),
        (["--share=x"], "--share: write which part of how many"),
        (["--split=even"], "--split: no split is 'even'"),
        (["--link=5h"], "--link: no link is '5h'"),
        (["--link=64kbit,300,0"], "'300' is not a time: write, for example, 300ms"),
        (["--max-uplink=fast"], "--max-uplink: 'fast' is not a rate"),
        (["--daily-bytes=much"], "--daily-bytes: 'much' is no number of bytes"),
        (["--quiet-hours=22-6"], "--quiet-hours: no quiet hours are '22-6'"),
        (["--allow=everything"], "--allow: there are sample-knowledge"),
        (["--device=abacus"], "abacus"),
        (["--invite-file=absent"], "absent"),
        (["--architecture=brain"], "no architecture is named 'brain'"),
        (["--limit=many"], "--limit: write TRAIN or TRAIN/TEST"),
        (["--ca-file=absent.pem"], "absent.pem"),
        (["--says=" + "x" * 201], "--says"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_sent(
    options: list[str], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THINWIRE_INVITE", raising=False)
    given = ["join", "http://127.0.0.1:9", "--task=digits", f"--data-dir={tmp_path / 'c'}", *options]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == Exit.USAGE
    assert what in done.output


def test_a_task_file_with_an_error_shows_its_own_traceback(fleet: Fleet) -> None:
    path = fleet.folder / "task.py"
    path.write_text("import torch\n\n\ndef model():\n    return torch.nn.Liner(1, 1)\n\n\ndef data(client): ...\n")
    code, said = fleet.command("model", "init", "--task", str(path)).end()
    assert code == Exit.USAGE
    assert f'File "{path}", line 5, in model' in said
    assert "has no attribute 'Liner'" in said
    assert said.count("File ") == 1


def test_a_first_model_is_a_function_of_its_seed(fleet: Fleet) -> None:
    out = fleet.folder / "first.safetensors"
    code, said = fleet.command("model", "init", "--task", "digits", "--seed", "1", "--out", str(out)).end()
    assert code == Exit.OK, said
    assert out.read_bytes() == model_bytes(first_model(find_problem("digits"), 1))
    assert out.read_bytes() != model_bytes(first_model(find_problem("digits"), 2))
    assert list(read_model(out)) == list(first_model(find_problem("digits"), 1))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_an_exported_model_is_a_plain_state_dict(suffix: str, tmp_path: Path) -> None:
    task, out = find_problem("digits"), tmp_path / f"m.{suffix}"
    arrays = first_model(task, 5)
    export_state(task_model(task, arrays, 0), out)
    found = torch.load(out, weights_only=True) if suffix == "pt" else read_model(out)
    assert list(found) == list(task.model().state_dict())
    assert all(np.array_equal(np.asarray(found[name]), array) for name, array in arrays.items())


def test_what_is_not_installed_is_named_with_the_extra_that_has_it() -> None:
    code = "import sys\nsys.modules[{!r}] = None\nfrom thinwire.edge_client.cli import main\nmain()"
    for library in ("typer", "torch"):
        words = [sys.executable, "-c", code.format(library), "join", "http://127.0.0.1:9", "--task", "digits"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert (done.returncode, "Traceback" in done.stderr) == (Exit.LOCAL, False), done.stderr
        assert f"{library} is not installed; install it by: pip install 'thinwire[client]'" in done.stderr


@pytest.mark.parametrize("arguments", [["-V"], ["--help"], ["join", "--help"], ["model", "--help"]])
def test_help_and_version_do_without_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom thinwire.edge_client.cli import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'fastapi', 'sqlalchemy', 'numpy'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    assert done.returncode == 0, done.stderr
