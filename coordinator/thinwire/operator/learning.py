"""What the figures of a run say about its learning, for the operator: a model that has died looks like any other."""

from __future__ import annotations

from collections.abc import Sequence

from thinwire.methods.progress import NO_MOVE, UNCHECKED, UNMOVED, Measured, diverges, stands_still
from thinwire.methods.rounds import rounds_of
from thinwire.methods.values import EVALUATE
from thinwire.protocol.messages import ExchangeMetrics


def learning_warnings(exchanges: Sequence[ExchangeMetrics]) -> list[str]:
    """A sentence for each thing that is wrong with what the clients have measured so far."""
    found = [Measured(one.round, one.loss, one.accuracy) for one in rounds_of(exchanges) if one.loss is not None]
    said = [stands_still(found)] if found and found[0].round == 0 else []
    trained = [one for one in exchanges if one.kind != EVALUATE]
    if trained and UNMOVED in trained[-1].metrics:
        said.append(f"in round {trained[-1].round} {NO_MOVE}")
    unchecked = [one for one in exchanges if UNCHECKED in one.metrics]
    differing = [one.round for one in unchecked if one.metrics[UNCHECKED] >= 2]
    if differing:
        said.append(
            f"in round {differing[-1]} what does not travel of the clients' models was not the same at all of them: "
            "another --seed, or another file or version of pretrained weights. Make the model by thinwire-client model "
            "init, which marks it, and begin again: then whoever differs declines, and says which part it is"
        )
    elif unchecked:
        said.append(
            "the clients' models have parts that do not travel, and nothing compares them: the model file that the run "
            "began with has no marks of them, or it was started with frozen=any. thinwire-client model init makes a "
            "file that has them"
        )
    if words := diverges([one.metrics for one in trained]):
        said.append(f"in round {trained[-1].round}, at clients: {words}")
    return [sentence for sentence in said if sentence]
