"""A method for tests that uses what federated averaging does not: steps, cohort "same", give_up, private parts, deltas.

Step 0 asks everybody for the mean of something random; step 1 asks the same clients again.
"""

from __future__ import annotations

from collections.abc import Mapping

from thinwire.methods.chains import Chains
from thinwire.methods.method import Method
from thinwire.methods.settings import MethodSettings


class ToySettings(MethodSettings):
    """`steps` per round; `give_up`: go on without a quorum; `private`: a part for each client."""

    steps: int = 1
    give_up: bool = False
    private: bool = False
    delta: bool = False


def _chains(settings: ToySettings) -> Mapping[str, Chains]:
    chains = Chains.parse("delta, byte_shuffle, zstd" if settings.delta else "byte_shuffle, zstd", "zstd")
    return {"train": chains, "again": chains}


METHOD = Method("toy", "A toy", "none", ToySettings, _chains)
