"""A task file for a table: is a tumour malignant? Thirty measurements of 569 biopsies, divided among hospitals.

    thinwire-client model init --task docs/examples/breast_cancer.py --out first.safetensors
    thinwire-client join URL --invite-file invite --task docs/examples/breast_cancer.py --share 0/3

In a real federation `data()` would read this hospital's own file. Here each client takes its share of a set that
scikit-learn bundles (Wisconsin Diagnostic Breast Cancer; Street, Wolberg, Mangasarian 1993).
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from thinwire.edge_client.data import ClientInfo, Data


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))


def data(client: ClientInfo) -> Data:
    table = load_breast_cancer()
    # Orders of magnitude differ by column; constants, so that no hospital needs to know another's mean.
    columns = np.log1p(table.data) - np.log1p(table.data[:1])
    inputs = torch.tensor(columns, dtype=torch.float32)
    targets = torch.tensor(table.target, dtype=torch.int64)

    order = np.random.default_rng(client.seed).permutation(len(inputs))
    mine = torch.from_numpy(order[client.index :: client.clients].copy())
    held_out = len(mine) // 5
    test, train = mine[:held_out], mine[held_out:]
    return Data(train=(inputs[train], targets[train]), evaluation=(inputs[test], targets[test]))


# One class is rarer, and missing it is worse.
loss = nn.CrossEntropyLoss(weight=torch.tensor([1.5, 1.0]))
