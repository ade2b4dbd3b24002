"""The built-in tasks: what each client gets of them, and what a wrong one is told."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems import built_in, public_sets
from thinwire.edge_client.problems.architectures import ARCHITECTURES
from thinwire.edge_client.problems.built_in import PROBLEMS, ProblemOptions, find_problem
from thinwire.edge_client.problems.problem_file import ProblemFileError
from thinwire.edge_client.problems.public_sets import read_cifar, read_idx
from thinwire.edge_client.problems.segmentation import SegmentationLoss, dice


def _tensors(given: object) -> tuple[torch.Tensor, ...]:
    assert isinstance(given, tuple)
    return given


def _clients(split: str, count: int = 8) -> list[Data]:
    task = find_problem("digits")
    return [task.data(ClientInfo(f"client-{index:02}", index, count, 0, split)) for index in range(count)]


def test_digits_are_divided_without_loss() -> None:
    shares = _clients("dirichlet:0.3")
    proxy = _tensors(shares[0].proxy)[0]
    trained = torch.cat([_tensors(share.train)[0] for share in shares])
    tested = torch.cat([_tensors(share.evaluation)[0] for share in shares])
    assert len(trained) + len(tested) + len(proxy) == 1797
    assert len(tested) == 359
    # The test set is common: another split gives the same shares of it.
    other = _clients("iid")
    assert all(
        torch.equal(_tensors(one.evaluation)[0], _tensors(two.evaluation)[0])
        for one, two in zip(shares, other, strict=True)
    )
    assert all(torch.equal(_tensors(share.proxy)[0], proxy) for share in [*shares, *other])


def test_every_share_of_the_test_set_is_as_large_to_within_one() -> None:
    sizes = [len(_tensors(share.evaluation)[0]) for share in _clients("iid", 7)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("split", ["classes:2", "dirichlet:0.1", "iid"])
def test_personal_examples_are_distributed_like_the_clients_own(split: str) -> None:
    for share in _clients(split):
        own = np.bincount(_tensors(share.train)[1], minlength=10)
        personal = np.bincount(_tensors(share.personal)[1], minlength=10)
        assert personal.sum() > 0
        # To within the rounding of each class.
        assert np.abs(personal - personal.sum() * own / own.sum()).max() <= 1 + 10 / 2


def test_inputs_are_scaled_to_one() -> None:
    inputs, targets = _tensors(_clients("iid")[0].train)
    assert inputs.dtype == torch.float32
    assert inputs.shape[1:] == (1, 8, 8)
    assert inputs.min() == -1
    assert inputs.max() == 1
    assert targets.dtype == torch.int64


def _save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # its stub takes allow_pickle for one of the arrays
    return path


def test_an_npz_of_ones_own_with_owners(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = _save(
        tmp_path / "own.npz",
        x_train=rng.normal(size=(60, 5)),
        y_train=np.arange(60) % 3,
        x_test=rng.normal(size=(20, 5)),
        y_test=np.arange(20) % 3,
        client_train=np.arange(60) % 4,
        client_test=np.arange(20) % 4,
    )
    task = find_problem(f"npz:{file}", ProblemOptions(architecture="mlp"))
    shares = [task.data(ClientInfo("c", index, 4, 0, "natural")) for index in range(4)]
    assert [len(_tensors(share.train)[0]) for share in shares] == [15] * 4
    assert [len(_tensors(share.personal)[0]) for share in shares] == [5] * 4
    assert task.model()(_tensors(shares[0].train)[0]).shape == (15, 3)


def test_a_limit_takes_so_many_examples(tmp_path: Path) -> None:
    task = find_problem("digits", ProblemOptions(train=120, test=40))
    data = task.data(ClientInfo())
    assert len(_tensors(data.train)[0]) + len(_tensors(data.proxy)[0]) == 120
    assert len(_tensors(data.evaluation)[0]) == 40


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("digit", "no task is named 'digit'"),
        ("mnist", "--data"),
        ("npz:absent.npz", "absent.npz"),
        ("absent.py", "no task file absent.py"),
    ],
)
def test_a_task_that_cannot_be_is_named(text: str, what: str) -> None:
    with pytest.raises(ProblemFileError, match=what):
        find_problem(text)


def test_an_npz_with_an_array_missing_or_pickled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProblemFileError, match="y_train, x_test, y_test"):
        find_problem(f"npz:{_save(tmp_path / 'a.npz', x_train=np.zeros(3))}")
    objects = np.array([{}, {}], dtype=object)
    with pytest.raises(ProblemFileError, match="allow_pickle"):
        find_problem(
            f"npz:{_save(tmp_path / 'b.npz', x_train=objects, y_train=objects, x_test=objects, y_test=objects)}"
        )


def test_sites_whose_labels_differ_have_one_model_where_they_say_how_many_classes_there_are(tmp_path: Path) -> None:
    inputs = np.zeros((6, 4), np.float32)
    for site, classes in (("a", 2), ("b", 3)):
        labels = np.arange(6) % classes
        np.savez(tmp_path / f"{site}.npz", x_train=inputs, y_train=labels, x_test=inputs, y_test=labels)
    specs = [
        Learner(find_problem(f"npz:{tmp_path / site}.npz", ProblemOptions(classes=5)), ClientInfo()).spec
        for site in "ab"
    ]
    assert specs[0] == specs[1]
    with pytest.raises(ProblemFileError, match="labels go up to 2, and --classes 2"):
        find_problem(f"npz:{tmp_path / 'b.npz'}", ProblemOptions(classes=2))


def test_dice_is_one_for_equal_maps_and_zero_for_disjoint_ones() -> None:
    truth = torch.zeros(3, 4, 4)
    truth[:2, :2] = 1
    scores = torch.stack([truth[0], 1 - truth[1], truth[2]])[:, None] * 2 - 1
    assert torch.equal(dice(scores, truth), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
    classes = torch.zeros(1, 3, 2, 2)
    classes[0, 1] = 5
    assert float(dice(classes, torch.ones(1, 2, 2, dtype=torch.int64))) == pytest.approx(1.0)


def test_the_segmentation_loss_falls_as_maps_get_better() -> None:
    truth = (torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    loss = SegmentationLoss()
    values = [float(loss((truth * 2 - 1)[:, None] * scale, truth)) for scale in (-3, 0, 3, 30)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0, abs=1e-3)


def test_the_official_formats_are_read() -> None:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    header = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in images.shape)
    assert np.array_equal(read_idx(gzip.compress(header + images.tobytes())), images)
    with pytest.raises(ValueError, match="IDX"):
        read_idx(gzip.compress(b"\0\0\x0d\x03"))

    rows = np.arange(4 * 3073, dtype=np.uint32).astype(np.uint8).reshape(4, 3073)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, part in (("data_batch_1.bin", rows[:3]), ("test_batch.bin", rows[3:])):
            member = tarfile.TarInfo(f"cifar/{name}")
            member.size = part.nbytes
            archive.addfile(member, io.BytesIO(part.tobytes()))
    found = read_cifar(buffer.getvalue())
    assert np.array_equal(found["y_train"], rows[:3, 0])
    assert np.array_equal(found["x_test"][0, :, :, 1].reshape(-1), rows[3, 1 + 1024 : 1 + 2048])


@pytest.fixture
def usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, served over HTTP, in the place of MNIST's; the sums are those of the files that it holds at first."""
    folder = tmp_path / "place"
    folder.mkdir()
    arrays = {
        "x": np.arange(60 * 64, dtype=np.uint32).astype(np.uint8).reshape(60, 8, 8),
        "y": np.arange(60, dtype=np.uint8) % 10,
    }
    sums = {}
    for key, file in public_sets._FILES.items():
        array = arrays[key[0]]
        header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
        (folder / file).write_bytes(gzip.compress(header + array.tobytes()))
        sums[key] = hashlib.md5((folder / file).read_bytes(), usedforsecurity=False).hexdigest()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setitem(public_sets._IDX, "mnist", (f"http://127.0.0.1:{server.server_port}/", sums))  # type: ignore[arg-type]
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_set_is_fetched_once_and_only_as_it_should_be(usual_place: Path, tmp_path: Path) -> None:
    options = ProblemOptions(downloads=tmp_path / "cache", architecture="mlp")
    file = usual_place / "t10k-labels-idx1-ubyte.gz"
    whole = file.read_bytes()
    file.write_bytes(gzip.compress(b"another file"))
    with pytest.raises(ProblemFileError, match="not the file that was expected"):
        find_problem("mnist", options)
    file.unlink()
    with pytest.raises(ProblemFileError, match="cannot be fetched"):
        find_problem("mnist", options)
    assert not list((tmp_path / "cache").glob("*"))
    file.write_bytes(whole)
    first = find_problem("mnist", options).data(ClientInfo())
    assert len(_tensors(first.evaluation)[0]) == 60
    for path in usual_place.iterdir():
        path.unlink()
    built_in._read.cache_clear()
    again = find_problem("mnist", options).data(ClientInfo())
    assert torch.equal(_tensors(again.train)[0], _tensors(first.train)[0])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mnist.npz"]


