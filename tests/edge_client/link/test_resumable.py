"""Laws of transfers that are cut: they always progress, and no byte that had arrived is sent again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.edge_client.conftest import MakeTransfer
from tests.edge_client.cutting_server import CuttingServer
from thinwire.edge_client.link.replies import BadPeerError
from thinwire.edge_client.link.resumable import download, upload
from thinwire.protocol.identity import digest_of
from thinwire.protocol.reasons import ProblemError

PAYLOAD = random.Random(0).randbytes(300_000)
DIGEST = digest_of(PAYLOAD)


@pytest.mark.parametrize("cut_after", [None, 1_000, 4_096, 100_000])
def test_a_download_goes_on_where_it_was_cut(
    cut_after: int | None, server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Path, slept: list[float]
) -> None:
    server.payloads[DIGEST.hex()] = PAYLOAD
    server.cut_after = cut_after
    assert download(make_transfer(server.address), DIGEST, len(PAYLOAD), tmp_path) == PAYLOAD
    pieces = 1 if cut_after is None else -(-len(PAYLOAD) // cut_after)
    assert len(server.requests) == pieces
    offsets = [int(headers.get("Range", "bytes=0-")[6:-1]) for _, _, headers in server.requests]
    assert offsets == [index * (cut_after or 0) for index in range(pieces)]
    # What moves does not wait.
    assert slept == []
    assert list(tmp_path.iterdir()) == []


def test_a_download_goes_on_after_a_restart(server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Path) -> None:
    server.payloads[DIGEST.hex()] = PAYLOAD
    (tmp_path / DIGEST.hex()).write_bytes(PAYLOAD[:123_456])
    assert download(make_transfer(server.address), DIGEST, len(PAYLOAD), tmp_path) == PAYLOAD
    assert [headers["Range"] for _, _, headers in server.requests] == ["bytes=123456-"]


def test_a_damaged_partial_file_is_fetched_anew(
    server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Path
) -> None:
    server.payloads[DIGEST.hex()] = PAYLOAD
    (tmp_path / DIGEST.hex()).write_bytes(b"x" * 1000)
    assert download(make_transfer(server.address), DIGEST, len(PAYLOAD), tmp_path) == PAYLOAD
    assert [headers.get("Range") for _, _, headers in server.requests] == ["bytes=1000-", None]


def test_a_payload_that_comes_wrong_again_and_again_is_refused(
    server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Path
) -> None:
    server.payloads[DIGEST.hex()] = PAYLOAD[:-1] + b"x"
    with pytest.raises(ProblemError, match="digest-mismatch"):
        download(make_transfer(server.address), DIGEST, len(PAYLOAD), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_payload_that_is_not_there_or_too_large_is_not_waited_for(
    server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Path
) -> None:
    with pytest.raises(ProblemError, match="payload-not-found"):
        download(make_transfer(server.address), DIGEST, len(PAYLOAD), tmp_path)
    server.payloads[DIGEST.hex()] = PAYLOAD
    with pytest.raises(BadPeerError, match="larger than its 1000 bytes"):
        download(make_transfer(server.address), DIGEST, 1000, tmp_path)


def test_a_payload_of_unknown_size_is_taken_up_to_a_bound(
    server: CuttingServer, make_transfer: MakeTransfer, tmp_path: Path
) -> None:
    server.payloads[DIGEST.hex()] = PAYLOAD
    server.cut_after = 70_000
    assert download(make_transfer(server.address), DIGEST, None, tmp_path, most=len(PAYLOAD)) == PAYLOAD
    with pytest.raises(BadPeerError):
        download(make_transfer(server.address), DIGEST, None, tmp_path, most=len(PAYLOAD) - 1)


@pytest.mark.parametrize("cut_after", [None, 1_000, 4_096, 100_000])
def test_no_byte_that_has_arrived_is_uploaded_again(
    cut_after: int | None, server: CuttingServer, make_transfer: MakeTransfer, slept: list[float]
) -> None:
    server.cut_after = cut_after
    remembered: list[str | None] = []
    found = upload(make_transfer(server.address), "task01", PAYLOAD, known=None, remember=remembered.append)
    assert remembered == [found]
    assert bytes(server.uploads[found]) == PAYLOAD
    assert server.body_bytes_received == len(PAYLOAD)
    # A cut costs one HEAD and one PATCH.
    patches = server.methods().count("PATCH")
    assert server.methods() == ["POST", *["PATCH", "HEAD"] * (patches - 1), "PATCH"]
    assert slept == []


def test_an_upload_goes_on_after_a_restart(server: CuttingServer, make_transfer: MakeTransfer) -> None:
    server.uploads["begun01"] = bytearray(PAYLOAD[:200_000])
    remembered: list[str | None] = []
    upload(make_transfer(server.address), "task01", PAYLOAD, known="begun01", remember=remembered.append)
    assert bytes(server.uploads["begun01"]) == PAYLOAD
    assert server.methods() == ["HEAD", "PATCH"]
    assert remembered == []


def test_an_upload_that_has_expired_begins_anew(server: CuttingServer, make_transfer: MakeTransfer) -> None:
    remembered: list[str | None] = []
    found = upload(make_transfer(server.address), "task01", PAYLOAD, known="gone01", remember=remembered.append)
    assert remembered == [None, found]
    assert bytes(server.uploads[found]) == PAYLOAD
