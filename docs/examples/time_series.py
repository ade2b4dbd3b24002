"""Regression on a time series: the next value of a load, from the day before it. The figure is the RMSE.

    thinwire-client task check docs/examples/time_series.py --share 0/4
    SERIES=load.npy thinwire-client join URL --invite-file invite --task docs/examples/time_series.py
    thinwire run start --model first.safetensors --set best=-rmse ...

`SERIES` names an npy file with this client's own values, one an hour; without it each client draws a series of its own.
Windows are cut when they are asked for, so a long series lies in memory once. `summary` is computed once over all
held-out outputs: a root of a mean is no mean of roots. `best = "-rmse"`: of an error the lower is the better.
"""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from thinwire.edge_client.data import ClientInfo, Data

WINDOW = 24


class Forecast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 16, batch_first=True)
        self.last = nn.Linear(16, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        states, _ = self.rnn(values[:, :, None])
        # What is learnt is how the next value differs from the last one.
        found: torch.Tensor = values[:, -1] + self.last(states[:, -1])[:, 0]
        return found


class Windows(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Example n: values n to n + 23, and the one behind them."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = torch.from_numpy(values.astype(np.float32))

    def __len__(self) -> int:
        return len(self.values) - WINDOW

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.values[number : number + WINDOW], self.values[number + WINDOW]


def model() -> nn.Module:
    return Forecast()


def data(client: ClientInfo) -> Data:
    windows = Windows(np.load(os.environ["SERIES"]) if "SERIES" in os.environ else _drawn(client))
    # What is held out lies behind what is learnt: a window may not have been seen in part.
    split = len(windows) * 4 // 5
    train, test = range(split), range(split + WINDOW, len(windows))
    return Data(train=Subset(windows, train), evaluation=Subset(windows, test))


loss = nn.MSELoss()


def summary(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    return {"rmse": math.sqrt(float((outputs - targets).square().mean()))}


def _drawn(client: ClientInfo) -> np.ndarray:
    """Thirty days of a daily and a weekly wave, this client's own heights and noise."""
    random, hours = np.random.default_rng([client.seed, client.index]), np.arange(30 * 24)
    day, week = random.uniform(0.5, 1.5, 2)
    found: np.ndarray = day * np.sin(hours * math.tau / 24) + week * np.sin(hours * math.tau / 168)
    return found + random.normal(0, 0.1, len(hours))
