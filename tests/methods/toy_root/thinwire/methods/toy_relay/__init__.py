"""A toy that uses everything federated averaging does not: several steps a round, a cohort "same", give_up, a private
part, a part that never changes, delta bases, and a memory that differs by verdict.

Step 0 (`draw`) asks new clients for one step of gradient descent, and each keeps its update. Further steps (`echo`) ask
the same clients for half of what they kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from thinwire.methods.chains import Chains
from thinwire.methods.method import Method
from thinwire.methods.settings import MethodSettings


class ToyRelaySettings(MethodSettings):
    """`steps` a round, the first of which is a draw."""

    steps: int = Field(3, ge=1, le=100)
    lr: float = 0.05


def _chains(settings: ToyRelaySettings) -> Mapping[str, Chains]:
    chains = Chains.parse(down="delta, byte_shuffle, zstd", up="cast(f16), zstd", private="zstd")
    return {"draw": chains, "echo": chains}


METHOD = Method("toy_relay", "A toy", "none", ToyRelaySettings, _chains)
