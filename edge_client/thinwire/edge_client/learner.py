"""The learner: a user's model, loss and data on one device, as the client halves of the methods see them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Protocol

import numpy as np
import torch
from torch import nn

from thinwire.codecs import Array, Arrays, Chain, CodecError, Spec
from thinwire.methods.arrays import Model, are_finite, is_buffer, own_name
from thinwire.methods.inputs import Called, Inputs
from thinwire.methods.payloads import decoded_answer, encode_answer
from thinwire.methods.samples import Samples
from thinwire.methods.tensors import (
    load_arrays,
    model_arrays,
)
from thinwire.methods.values import Answer

from .data import ClientInfo
from .devices import devices_of
from .examples import required, samples_of
from .held_model import HeldModel, fresh_model
from .measures import Measures
from .problems.problem_file import LearningProblem
from .streams import StreamSamples

_FAR: Final = 100.0
"""Times the loss of an untrained model: what no honest average comes to, not for examples unlike all others either."""
_LOOKED_AT: Final = 64


class BrokenModelError(Exception):
    """The model of a task is no model any more: whoever trained on it would spread what broke it."""


class NarrowChainError(CodecError):
    """An answer is finite, and its chain cannot hold it (`out-of-range`)."""


class Turns(Protocol):
    """A client's learner, or its turns at one that other clients of this process use, too."""

    @property
    def name(self) -> str:
        """Of the client."""

    @property
    def spec(self) -> Spec:
        """Of the arrays that travel."""

    def task(self) -> AbstractContextManager[None]:
        """Held from before what a task brings is fetched until its outcome is there."""

    def turn(self) -> AbstractContextManager[Learner]:
        """Held while the learner is used: what is random is torch's, of which a process has one."""


