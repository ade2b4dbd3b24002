"""A folder of images that is never read into memory, with augmentation.

    IMAGES=scans thinwire-client task check docs/examples/image_folder.py
    IMAGES=scans thinwire-client join URL --invite-file invite --task docs/examples/image_folder.py

`IMAGES` is a folder as most of them are: `train/CLASS/FILE` and `test/CLASS/FILE`, of png, jpg (by Pillow) or npy files
(height, width) or (height, width, 3), values 0 to 255. All clients have folders of the same classes, in the order of
their names. Files are opened when their turn comes, by two worker processes. What `__getitem__` draws follows from run,
client, round, epoch and the example's number: the same bits with any number of workers.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from thinwire.edge_client.data import ClientInfo, Data

SIZE = 32
ROOT = Path(os.environ.get("IMAGES", "images"))


class Images(Dataset[tuple[torch.Tensor, int]]):
    """(3, 32, 32) float32 around 0, and the class."""

    def __init__(self, which: str, *, augment: bool) -> None:
        self.files = sorted(path for path in (ROOT / which).glob("*/*") if path.is_file())
        self.classes = sorted(path.name for path in (ROOT / "train").iterdir() if path.is_dir())
        self.augment = augment

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        path = self.files[number]
        image = _read(path)
        if self.augment:
            if torch.rand(()) < 0.5:
                image = image.flip(2)
            down, across = torch.randint(0, 9, (2,)).tolist()
            image = functional.pad(image, (4, 4, 4, 4))[:, down : down + SIZE, across : across + SIZE]
        return image, self.classes.index(path.parent.name)


def model() -> nn.Module:
    classes = len([path for path in (ROOT / "train").iterdir() if path.is_dir()])
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.GroupNorm(4, 16), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes)),
    )


def data(client: ClientInfo) -> Data:
    return Data(train=Images("train", augment=True), evaluation=Images("test", augment=False), workers=2)


def _read(path: Path) -> torch.Tensor:
    if path.suffix == ".npy":
        pixels = np.load(path)
    else:
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    grey = pixels.ndim == 2
    whole = torch.tensor(pixels, dtype=torch.float32) / 127.5 - 1
    whole = whole[None].expand(3, -1, -1) if grey else whole.permute(2, 0, 1)
    sized: torch.Tensor = functional.interpolate(whole[None], (SIZE, SIZE), mode="bilinear", antialias=True)[0]
    return sized
