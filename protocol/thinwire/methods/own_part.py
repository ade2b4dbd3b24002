"""What a client has of a model for itself where a run shares only a part of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Final

from thinwire.codecs import Array, Arrays

from .arrays import headed, is_buffer, own_name, travelling, under
from .learner import Learner
from .settings import LocalTraining
from .tensors import model_tensors
from .training import only_trained

OWN: Final = "own"
"""Heads what a client's memory keeps of its own part."""


def receive(learner: Learner, settings: LocalTraining, received: Arrays, memory: Arrays) -> None:
    """Loads what has come, and for the rest what this client has of its own, or began with."""
    if settings.narrows:
        own = under(OWN, memory)
        learner.begin_again([name for name in _others(learner, received) if name not in own])
        learner.load(own)
    learner.load(received)


def trains(learner: Learner, settings: LocalTraining, received: Arrays) -> AbstractContextManager[None]:
    """In which only what the run trains has gradients."""
    if not settings.narrows or settings.unshared == "local":
        return nullcontext()
    tensors = model_tensors(learner.model)
    return only_trained([tensors[own_name(name)] for name in received], list(tensors.values()))


def own_part(learner: Learner, settings: LocalTraining, received: Arrays) -> dict[str, Array]:
    """What to remember of it after training, `own/NAME`; {} where it never changes."""
    if not settings.narrows:
        return {}
    arrays = travelling(learner.arrays())
    kept = {
        own_name(name): array
        for name, array in arrays.items()
        if name not in received and (settings.buffers if is_buffer(name) else settings.unshared) == "local"
    }
    return headed(OWN, kept)


def _others(learner: Learner, received: Arrays) -> list[str]:
    held = {own_name(name) for name in received}
    return [name for name in learner.spec if name not in held]
