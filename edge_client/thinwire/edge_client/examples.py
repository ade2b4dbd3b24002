"""Examples as `data()` gives them, as the methods see them: tensors, Datasets, Streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from thinwire.methods.inputs import count_of
from thinwire.methods.samples import Samples, TensorSamples

from .data import Data, Stream
from .datasets import DatasetSamples, split_batch
from .problems.problem_file import ProblemFileError
from .streams import StreamSamples


def samples_of(data: Data, which: str, device: torch.device) -> Samples | None:
    """Of this part of the data; None where there is none. Raises: `ProblemFileError`."""
    given: Any = getattr(data, which)
    if given is None:
        return None
    try:
        if isinstance(given, Stream):
            return StreamSamples(given, device)
        if isinstance(given, torch.utils.data.TensorDataset):
            given = given.tensors
        if isinstance(given, tuple | Mapping):
            return _in_memory(given, which, device)
        if not (hasattr(given, "__getitem__") and hasattr(given, "__len__")):
            raise ProblemFileError(
                f"data().{which} is a {type(given).__name__}; it is a tuple (inputs, targets), a Dataset with __len__ "
                "and __getitem__, or a Stream"
            )
        return DatasetSamples(given, device, collate=data.collate, workers=data.workers, which=which)
    except ValueError as error:
        raise ProblemFileError(f"data().{which}: {error}") from None


def _in_memory(given: Any, which: str, device: torch.device) -> TensorSamples:
    try:
        inputs, targets = split_batch(given)
    except TypeError as error:
        raise ProblemFileError(
            f"data().{which} is a tuple (inputs, targets), inputs being a tensor, a tuple or a dict of them, or a "
            f"Dataset of such pairs: {error}"
        ) from None
    if targets is not None and count_of(inputs) != len(targets):
        raise ProblemFileError(f"data().{which}: inputs and targets are not of one length")
    count_of(inputs)
    return TensorSamples(inputs, targets, device)


def required(samples: Samples | None) -> Samples:
    """Examples to train on. Raises: `ProblemFileError`."""
    if samples is None or not len(samples) or not samples.has_targets:
        raise ProblemFileError("data() returned no training examples with targets")
    return samples
