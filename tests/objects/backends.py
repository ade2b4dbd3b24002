"""The kinds of objects that the tests run over, and names of objects."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from thinwire.coordinator.objects.cache import Cache
from thinwire.coordinator.objects.local import LocalObjects
from thinwire.coordinator.objects.objects import Objects, answer, checkpoint, model, payload

Open = Callable[[Path], Objects]
DIGEST = bytes(range(32))
NAMES = [payload("aaa", DIGEST), payload("bbb", DIGEST), answer("t-1"), checkpoint("aaa", 0), checkpoint("aaa", 10),
         checkpoint("aa", 1), model(DIGEST)]  # fmt: skip


def _local(root: Path) -> Objects:
    objects = LocalObjects(root)
    objects.open()
    return objects


def _folder(root: Path) -> Objects:
    """A store in a folder that several could mount."""
    objects = RemoteObjects(store_at(f"file://{root.parent / root.name}-shared"), Cache(root / "cache", 1 << 30))
    objects.open()
    return objects


def _bucket(root: Path) -> Objects:
    """A part of a real S3's bucket, another for each folder; the environment says where it is."""
    objects = RemoteObjects(
        store_at(f"s3://thinwire/{hashlib.sha256(str(root).encode()).hexdigest()}"), Cache(root / "cache", 1 << 30)
    )
    objects.open()
    return objects


BACKENDS: dict[str, Open] = {"local": _local}
SHARED: dict[str, Open] = {}
if importlib.util.find_spec("obstore") is not None:
    from thinwire.coordinator.objects.remote import RemoteObjects, store_at

    SHARED |= {"folder": _folder, "bucket": _bucket}
    BACKENDS |= SHARED
