"""A table with BatchNorm: which of three vineyards is a wine from? Columns differ by orders of magnitude.

    thinwire-client task check docs/examples/table_batchnorm.py --share 0/3

BatchNorm learns each column's mean and spread, so that nobody has to agree on constants. Its running statistics travel
and are averaged, exactly (`buffers = average`). Where clients' columns differ by their instruments, let each keep its
own (FedBN: Li et al., ICLR 2021): `--set buffers=local --set share='!norm*' --set unshared=local`. The data are the
wines that scikit-learn bundles (Aeberhard, Forina 1991).
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from sklearn.datasets import load_wine
from torch import nn

from thinwire.edge_client.data import ClientInfo, Data


def model() -> nn.Module:
    return nn.Sequential(
        OrderedDict(norm1=nn.BatchNorm1d(13), first=nn.Linear(13, 16), relu=nn.ReLU(), norm2=nn.BatchNorm1d(16),
                    last=nn.Linear(16, 3))
    )  # fmt: skip


def data(client: ClientInfo) -> Data:
    table = load_wine()
    inputs = torch.tensor(table.data, dtype=torch.float32)
    targets = torch.tensor(table.target, dtype=torch.int64)
    order = torch.from_numpy(np.random.default_rng(client.seed).permutation(len(inputs)))
    mine = order[client.index :: client.clients]
    held_out = len(mine) // 5
    test, train = mine[:held_out], mine[held_out:]
    return Data(train=(inputs[train], targets[train]), evaluation=(inputs[test], targets[test]))
