"""A coordinator that means harm: the client keeps its secrets, its files and its time."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge_client.conftest import MakeTransfer
from tests.edge_client.cutting_server import CuttingServer
from tests.protocol.messages_strategies import random_messages
from thinwire.edge_client.enrolment import enrol
from thinwire.edge_client.link.replies import BadPeerError
from thinwire.edge_client.link.resumable import upload
from thinwire.edge_client.memory.folder import Credentials, Folder
from thinwire.edge_client.plans import TaskRefusedError, check_plan
from thinwire.edge_client.rotate import rotate
from thinwire.edge_client.settings import JoinSettings, PlaceSettings, UsageError
from thinwire.methods.registry import find_method, method_ids
from thinwire.protocol.encoding import MSGPACK, encode_message
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.identity import digest_of
from thinwire.protocol.messages import Enrolled, Plan
from thinwire.protocol.reasons import ProblemError

PACKED = {"Content-Type": MSGPACK}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o640])
def test_credentials_are_the_owners(tmp_path: Path, mode: int) -> None:
    folder = Folder(tmp_path / "client")
    path = folder.path / "credentials"
    folder.keep_credentials(Credentials("http://x", "client-00", "secret"))
    assert _mode(path) == 0o600
    assert _mode(folder.path) == 0o700
    # Copied by a careless hand, they are closed again when they are read.
    path.chmod(mode)
    assert folder.credentials() is not None
    assert _mode(path) == 0o600
    folder.keep_credentials(Credentials("http://x", "client-00", "newer"))
    assert _mode(path) == 0o600
    folder.close()


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "a b", "", "x" * 201, "ä"])
def test_a_token_that_would_write_headers_is_refused(
    token: str, tmp_path: Path, server: CuttingServer, make_transfer: MakeTransfer
) -> None:
    body = json.dumps({"client": "client-00", "token": token, "group": "default", "role": "client"}).encode()
    server.answers = [(201, {"Content-Type": "application/json"}, body)]
    folder = Folder(tmp_path)
    with pytest.raises(ProblemError):
        enrol(make_transfer(server.address), folder, "invite", None)
    assert folder.credentials() is None
    folder.close()


@pytest.mark.parametrize("location", ["http://elsewhere.example/v1/uploads/abcdefgh", "//elsewhere.example/abcdefgh"])
def test_an_upload_goes_nowhere_else(location: str, server: CuttingServer, make_transfer: MakeTransfer) -> None:
    server.answers = [(201, {"Location": location}, b""), (204, {"Upload-Offset": "5"}, b"")]
    assert upload(make_transfer(server.address), "task01", b"12345", known=None, remember=lambda _: None) == "abcdefgh"
    assert [path for _, path, _ in server.requests] == ["/v1/uploads", "/v1/uploads/abcdefgh"]


@pytest.mark.parametrize(
    "location", ["/v1/uploads/..", "/v1/uploads/a b", "/v1/uploads/x\u00e9", "/v1/uploads/" + "a" * 999]
)
def test_an_upload_has_an_id_that_is_one(location: str, server: CuttingServer, make_transfer: MakeTransfer) -> None:
    server.answers = [(201, {"Location": location}, b"")]
    with pytest.raises(BadPeerError):
        upload(make_transfer(server.address), "task01", b"12345", known=None, remember=lambda _: None)


def test_credentials_are_sent_to_nobody_else(
    tmp_path: Path, server: CuttingServer, make_transfer: MakeTransfer
) -> None:
    folder = Folder(tmp_path)
    folder.keep_credentials(Credentials("http://the-real-one.example", "client-00", "secret"))
    with pytest.raises(UsageError, match="belongs to a client of"):
        enrol(make_transfer(server.address), folder, None, None)
    assert server.requests == []
    folder.close()


def _rotated(folder: Path, give_up_after_s: float = 1) -> tuple[Exit, str]:
    return rotate(PlaceSettings(data_dir=folder, give_up_after_s=give_up_after_s), lambda _: None)


def test_a_new_token_replaces_the_old_one_in_the_folder(tmp_path: Path, server: CuttingServer) -> None:
    folder = Folder(tmp_path)
    folder.keep_credentials(Credentials(server.address, "client-00", "old"))
    folder.close()
    new = Enrolled(client="client-00", token="new", group="default", role="client")  # noqa: S106
    server.answers = [(503, {"Retry-After": "0"}, b""), (201, PACKED, encode_message(new))]
    code, said = _rotated(tmp_path, 30)
    assert code == Exit.OK, said
    assert "new token" in said
    assert [headers["Authorization"] for _, _, headers in server.requests] == ["Bearer old"] * 2
    assert {path for _, path, _ in server.requests} == {"/v1/clients/client-00/token"}
    folder = Folder(tmp_path)
    assert folder.credentials() == Credentials(server.address, "client-00", "new")
    assert _mode(tmp_path / "credentials") == 0o600
    folder.close()


def test_a_refused_rotation_changes_nothing(tmp_path: Path, server: CuttingServer) -> None:
    assert _rotated(tmp_path / "none")[0] == Exit.USAGE
    folder = Folder(tmp_path)
    folder.close()
    assert _rotated(tmp_path)[0] == Exit.USAGE
    folder = Folder(tmp_path)
    folder.keep_credentials(Credentials(server.address, "client-00", "old"))
    assert _rotated(tmp_path)[0] == Exit.LOCAL
    folder.close()
    body = json.dumps({"reason": "token-invalid", "detail": "so it is", "retry": False}).encode()
    server.answers = [(401, {"Content-Type": "application/json"}, body)]
    assert _rotated(tmp_path)[0] == Exit.REFUSED
    folder = Folder(tmp_path)
    assert folder.credentials() == Credentials(server.address, "client-00", "old")
    folder.close()


@settings(max_examples=max(1, settings().max_examples // 3))
@given(random_messages(Plan, MSGPACK), st.sampled_from([*method_ids(), "os", "../x", "thinwire"]), st.data())
def test_any_plan_is_followed_or_refused(plan: Plan, method: str, data: Any) -> None:
    """Whatever it says, it ends in this client's own error: never in one that tells of an attempt to do it."""
    body = encode_message(plan.model_copy(update={"method": method}))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(body) - 1))
        body = body[:at] + bytes([data.draw(st.integers(0, 255))]) + body[at + 1 :]
    with pytest.raises(TaskRefusedError):
        check_plan(body, digest_of(body), b"\x01" * 8, {}, 1 << 20)


HARMLESS = (bool, int, float, type(None))


def _leaves(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType, tuple, list, dict) or hasattr(hint, "__metadata__"):
        return [
            leaf for inner in get_args(hint)[: 1 if hasattr(hint, "__metadata__") else None] for leaf in _leaves(inner)
        ]
    if isinstance(hint, type) and hasattr(hint, "model_fields"):
        return [leaf for inner in get_type_hints(hint, include_extras=True).values() for leaf in _leaves(inner)]
    return [hint]


@pytest.mark.parametrize("method", method_ids())
def test_no_setting_of_a_method_can_name_a_path_code_or_an_address(method: str) -> None:
    """Numbers, yes and no, one word of a few, or the names of arrays and chains: what else text says is refused."""
    for name, hint in get_type_hints(find_method(method).settings, include_extras=True).items():
        if name == "model_config":
            continue
        for leaf in _leaves(hint):
            assert leaf in (*HARMLESS, str, ...) or get_origin(leaf) is Literal, f"{name}: {leaf}"


def test_tasks_are_bounded_by_default() -> None:
    options = JoinSettings(task="digits")
    assert options.max_task_seconds <= 86_400
    assert options.max_task_bytes <= 1 << 33
