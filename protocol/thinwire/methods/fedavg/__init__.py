"""Federated averaging: every client trains the whole model, the server averages what they changed.

H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Agüera y Arcas, "Communication-Efficient Learning of Deep Networks
from Decentralized Data", AISTATS 2017, arXiv 1602.05629, Algorithm 1. With T. Li et al., "Federated Optimization in
Heterogeneous Networks" (FedProx), MLSys 2020, arXiv 1812.06127, eq. (2), by `proximal-mu`; and S. Reddi et al.,
"Adaptive Federated Optimization", ICLR 2021, arXiv 2003.00295, Algorithm 2, by `server-optimizer`.

Deviation: the answer is the update w_k - w^t against the arrays as decoded, not w_k: what a lossy downlink loses is
then not lost to the model, and exact sums have a finer resolution. The average is the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from thinwire.methods.chains import Chains
from thinwire.methods.method import Method
from thinwire.methods.optimisers import Rule, ServerOptimiser
from thinwire.methods.settings import LocalTraining


class FedavgSettings(LocalTraining):
    """The defaults are plain federated averaging."""

    proximal_mu: float = Field(0.0, ge=0, description="FedProx: adds mu/2 ||w - w^t||^2 to the local loss")
    error_feedback: bool = Field(
        False, description="what a lossy uplink chain loses of an answer is added to the client's next one"
    )
    server_optimizer: Rule = Field("sgd", description="how the server follows the mean update")
    server_lr: float | None = Field(
        None, gt=0, le=100, description="default: 1 for sgd and momentum, 0.01 for adam and yogi"
    )
    server_momentum: float = Field(0.9, ge=0, lt=1, description="beta1 of momentum, adam and yogi")
    server_beta2: float = Field(0.99, ge=0, lt=1, description="of adam and yogi")
    server_tau: float = Field(1e-3, gt=0, description="of adam and yogi: how far they adapt")

    def optimiser(self) -> ServerOptimiser:
        """The server's, configured."""
        usual = 1.0 if self.server_optimizer in ("sgd", "momentum") else 0.01
        lr = usual if self.server_lr is None else self.server_lr
        return ServerOptimiser(self.server_optimizer, lr, self.server_momentum, self.server_beta2, self.server_tau)


def _chains(settings: FedavgSettings) -> Mapping[str, Chains]:
    return {"train": Chains.parse(down="delta, quantise(8), zstd", up="quantise(8), zstd")}


METHOD = Method(
    id="fedavg",
    title="Federated averaging",
    source="McMahan et al., AISTATS 2017, arXiv 1602.05629",
    settings=FedavgSettings,
    chains=_chains,
    averages=lambda _: True,
    extends=True,
    asynchronous=True,
)