SETS = [
    ("mnist", "mnist.npz", "natural", 8, "accuracy"),
    ("fashion_mnist", "fashion_mnist.npz", "classes:2", 10, "accuracy"),
    ("cifar10", "cifar10_small.npz", "dirichlet:0.3", 5, "accuracy"),
    ("text_npz", "shakespeare.npz", "natural", 100, "accuracy"),
    ("unet_npz", "dsb2018_nuclei_128.npz", "natural", 6, "dice"),
]


@pytest.mark.parametrize(("name", "file", "split", "clients", "metric"), SETS, ids=[row[0] for row in SETS])
def test_the_usual_sets_from_a_local_file(
    name: str, file: str, split: str, clients: int, metric: str, shared_data: Callable[[str], Path]
) -> None:

    torch.set_num_threads(1)
    task = find_problem(
        name, ProblemOptions(data=shared_data(file), train=None if split == "natural" else 600, test=60)
    )
    learner = Learner(task, ClientInfo("c", 0, clients, 0, split))
    metrics = learner.evaluate()
    assert set(metrics) == {"loss", metric, "examples"}
    assert metrics["examples"] == len(learner.evaluation or ())
    assert 0 <= metrics[metric] <= 1


def test_the_documentation_names_every_task_and_architecture(root: Path) -> None:
    text = (root / "docs" / "examples" / "README.md").read_text()
    for name in [*PROBLEMS, *ARCHITECTURES]:
        assert re.search(rf"`{name}[:`]", text), f"{name} is missing"