class Learner:
    """See `thinwire.methods.learner.Learner`, which this is. `prepare` it for each task.

    The model starts from `client.seed`, so that parts that never travel (frozen weights) are the same on all clients.
    `like`: another client's learner in this process, of the same problem and seed, whose model this one shares: they
    take turns, and each task puts everything into it that counts. Raises: `ProblemFileError`.
    """

    def __init__(
        self,
        problem: LearningProblem,
        client: ClientInfo,
        *,
        device: str = "cpu",
        allow: Collection[str] = (),
        max_answer_bytes: int | None = None,
        like: Learner | None = None,
    ) -> None:
        self.name = client.name
        self.max_answer_bytes = max_answer_bytes
        self.seed = client.seed
        self.devices = devices_of(device)
        self.device = self.devices[0]
        self.round = self.rounds = 1
        self.loss = problem.loss
        self._measures = Measures(problem)
        self.encode, self.optimizer, self.fit = problem.encode, problem.optimizer, problem.fit
        self._problem, self._first_seed = problem, client.seed
        self._held: HeldModel = HeldModel.fresh(problem, client.seed, self.device) if like is None else like._held
        # Where the user's data() draws at random, it does so behind its model(), whoever made that.
        torch.set_rng_state(self._held.chance)
        self.model, self.frozen, self._spec = self._held.model, self._held.frozen, self._held.spec
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.device)
        data = problem.data(client)
        self.train: Samples = required(samples_of(data, "train", self.device))
        self.evaluation = samples_of(data, "evaluation", self.device)
        self.personal = samples_of(data, "personal", self.device)
        self.proxy = samples_of(data, "proxy", self.device)
        self._allowed = frozenset(allow)
        self.uplink = Chain()
        self._reply, self._reference = Spec(), dict[str, Array]()
        self._watches, self._unsuspicious = False, 0.0
        self._seconds_left: Callable[[], float | None] = _unlimited

    @property
    def spec(self) -> Spec:
        return self._spec

    def task(self) -> AbstractContextManager[None]:
        return nullcontext()

    def turn(self) -> AbstractContextManager[Learner]:
        """It is its client's own."""
        return nullcontext(self)

    def prepare(
        self,
        seed: int,
        *,
        reply: Spec | None = None,
        uplink: Chain | None = None,
        reference: Arrays | None = None,
        round_: int = 1,
        rounds: int = 1,
        seconds_left: Callable[[], float | None] | None = None,
    ) -> None:
        """Begins a task of this round: everything random follows from `seed`; `encoded` and `decoded` use `reply`,
        `uplink` and `reference`.
        """
        self.seed, self._watches = seed, False
        self.round, self.rounds = round_, rounds
        self._seconds_left = seconds_left or _unlimited
        for samples in (self.train, self.evaluation, self.personal, self.proxy):
            if isinstance(samples, StreamSamples):
                samples.round = round_
        self._reply, self.uplink = reply or Spec(), uplink or Chain()
        self._reference = dict(reference or {})
        torch.manual_seed(seed)
        with torch.no_grad():
            for buffer, value in self._held.kept:
                buffer.copy_(value)

    def forget(self) -> None:
        """Lets go of what the task brought, which is as large as what travels."""
        self._reference = {}

    def watch(self, received: Arrays, *, first: bool) -> None:
        """Looks at what a task brought, and at its loss when it is measured, if it holds arrays of this model. `first`:
        in the first round, whose loss is what later ones are held against.

        Raises: `BrokenModelError`, as `evaluate` then does: a parameter or the loss is not finite, or the loss is far
        above that of an untrained model.
        """
        own = {name: array for name, array in received.items() if self._is_own(name, array)}
        for name, array in own.items():
            if not is_buffer(name) and not np.isfinite(array).all():
                raise BrokenModelError(f"the model received is broken: {name} holds a value that is not finite")
        self._watches = bool(own)
        if first:
            self._unsuspicious = math.inf

    def _is_own(self, name: str, array: Array) -> bool:
        item = self._spec.get(own_name(name))
        return item is not None and item.numpy_dtype == array.dtype and item.admits(array.shape)

    def outputs(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        if isinstance(model, Called):
            # It calls the task's own hook already.
            found: torch.Tensor = model(inputs)
            return found
        return self._problem.outputs(model, inputs)

    def seconds_left(self) -> float | None:
        return self._seconds_left()

    def load(self, arrays: Arrays) -> None:
        load_arrays(self.model, arrays)

    def arrays(self) -> Model:
        return model_arrays(self.model)

    def first_arrays(self) -> Model:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._first_seed)
            return model_arrays(fresh_model(self._problem))

    def begin_again(self, names: Collection[str]) -> None:
        if missing := [name for name in names if name not in self._held.begun]:
            first = self.first_arrays()
            self._held.begun.update({name: first[name] for name in missing})
        self.load({name: self._held.begun[name] for name in names})

    def encoded(self, answer: Arrays) -> bytes:
        with self._told(answer):
            return encode_answer(answer, self._reply, self.uplink, reference=self._reference, seed=self.seed)

    def decoded(self, answer: Arrays) -> Arrays:
        # What comes behind the last codec that loses something, entropy coding as a rule, changes nothing here.
        codecs = self.uplink.array_codecs
        lossy = Chain(codecs[: max((n for n, codec in enumerate(codecs, 1) if not codec.lossless), default=0)])
        with self._told(answer):
            return decoded_answer(
                Answer(answer, len(self.train)), self._reply, lossy, reference=self._reference, seed=self.seed
            )

    @contextmanager
    def _told(self, answer: Arrays) -> Iterator[None]:
        """Raises `NarrowChainError` instead, where the answer is sound and its chain at fault."""
        try:
            yield
        except CodecError as error:
            if error.reason != "out-of-range" or not are_finite(answer):
                raise
            words = (
                f"What was learnt is finite, and the chain up, {self.uplink}, cannot hold it: take one of wider range"
            )
            raise NarrowChainError(error.reason, f"{error.detail}. {words}") from None

    def allows(self, permission: str) -> bool:
        return permission in self._allowed

    def evaluate(self, model: nn.Module | None = None, samples: Samples | None = None) -> dict[str, float]:
        """`loss` and `examples`; the task's own scores, or `accuracy` where the loss shows what is right and `dice`,
        mean of images, for maps; the task's own summary.
        """
        model = self.model if model is None else model
        watched, self._watches = self._watches and samples is None, False
        samples = self.evaluation if samples is None else samples
        if samples is None or not len(samples) or not samples.has_targets:
            if watched:
                few = self.train.few(_LOOKED_AT)
                self._check_loss(self._measures.of(model, self.outputs, few)["loss"], few)
            return {}
        found = self._measures.of(model, self.outputs, samples)
        if watched:
            self._check_loss(found["loss"], samples)
        return found

    def _check_loss(self, loss: float, samples: Samples) -> None:
        """Raises: `BrokenModelError`."""
        if math.isfinite(loss) and loss <= self._unsuspicious:
            self._unsuspicious = min(self._unsuspicious, _FAR * loss)
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._first_seed)
            untrained_model = fresh_model(self._problem).to(self.device)
            untrained = self._measures.of(untrained_model, self.outputs, samples)["loss"]
        # Where an untrained model has no loss either, the examples or the loss are to blame.
        if math.isfinite(untrained) and (not math.isfinite(loss) or loss > _FAR * untrained > 0):
            raise BrokenModelError(
                f"the model received is broken: its loss is {loss:.4g}, that of an untrained one {untrained:.4g}"
            )
        self._unsuspicious = _FAR * untrained if untrained > 0 else math.inf


def _unlimited() -> None:
    return None


def said_of_not_finite(samples: Samples, which: str) -> str:
    """What to say of data that hold NaN or infinity; "" where they hold none."""
    bad = samples.not_finite()
    if not len(bad):
        return ""
    return (
        f"data().{which}: {len(bad)} of {len(samples)} examples hold NaN or infinite numbers (the first of them is "
        f"number {int(bad[0])}); fill them in or leave them out"
    )
