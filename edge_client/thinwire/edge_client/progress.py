"""What a client sees of whether its runs learn: from what it measures of their models, round by round."""

from __future__ import annotations

from collections.abc import Mapping

from thinwire.codecs import Arrays, Spec
from thinwire.methods.arrays import own_name
from thinwire.methods.progress import DIVERGING, NO_MOVE, Measured, diverges, moves_nothing, stands_still
from thinwire.protocol.messages import TaskMessage

from .console import Say


class Progress:
    """Of all runs of one process; said when it begins to be so. `own`: the spec of this client's model."""

    def __init__(self, own: Spec, say: Say) -> None:
        self._own = own
        self._say = say
        self._measured: dict[str, list[Measured]] = {}
        self._trained: dict[str, list[Mapping[str, float]]] = {}
        self._said: dict[str, str] = {}

    def measured(self, task: TaskMessage, metrics: Mapping[str, float]) -> None:
        """What was measured of the model that a task brought. Of runs that were seen from their first model on."""
        found = Measured.of(task.round - 1, metrics)
        if found is None or (task.run not in self._measured and found.round > 0):
            return
        seen = self._measured.setdefault(task.run, [])
        if not seen or found.round > seen[-1].round:
            seen.append(found)
            self._tell(task.run, stands_still(seen))

    def unmoved(self, task: TaskMessage, answer: Arrays) -> bool:
        """Whether this answer, so far as it is of the client's own model, would change no weight of it."""
        dead = moves_nothing({name: array for name, array in answer.items() if own_name(name) in self._own})
        if dead:
            self._tell(f"{task.run} {NO_MOVE}", NO_MOVE)
        return dead

    def trained(self, task: TaskMessage, metrics: Mapping[str, float]) -> None:
        """What an answer says of the training behind it."""
        seen = self._trained[task.run] = [*self._trained.get(task.run, [])[-1:], metrics]
        self._tell(f"{task.run} {DIVERGING}", diverges(seen))

    def _tell(self, about: str, words: str) -> None:
        if words and not self._said.get(about):
            self._say(f"warning: {words}")
        self._said[about] = words
