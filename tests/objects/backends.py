"""The kinds of objects that the tests run over, and names of objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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


BACKENDS = {"local": _local}
