"""Several labels for each example: F1 and AUROC instead of accuracy.

    pip install scikit-learn
    thinwire-client task check docs/examples/multi_label.py --share 0/4
    thinwire run start --model first.safetensors --set best=f1 ...

`score` gives a value for each example, whose mean over all clients is exact; `summary` gives figures of each client's
held-out examples as a whole, of which a run shows the mean. Both are columns of `thinwire run show`, and
`thinwire compare --score f1 --target 0.6` compares methods by one of them.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import roc_auc_score
from torch import nn

from thinwire.edge_client.data import ClientInfo, Data

WORDS, LABELS = 40, 6


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(WORDS, 32), nn.ReLU(), nn.Linear(32, LABELS))


def data(client: ClientInfo) -> Data:
    # A bag of words for each text, and which of six subjects it is about.
    counts, subjects = make_multilabel_classification(
        600, WORDS, n_classes=LABELS, n_labels=2, allow_unlabeled=False, random_state=client.seed
    )
    inputs = torch.tensor(np.log1p(counts), dtype=torch.float32)
    targets = torch.tensor(subjects, dtype=torch.float32)
    mine = slice(client.index, None, client.clients)
    inputs, targets = inputs[mine], targets[mine]
    held_out = len(inputs) // 4
    return Data(train=(inputs[held_out:], targets[held_out:]), evaluation=(inputs[:held_out], targets[:held_out]))


loss = nn.BCEWithLogitsLoss()


def score(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of each example: 2 x found / (said + there)."""
    said, there = outputs > 0, targets > 0.5
    return {"f1": 2 * (said & there).sum(1) / (said.sum(1) + there.sum(1)).clamp(min=1)}


def summary(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """The mean over subjects that some, but not all, of the examples have."""
    both = [label for label in range(LABELS) if 0 < targets[:, label].mean() < 1]
    return {"auroc": float(roc_auc_score(targets[:, both], outputs[:, both], average="macro"))} if both else {}
