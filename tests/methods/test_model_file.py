"""Model files: what is read equals what was written, in its order, whatever the layout; nothing else is taken."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save, save_file

from thinwire.codecs import Array, Arrays
from thinwire.codecs.spec import DTYPES
from thinwire.methods.arrays import same_bits
from thinwire.methods.model_file import model_bytes, read_arrays, read_model
from thinwire.protocol.reasons import ProblemError

LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": lambda array: np.array(array, order="C"),
    "Fortran": lambda array: np.array(array, order="F"),
    "transposed": lambda array: np.array(array.T, order="C").T,
    "strided": lambda array: np.repeat(array, 3, axis=-1)[..., ::3],
    "backwards": lambda array: np.array(np.flip(array), order="C")[(slice(None, None, -1),) * array.ndim],
    "of all bytes": lambda array: np.frombuffer(b"\0" + array.tobytes(), array.dtype, offset=1).reshape(array.shape),
    "one value seen many times": lambda array: np.broadcast_to(array.reshape(-1)[:1], array.shape),
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
}


def written(folder: Path, arrays: Arrays) -> dict[str, Array]:
    path = folder / "model.safetensors"
    path.write_bytes(model_bytes(arrays))
    return read_arrays(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (1, 6), (2, 1, 3, 2)])
@pytest.mark.parametrize("dtype", ["f4", "f2", "f8", "i8", "u2", "?"])
def test_every_layout_is_written_by_its_values(tmp_path: Path, layout: str, shape: tuple[int, ...], dtype: str) -> None:
    values = np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype)
    values.reshape(-1)[::2] = 0
    array = LAYOUTS[layout](values)
    # As plain numbers of this machine's own order, made by numpy alone.
    expected = np.array(array.tolist(), dtype).reshape(shape)
    found = written(tmp_path, {"before": values, "w": array})
    assert same_bits(found, {"before": values, "w": expected})


def test_what_is_empty_or_a_single_number_keeps_its_shape(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {
        "scalar": np.float32(1.5) * np.ones(()), "none": np.zeros((0,), "f4"), "no rows": np.zeros((0, 3), "f4"),
        "no columns": np.zeros((3, 0), "f8").T, "true": np.array(True), "big": np.array(7, ">i4"),
    }  # fmt: skip
    found = written(tmp_path, arrays)
    assert {name: array.shape for name, array in found.items()} == {name: array.shape for name, array in arrays.items()}
    assert (found["scalar"], found["true"], found["big"]) == (1.5, True, 7)


_array = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda dtype: hnp.arrays(DTYPES[dtype], hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@given(arrays=st.lists(_array, max_size=5), data=st.data())
def test_any_arrays_come_back_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, arrays: list[Array], data: st.DataObject
) -> None:
    names = data.draw(st.permutations([f"layer.{index}" for index in range(len(arrays))]))
    turned = [array.transpose(data.draw(st.permutations(range(array.ndim)))) for array in arrays]
    model = dict(zip(names, turned, strict=True))
    folder = tmp_path_factory.mktemp("model")
    found = written(folder, model)
    assert list(found) == names
    assert same_bits(found, model)
    # The same arrays give the same bytes, wherever they come from.
    assert model_bytes(found) == model_bytes(model)


def test_a_file_of_somebody_elses_is_read_by_name(tmp_path: Path) -> None:
    save_file({"b": np.ones(2, "f4"), "a": np.zeros(3, "f8")}, tmp_path / "theirs")
    assert list(read_model(tmp_path / "theirs")) == ["a", "b"]


def test_names_that_an_order_leaves_out_come_last(tmp_path: Path) -> None:
    arrays = {name: np.ones(1, "f4") for name in "abcd"}
    (tmp_path / "file").write_bytes(save(arrays, metadata={"order": json.dumps(["d", "gone", "b"])}))
    assert list(read_model(tmp_path / "file")) == ["d", "b", "a", "c"]


def _with_order(order: str) -> bytes:
    return save({"w": np.ones(3, "f4")}, metadata={"order": order})


def _of_dtype(name: str, width: int) -> bytes:
    header = json.dumps({"w": {"dtype": name, "shape": [2], "data_offsets": [0, 2 * width]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(2 * width)


WHOLE = model_bytes({"w": np.arange(6, dtype="f4").reshape(2, 3)})
BAD = {
    "nothing": b"",
    "text": b"a model, they said",
    "torn in the header": WHOLE[:20],
    "torn in the values": WHOLE[:-1],
    "too long": WHOLE + b"\0",
    "a header longer than the file": struct.pack("<Q", 1 << 40) + WHOLE[8:],
    "no JSON": struct.pack("<Q", 4) + b"true",
    "bfloat16": _of_dtype("BF16", 2),
    "8 bits of floating point": _of_dtype("F8_E4M3", 1),
    "complex numbers": _of_dtype("C64", 8),
    "a dtype nobody has": _of_dtype("X9", 1),
    "a name too long": save({"w" * 300: np.ones(1, "f4")}),
    "an order that is no JSON": _with_order("[w"),
    "an order that is no list": _with_order('{"w": 0}'),
    "an order of lists": _with_order('[["w"]]'),
    "an order of numbers": _with_order("[0]"),
    "an order without end": _with_order("[" * 100_000),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_model_file_is_refused_with_a_reason(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_bytes(BAD[kind])
    for read in (read_arrays, read_model):
        with pytest.raises(ProblemError, match="not a model file") as refused:
            read(tmp_path / "file")
        assert refused.value.reason == "run-invalid"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_no_run_starts_from_what_is_not_finite(tmp_path: Path, value: float, dtype: str) -> None:
    (tmp_path / "file").write_bytes(model_bytes({"fine": np.ones(2, "f4"), "w": np.array([1, value, 1], dtype)}))
    with pytest.raises(ProblemError, match="array 'w' of the model holds a value that is not finite"):
        read_model(tmp_path / "file")
    assert same_bits({"w": read_arrays(tmp_path / "file")["w"]}, {"w": np.array([1, value, 1], dtype)})


def test_a_missing_file_is_no_bad_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "nowhere")
