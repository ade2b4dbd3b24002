"""What every kind of objects keeps: whole or not there, written once, counted."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.objects.backends import BACKENDS, NAMES, Open
from thinwire.coordinator.objects.objects import KINDS

PREFIXES = [*KINDS, "payloads/aaa", "checkpoints/aa", "checkpoints/aaa", "checkpoints/none"]
NO_NAMES = ["", "payloads", "payloads/", "answers/../operator.token", "answers//x", "/etc/passwd", "uploads/x",
            "answers/x.tmp", "answers/x\n", "answers/x\0", "answers/é"]  # fmt: skip
backends = pytest.mark.parametrize("opened", BACKENDS.values(), ids=BACKENDS)
durably = pytest.mark.parametrize("durable", [False, True])


@backends
@settings(max_examples=50)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "take", "pieces"]), st.sampled_from(NAMES), st.binary(max_size=50))
        | st.tuples(st.just("delete"), st.lists(st.sampled_from(NAMES), max_size=3), st.none())
        | st.tuples(st.just("open again"), st.none(), st.none()),
        max_size=20,
    )
)
def test_objects_are_what_was_first_put_until_they_are_deleted(
    opened: Open, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple]
) -> None:
    root = tmp_path_factory.mktemp("objects")
    objects, model = opened(root), {}
    for step, what, content in steps:
        match step:
            case "put":
                objects.put(what, content, durable=True)
            case "pieces":
                objects.put(what, (memoryview(content)[place : place + 7] for place in range(0, 50, 7)), durable=False)
            case "take":
                file = root / "finished"
                file.write_bytes(content)
                objects.take(file, what, durable=False)
                assert not file.exists()
            case "delete":
                objects.delete(what)
                model = {name: kept for name, kept in model.items() if name not in what}
            case _:
                objects = opened(root)
        if content is not None:
            model.setdefault(what, content)
        for name in NAMES:
            if name in model:
                assert objects.local(name).read_bytes() == model[name]
            else:
                with pytest.raises(FileNotFoundError):
                    objects.local(name)
        for prefix in PREFIXES:
            assert objects.names(prefix) == sorted(name for name in model if name.startswith(f"{prefix}/"))
        sizes = {kind: sum(len(kept) for name, kept in model.items() if name.startswith(kind)) for kind in KINDS}
        assert objects.usage() == sizes


@backends
@durably
def test_pieces_that_fail_leave_nothing(opened: Open, tmp_path: Path, durable: bool) -> None:
    def pieces() -> Iterator[bytes]:
        yield bytes(1 << 20)
        raise KeyError("broken")

    objects = opened(tmp_path / "data")
    for name in NAMES:
        with pytest.raises(KeyError):
            objects.put(name, pieces(), durable=durable)
    assert objects.usage() == dict.fromkeys(KINDS, 0)
    objects.put(NAMES[0], b"whole", durable=durable)
    assert objects.local(NAMES[0]).read_bytes() == b"whole"


@backends
def test_of_many_that_put_at_once_one_stays(opened: Open, tmp_path: Path) -> None:
    """Whoever has been told that it is there finds the same from then on."""
    objects = opened(tmp_path / "data")
    for name in NAMES:
        start, found = threading.Barrier(8), []

        def put(number: int, name: str = name, start: threading.Barrier = start, found: list[bytes] = found) -> None:
            start.wait()
            if number % 2:
                file = tmp_path / f"finished-{number}"
                file.write_bytes(bytes([number]) * 1000)
                objects.take(file, name, durable=False)
            else:
                objects.put(name, [bytes([number])] * 1000, durable=False)
            found.append(objects.local(name).read_bytes())

        threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(found)) == 1
        assert len(set(found[0])) == 1
        assert len(found[0]) == 1000


@backends
@pytest.mark.parametrize("name", NO_NAMES)
def test_nothing_but_a_name_of_these_kinds_is_one(opened: Open, tmp_path: Path, name: str) -> None:
    objects = opened(tmp_path / "data")
    (tmp_path / "file").touch()
    calls: list[Callable[[], object]] = [
        lambda: objects.put(name, b"", durable=False), lambda: objects.take(tmp_path / "file", name, durable=False),
        lambda: objects.local(name), lambda: objects.delete([name]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match="no object's name"):
            call()
    assert (tmp_path / "file").exists()


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.objects.backends import BACKENDS, NAMES

root, backend, verb, last = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
objects = BACKENDS[backend](root)
(root.parent / "finished").write_bytes(b"old" * 1000)
passed = 0

def step(*_):
    global passed, last
    if passed == last:
        last = -1  # the kill is audited too
        os.kill(os.getpid(), signal.SIGKILL)
    passed += 1

def pieces():
    for _ in range(3):
        step()
        yield b"old" * 333
    yield b"old"

real = os.fsync
os.fsync = lambda descriptor: (step(), real(descriptor))  # the one call among them that is not audited
sys.addaudithook(lambda event, _: step() if event == "open" or event.startswith("os.") else None)
if verb == "put":
    objects.put(NAMES[0], pieces(), durable=True)
else:
    objects.take(root.parent / "finished", NAMES[0], durable=True)
last = -1
print("put", flush=True)
"""


@backends
@pytest.mark.parametrize("verb", ["put", "take"])
def test_a_kill_at_any_point_leaves_all_or_nothing(opened: Open, root: Path, tmp_path: Path, verb: str) -> None:
    """Before each call of the system in turn; then it can be done again, and nothing of the attempt is left."""
    (backend,) = [name for name, kind in BACKENDS.items() if kind is opened]
    found = []
    for point in range(100):
        data = tmp_path / str(point) / "data"
        command = [sys.executable, "-c", _KILLED, str(data), backend, verb, str(point)]
        data.parent.mkdir()
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode in (0, -9), done.stderr
        objects = opened(data)
        found.append(objects.names("payloads"))
        if found[-1]:
            assert objects.local(NAMES[0]).read_bytes() == b"old" * 1000
        finished = data.parent / "finished"
        assert found[-1] or verb == "put" or finished.read_bytes() == b"old" * 1000
        objects.put(NAMES[0], b"new", durable=True)
        assert objects.local(NAMES[0]).read_bytes() == (b"old" * 1000 if found[-1] else b"new")
        assert sum(objects.usage().values()) == sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
        if done.returncode == 0:
            assert done.stdout == "put\n"
            break
    assert found[0] == []
    assert found[-1] == [NAMES[0]]
    assert len(found) > 5
