"""Fetching the usual sets from the usual places, only when asked to, as one npz file."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MNIST: Final = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION: Final = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_CIFAR: Final = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_CIFAR_MD5: Final = "c32a1d4ab5d03f1284b67883e8d87530"
_MAX_BYTES: Final = 1 << 28
_IDX: Final = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}


def download(name: str, folder: Path) -> Path:
    """The npz file of `mnist`, `fashion_mnist` or `cifar10` in this folder, fetched unless it is there.

    Raises: `ValueError` (another name, nothing at the address, or something else than expected).
    """
    path = folder / f"{name}.npz"
    if path.exists():
        return path
    if name not in ("mnist", "fashion_mnist", "cifar10"):
        raise ValueError(f"the task {name} is not one that can be fetched; give --data FILE.npz")
    if name == "cifar10":
        arrays = read_cifar(_fetch(_CIFAR, _CIFAR_MD5))
    else:
        base = _MNIST if name == "mnist" else _FASHION
        arrays = {key: read_idx(_fetch(base + file)) for key, file in _IDX.items()}
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stub takes allow_pickle for one of the arrays
    partial = path.with_suffix(".part")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)
    return path


def _fetch(address: str, md5: str | None = None) -> bytes:
    import httpx

    try:
        with httpx.stream("GET", address, follow_redirects=True, timeout=60) as response:
            response.raise_for_status()
            found = bytearray()
            for piece in response.iter_bytes():
                found += piece
                if len(found) > _MAX_BYTES:
                    raise ValueError(f"{address} is larger than expected")
    except httpx.HTTPError as error:
        raise ValueError(f"{address} cannot be fetched: {error}") from None
    if md5 is not None and hashlib.md5(found, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{address} is not the file that was expected")
    return bytes(found)


def read_idx(compressed: bytes) -> NDArray[np.uint8]:
    """The array of a gzipped IDX file of bytes. Raises: `ValueError`."""
    with gzip.open(io.BytesIO(compressed)) as file:
        raw = file.read(_MAX_BYTES)
    if raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ValueError("not an IDX file of bytes")
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", raw[3], 4))
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def read_cifar(compressed: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of the binary version of CIFAR-10; nothing is unpickled."""
    parts: dict[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    with tarfile.open(fileobj=io.BytesIO(compressed), mode="r:gz") as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            file = archive.extractfile(member) if member.name.endswith(".bin") else None
            if file is not None:
                rows = np.frombuffer(file.read(), np.uint8).reshape(-1, 3073)
                parts["test" if "test" in member.name else "train"].append(rows)
    arrays: dict[str, NDArray[Any]] = {}
    for part, pieces in parts.items():
        rows = np.concatenate(pieces)
        arrays[f"x_{part}"] = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        arrays[f"y_{part}"] = rows[:, 0]
    return arrays
