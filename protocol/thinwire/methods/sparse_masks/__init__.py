"""Sparse random networks: weights are random and never sent, what is trained is which of them to keep.

Objective: Y. Mestoukirdi, O. Esrafilian, D. Gesbert, Q. Li, "Sparser Random Networks Exist: Enforcing
Communication-Efficient Federated Learning via Regularization", arXiv 2309.10834 (2023): a regulariser that stands for
the mask's entropy makes masks sparser and cheaper. Base: B. Isik, F. Pase, D. Gunduz, T. Weissman, M. Zorzi, "Sparse
Random Networks for Communication-Efficient Federated Learning" (FedPM), ICLR 2023, arXiv 2209.15328, and its code:
frozen weights +-c, scores drawn from N(0, 1), theta = sigmoid(score), a fresh mask for every mini-batch,
straight-through gradients, Adam with rate 0.1, one sampled mask up, Beta aggregation (their Algorithm 2).

Ours, with reasons. The gradient passes straight from mask to theta (`ste = "identity"`; `"theta"` is the factor of
FedPM's code). The regulariser is (lambda / n) sum of theta, or of the binary entropies. Scores stay within +-15: its
clamp of probabilities to .01 and .99 floors the rate at .08 bit. Adam is fresh in every task. Every client counts the
same by default: then the counts j of K masks are exactly theta = j / K, small integers which both ends know. Seeded
sampling: a mask is drawn as m = 1[u < theta] with u from the shared counter generator, so the coder knows u too: the
same marginals, fewer bytes. While it trains, a client draws its masks from theta in 16 bits. A run's first broadcast is
a seed. Normal numbers are sums of twelve uniform 16-bit integers, the same bits on every machine. Parameters of
normalisation layers stay what the run's first model says, as if they were not affine; running statistics are averaged.

With `backbone = "pretrained"`: V. Tsouvalas, Y. Asano, A. Saeed, "Federated Fine-Tuning of Foundation Models via
Probabilistic Masking" (DeltaMask), arXiv 2311.17299 (2023): weights are those of a trained model, masks stand on some
of its layers, and the first scores keep nearly all of it. Theirs sends which bits of a mask differ, in a filter that
may err; ours codes the mask given the counts, and loses nothing. Theirs trains a head once, alone, and freezes it; here
what `dense` names is trained beside the scores and averaged.

Adam's epsilon (1e-8) hides the regulariser's gradient where lambda theta (1 - theta) / n falls below it: n above about
1e7. Resampling alone lets coordinates freeze after some 3 K rounds: `revive` keeps a floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from thinwire.methods.chains import Chains
from thinwire.methods.method import Method
from thinwire.methods.settings import MethodSettings
from thinwire.methods.values import EVALUATE

TRAIN = "train"
PRETRAINED = "pretrained"
Weights = Literal["signed", "kaiming-signed", "normal", "uniform"]
View = Literal["mode", "mean", "sample", "samples"]


class SparseMasksSettings(MethodSettings):
    """FedPM with mean aggregation, under the regulariser of Mestoukirdi et al.

    FedPM's own runs have 3 epochs of batches of 128 on thousands of examples per client; the defaults take about as
    many steps on a few hundred.
    """

    epochs: int = Field(5, ge=1, le=1000, description="passes over the client's own examples per task")
    batch_size: int = Field(16, ge=1, le=1 << 20)
    lr: float = Field(0.1, gt=0, le=100, description="of Adam, on the scores")
    weights: Weights = Field(
        "signed", description="frozen ones: +-e / sqrt(fan in); kaiming-signed: +-sqrt(2 / fan in); normal and uniform "
        "have the spread of the first"
    )  # fmt: skip
    backbone: Literal["random", "pretrained"] = Field(
        "random",
        description="pretrained: the weights are those of the clients' own model, and the first mask keeps them",
    )
    masks: str = Field(
        "",
        max_length=1000,
        description="patterns of names, as of share: which weights have masks; default: all that can",
    )
    dense: str = Field(
        "", max_length=1000, description="patterns of names: what is trained as it is, without masks, and averaged"
    )
    dense_lr: float = Field(0.01, gt=0, le=100, description="of Adam, on what dense names")
    first_theta: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="how likely a weight of a pretrained backbone stays in a first batch; default: 0.95",
    )
    ste: Literal["identity", "theta"] = Field("identity", description="the straight-through gradient; theta: FedPM's")
    regulariser: Literal["mean", "entropy"] = Field(
        "mean", description="lambda / n times the sum of theta, or of the binary entropies of theta"
    )
    lambda_: float = Field(1.0, ge=0, le=1e6, alias="lambda", description="0: FedPM; 0.1 to 10 is the useful range")
    aggregation: Literal["mean", "beta"] = Field("mean", description="beta: over the masks of several rounds")
    reset_every: int = Field(1, ge=1, le=10_000, description="rounds after which beta forgets; 1 is the mean")
    weighting: Literal["examples", "uniform"] = Field("uniform", description="what a client's mask counts")
    score_limit: float = Field(15.0, gt=0, le=80, description="clamps scores to +- this")
    revive: float = Field(0.0, ge=0, lt=0.5, description="keeps theta away from 0 and 1 by this before training")
    final: Literal["mode", "mean"] = Field(
        "mode", description="the final model: the mask theta > 1/2, smallest; or mean weights, theta times weight"
    )
    view: View | None = Field(
        None, description="whose accuracy is shown: mode, mean, one sampled mask, or the mean of three samples; "
        "default: the final model's"
    )  # fmt: skip

    @property
    def shown(self) -> View:
        """The view in force."""
        return self.view or self.final

    @property
    def kept(self) -> float:
        """What theta is first, over a pretrained backbone."""
        return 0.95 if self.first_theta is None else self.first_theta

    @model_validator(mode="after")
    def _together(self) -> SparseMasksSettings:
        if self.aggregation == "mean" and self.reset_every > 1:
            raise ValueError("reset-every is of aggregation beta")
        if self.backbone == "random" and self.first_theta is not None:
            raise ValueError("first-theta is of backbone pretrained")
        if self.aggregation == "beta" and self.weighting == "examples":
            raise ValueError("beta counts masks: weighting must be uniform")
        return self


def _chains(settings: SparseMasksSettings) -> Mapping[str, Chains]:
    down, up, full = "entropy(condition=previous)", "entropy(condition=counts, sampling=True)", "entropy"
    if settings.dense:
        # Masks pass through the first codec as they are. Down nothing is lost: what never changes is sent once.
        up = f"quantise(8), {up}"
    return {TRAIN: Chains.parse(down=down, up=up, full=full), EVALUATE: Chains.parse(down=down, full=full)}


METHOD = Method(
    id="sparse_masks",
    title="Sparse random networks",
    source="Mestoukirdi et al. 2023, arXiv 2309.10834; Isik et al., ICLR 2023, arXiv 2209.15328",
    settings=SparseMasksSettings,
    chains=_chains,
    extends=True,
)
