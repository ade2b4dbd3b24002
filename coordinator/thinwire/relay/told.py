"""What the coordinator has told each device of, through this relay: that much it may have from here without asking."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from thinwire.protocol.messages import TaskMessage

_DEVICES: Final = 100_000
_DIGESTS: Final = 256


def token_hash(authorization: str) -> bytes:
    """What stands for a device: of its `Authorization`."""
    return hashlib.sha256(authorization.encode()).digest()


class Told:
    """By device, the latest payloads and plans that tasks of it named. Gone with the process."""

    def __init__(self) -> None:
        self._devices: OrderedDict[bytes, OrderedDict[bytes, None]] = OrderedDict()

    def note(self, device: bytes, task: TaskMessage) -> None:
        """Its task names these."""
        digests = self._devices.setdefault(device, OrderedDict())
        self._devices.move_to_end(device)
        for digest in (task.plan, *(part.digest for part in task.parts)):
            if digest is not None:
                digests[digest] = None
                digests.move_to_end(digest)
        while len(digests) > _DIGESTS:
            digests.popitem(last=False)
        while len(self._devices) > _DEVICES:
            self._devices.popitem(last=False)

    def knows(self, device: bytes, digest: bytes) -> bool:
        """Whether a task of this device has named it."""
        return digest in self._devices.get(device, ())

    def __len__(self) -> int:
        return len(self._devices)
