"""A task file that costs next to nothing: three classes of points, a network whose answers are just large enough to
travel as uploads.
"""

from __future__ import annotations

import numpy as np
import torch

from thinwire.edge_client.data import ClientInfo, Data

INPUTS, WIDTH, CLASSES, EXAMPLES = 12, 128, 3, 24


def model() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(INPUTS, WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, CLASSES),
    )


def data(client: ClientInfo) -> Data:
    random = np.random.default_rng([client.seed, client.index])
    centres = np.random.default_rng(client.seed).standard_normal((CLASSES, INPUTS))
    labels = random.integers(CLASSES, size=EXAMPLES)
    points = torch.from_numpy((centres[labels] + random.standard_normal((EXAMPLES, INPUTS))).astype(np.float32))
    targets = torch.from_numpy(labels)
    half = EXAMPLES // 2
    return Data((points[:half], targets[:half]), (points[half:], targets[half:]), proxy=(points[half:],))
