"""What the edge gives a client half."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol

from thinwire.codecs import Arrays, Chain, Spec

from .arrays import Model

if TYPE_CHECKING:
    # Named in signatures alone: who speaks of learners need not load torch.
    import torch

    from .inputs import Inputs
    from .samples import Samples


class Learner(Protocol):
    """The user's model, loss and data on one device.

    `name`: the client's stable name. `seed`: of this task for this client, the same wherever it runs; `round` of
    `rounds`: which one the task is of. `devices`: all that the client may use, its own first.
    `model`: its parameters are whatever the last task left; `load` first. `train` is never empty, the others may be
    None: `evaluation` (for built-in tasks this client's even share of the common test set, so that the weighted mean
    over all clients is the global test accuracy), `personal` (test examples distributed like the client's own), `proxy`
    (a public unlabelled set, the same for all clients). `encode`: the user's encoder of inputs, (n, ...) -> (n, d), for
    methods that compare examples of different clients; the same on all of them; None where there is none.
    `optimizer(parameters, lr)`: instead of the run's `local-optimizer`; `fit(model, work)`: a loop of the task's own on
    a `thinwire.methods.work.Work`, which returns the mean loss of its last epoch; None where there is none.
    `uplink`: what answers of this task are written with, the plan's chain; a client half may put a narrower one in its
    place, whose payloads the plan's chain decodes. `max_answer_bytes`: what this client is ready to send at a time.
    """

    name: str
    seed: int
    round: int
    rounds: int
    device: torch.device
    devices: tuple[torch.device, ...]
    model: torch.nn.Module
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    encode: Callable[[Inputs], torch.Tensor] | None
    optimizer: Callable[[list[torch.nn.Parameter], float], Any] | None
    fit: Callable[[torch.nn.Module, Any], float] | None
    uplink: Chain
    max_answer_bytes: int | None
    train: Samples
    evaluation: Samples | None
    personal: Samples | None
    proxy: Samples | None

    @property
    def spec(self) -> Spec:
        """Of the model's arrays: parameters with requires_grad, then floating buffers."""

    def outputs(self, model: torch.nn.Module, inputs: Inputs) -> torch.Tensor:
        """What the loss is of: the model called with these inputs, by the task's own `outputs` where it has one."""

    def seconds_left(self) -> float | None:
        """Until the task at hand is given up; None where nothing limits it."""

    def load(self, arrays: Arrays) -> None:
        """Sets those arrays of the model; others keep their values."""

    def arrays(self) -> Model:
        """The model's arrays, as copies, in the order of `spec`."""

    def first_arrays(self) -> Model:
        """The arrays this client's model began with, whatever tasks have made of it: for models that never travel."""

    def begin_again(self, names: Collection[str]) -> None:
        """Sets these arrays to what this client's model began with."""

    def evaluate(self, model: torch.nn.Module | None = None, samples: Samples | None = None) -> dict[str, float]:
        """`loss`, `accuracy` (where outputs are class scores) and `examples` on `samples`; {} without samples.

        Defaults: the learner's own model and its evaluation samples. Leaves the model in the mode it was in.
        """

    def encoded(self, answer: Arrays) -> bytes:
        """The payload of this answer: what `uplink` makes of it."""

    def decoded(self, answer: Arrays) -> Arrays:
        """What the coordinator will decode from this answer: the uplink chain there and back."""

    def allows(self, permission: str) -> bool:
        """Whether the person who runs this client consented, for example to `sample-knowledge`."""
