"""Answers that processes decode: the arrays, and the refusals, of a decoder in this process, whoever dies."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from tests.decoding.family import decoders
from thinwire.codecs import Arrays, Chain, CodecError, Spec
from thinwire.coordinator.decoding.choosing import WORTH_NUMBERS, Decoder, Decoding, is_worth_it
from thinwire.coordinator.decoding.coded import Coded, decode
from thinwire.coordinator.decoding.processes import ATTEMPTS, Processes
from thinwire.methods.arrays import same_bits

RNG = np.random.default_rng(3)
ARRAYS: dict[str, Any] = {
    "weight": RNG.standard_normal((40, 30)).astype(np.float32),
    "buffers/mean": RNG.standard_normal(30).astype(np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "count": np.array(7, np.int64),
}
MASK = {"mask": RNG.random((50, 20)) < 0.1}
CHAINS = ("", "quantise(2), entropy", "delta, quantise(8), entropy", "delta, cast(f16), byte_shuffle, zstd")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(2, tmp_path / "decoding")
    yield made
    made.close()
    assert not (tmp_path / "decoding").exists()


def stored(folder: Path, arrays: Arrays, chain: str, *, seed: int = 5, exchange: str = "run/0") -> Coded:
    parsed, spec = Chain.parse(chain), Spec.of(arrays)
    reference: Arrays = {name: array * 0 for name, array in arrays.items()} if parsed.needs_reference else {}
    data = parsed.encode(arrays, spec, reference=reference, seed=seed)
    path = folder / hashlib.sha256(data).hexdigest()
    path.write_bytes(data)
    return Coded(path, hashlib.sha256(data).digest(), spec, parsed, seed, reference, exchange, 1)


@pytest.mark.parametrize("chain", CHAINS)
def test_they_make_the_same_arrays(tmp_path: Path, processes: Processes, chain: str) -> None:
    coded = stored(tmp_path, ARRAYS, chain)
    assert same_bits(processes.decode(coded), decode(coded))


def test_masks_too(tmp_path: Path, processes: Processes) -> None:
    coded = stored(tmp_path, MASK, "entropy")
    assert same_bits(processes.decode(coded), MASK)


def test_each_exchange_has_its_own_reference(tmp_path: Path, processes: Processes) -> None:
    for index in range(6):
        coded = stored(tmp_path, ARRAYS, "delta, quantise(8), entropy", exchange=f"run/{index}")
        moved = replace(coded, reference={name: array * 0 + index for name, array in ARRAYS.items()})
        assert same_bits(processes.decode(moved), decode(moved))


@pytest.mark.parametrize("damage", [b"", b"\x00" * 50, bytes(range(256))])
def test_they_refuse_in_the_same_words(tmp_path: Path, processes: Processes, damage: bytes) -> None:
    coded = stored(tmp_path, ARRAYS, "quantise(2), entropy")
    (tmp_path / "damaged").write_bytes(damage)
    damaged = replace(coded, path=tmp_path / "damaged", digest=None)
    with pytest.raises(CodecError) as here:
        decode(damaged)
    with pytest.raises(CodecError) as there:
        processes.decode(damaged)
    assert (there.value.reason, there.value.detail) == (here.value.reason, here.value.detail)


def test_what_is_torn_or_gone_cannot_be_read(tmp_path: Path, processes: Processes) -> None:
    coded = stored(tmp_path, ARRAYS, "")
    for one in (replace(coded, digest=bytes(32)), replace(coded, path=tmp_path / "gone")):
        for decoder in (decode, processes.decode):
            with pytest.raises(OSError, match=r"torn|No such file"):
                decoder(one)
    assert same_bits(processes.decode(coded), ARRAYS)


def test_killed_processes_change_nothing(tmp_path: Path, processes: Processes) -> None:
    coded = [stored(tmp_path, ARRAYS, "quantise(2), entropy", seed=seed) for seed in range(30)]
    wanted = [decode(one) for one in coded]
    found: list[Arrays] = []
    deciding = threading.Thread(target=lambda: found.extend(processes.decode(one) for one in coded))
    killed = set[int]()
    deciding.start()
    while deciding.is_alive():
        for pid in set(decoders()) - killed:
            if len(killed) < ATTEMPTS - 1:  # so that no answer meets more deaths than it may
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    assert killed
    assert all(same_bits(one, other) for one, other in zip(found, wanted, strict=True))


def test_an_answer_over_which_all_die_is_a_failure_that_is_told(tmp_path: Path, processes: Processes) -> None:
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    coded = replace(stored(tmp_path, ARRAYS, ""), path=fifo)
    failures: list[OSError] = []

    def wait_for_it() -> None:
        try:
            processes.decode(coded)
        except OSError as error:
            failures.append(error)

    deciding, killed = threading.Thread(target=wait_for_it), set[int]()
    deciding.start()
    while deciding.is_alive():
        for pid in set(decoders()) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    assert len(killed) == ATTEMPTS
    assert "processes have died" in str(failures[0])
    assert same_bits(processes.decode(stored(tmp_path, ARRAYS, "")), ARRAYS)


def test_they_end_with_a_coordinator_that_is_killed(tmp_path: Path) -> None:
    coded = stored(tmp_path, {"a": ARRAYS["weight"]}, "")
    program = f"""
from pathlib import Path
from thinwire.codecs import Chain, Spec
from thinwire.coordinator.decoding.choosing import WORTH_NUMBERS, Decoder, Decoding, is_worth_it
from thinwire.coordinator.decoding.coded import Coded
from thinwire.coordinator.decoding.processes import Processes
spec = Spec.from_plain({coded.reply.to_plain()!r})
made = Processes(1, Path({str(tmp_path / "decoding")!r}))
made.decode(Coded(Path({str(coded.path)!r}), None, spec, Chain(), 5, {{}}, "", 1))
print(*[(task / "children").read_text() for task in Path("/proc/self/task").iterdir()], flush=True)
input()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    (worker,) = (int(word) for word in parent.stdout.readline().split())
    handle = os.pidfd_open(worker)
    parent.kill()
    parent.communicate()
    assert ended(handle)


def ended(handle: int) -> bool:
    """Whether the process of this handle ends, within a minute."""
    try:
        return bool(select.select([handle], [], [], 60)[0])
    finally:
        os.close(handle)


@pytest.mark.parametrize(
    ("chain", "answers", "apart"),
    [("quantise(2), entropy", 9000, True), ("quantise(2), entropy", 8000, False), ("quantise(2)", 9000, False)],
)
def test_exchanges_that_keep_a_thread_for_long_are_worth_it(
    tmp_path: Path, chain: str, answers: int, *, apart: bool
) -> None:
    coded = replace(stored(tmp_path, {"weight": ARRAYS["weight"]}, chain), answers=answers)
    assert 8000 * 1200 < WORTH_NUMBERS <= 9000 * 1200
    assert is_worth_it(coded) is apart
    for how in get_args(Decoding):
        decoder = Decoder(how, 1, tmp_path / how)
        wanted = decode(coded)
        assert same_bits(decoder.decode(coded), wanted)
        several = (os.cpu_count() or 1) > 1
        assert bool(decoders()) is (how == "processes" or (how == "auto" and apart and several))
        decoder.close()
        assert not decoders()
