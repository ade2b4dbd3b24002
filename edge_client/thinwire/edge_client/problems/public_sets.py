"""Fetching the usual sets from the usual places, only when asked to, as one npz file."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from thinwire.machine.files import write_atomic

_CIFAR: Final = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")
_MAX_BYTES: Final = 1 << 28
_FILES: Final = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}
_IDX: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "x_train": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "y_train": "d53e105ee54ea40749a09fcbcd1e9432",
            "x_test": "9fb629c4189551a2d022fa330f9573f3",
            "y_test": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "x_train": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "y_train": "25c81989df183df01b3e8a0aad5dffbe",
            "x_test": "bef4ecab320f06d8554ea6380940ec79",
            "y_test": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
}
"""Where the official files are, and their MD5 sums: addresses and sums as torchvision has them."""


def download(name: str, folder: Path) -> Path:
    """The npz file of `mnist`, `fashion_mnist` or `cifar10` in this folder, fetched unless it is there.

    Raises: `ValueError` (another name, nothing at the address, or something else than expected).
    """
    path = folder / f"{name}.npz"
    if path.exists():
        return path
    if name != "cifar10" and name not in _IDX:
        raise ValueError(f"the task {name} is not one that can be fetched; give --data FILE.npz")
    if name == "cifar10":
        arrays = read_cifar(_fetch(*_CIFAR))
    else:
        base, sums = _IDX[name]
        arrays = {key: read_idx(_fetch(base + file, sums[key])) for key, file in _FILES.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stub takes allow_pickle for one of the arrays
    write_atomic(path, buffer.getvalue(), fsync=False, mode=0o644)
    return path


def _fetch(address: str, md5: str) -> bytes:
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
    if hashlib.md5(found, usedforsecurity=False).hexdigest() != md5:
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
