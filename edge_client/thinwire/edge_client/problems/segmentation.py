"""Loss and score of binary maps: which pixels belong to the object."""

from __future__ import annotations

import torch
from torch import nn


class SegmentationLoss(nn.Module):
    """Binary cross-entropy plus 1 - soft Dice (Milletari, Navab, Ahmadi, 3DV 2016), mean over the images of a batch.

    Scores (n, 1, h, w), targets (n, h, w) of 0 and 1.
    """

    def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        flat, truth = scores.flatten(1), targets.flatten(1)
        entropy = nn.functional.binary_cross_entropy_with_logits(flat, truth)
        inside = torch.sigmoid(flat)
        overlap = (2 * (inside * truth).sum(1) + 1) / (inside.sum(1) + truth.sum(1) + 1)
        return entropy + (1 - overlap).mean()


def dice(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The Dice coefficient 2|A n B| / (|A| + |B|) of each image, (n,) float; 1 where both are empty.

    Scores (n, 1, h, w) with targets (n, h, w) of 0 and 1; or (n, classes, h, w) with classes as targets: then the mean
    over the classes from 1 on.
    """
    if scores.shape[1] == 1:
        pairs = [(scores[:, 0] > 0, targets > 0.5)]
    else:
        chosen = scores.argmax(1)
        pairs = [(chosen == label, targets == label) for label in range(1, scores.shape[1])]
    values = []
    for found, truth in pairs:
        both = (found & truth).flatten(1).sum(1).double()
        sizes = found.flatten(1).sum(1).double() + truth.flatten(1).sum(1).double()
        values.append(torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0))
    return torch.stack(values).mean(0)
