"""What the client half does with one kind of knowledge: learn from what came, and say what its model knows."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from thinwire.codecs import Array, Arrays
from thinwire.methods.arrays import under
from thinwire.methods.fd_alu import CONSENT, LEAST_COUNT, FdAluSettings
from thinwire.methods.fd_alu.class_means import others_means
from thinwire.methods.fd_alu.proxy_labels import digest_of, drawn
from thinwire.methods.inputs import parts_of
from thinwire.methods.learner import Learner
from thinwire.methods.local_optimizers import Optimizer
from thinwire.methods.samples import Batch, Samples, in_order, named, shuffled
from thinwire.methods.values import Task, TaskRefusedError

_AT_ONCE = 256


class Teacher(ABC):
    """One block's frozen knowledge. Raises on making: `TaskRefusedError`."""

    def __init__(self, settings: FdAluSettings, task: Task, memory: Arrays, learner: Learner) -> None:
        self.settings = settings
        self.task = task
        self.learner = learner

    def lesson(self, optimiser: Optimizer, seed: int) -> None:  # noqa: B027 (none by default)
        """What is learnt before the private examples of a local round; the model is in training mode."""

    def term(self, rows: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor | None:
        """What is added to the loss of a batch: of private examples `rows`, with the model's `outputs` on them."""
        return None

    @abstractmethod
    def knowledge(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """The answer, and what to remember once it has been counted. The model is in evaluation mode."""


def outputs_on(learner: Learner, samples: Samples, rows: torch.Tensor | None = None) -> Array:
    """The model's outputs, float32 (n, C), as it is now, on these examples; None: on all."""
    chosen = torch.arange(len(samples)) if rows is None else rows
    with torch.no_grad():
        found = [learner.outputs(learner.model, batch.inputs) for batch in samples.read(torch.split(chosen, _AT_ONCE))]
    outputs: Array = torch.cat(found).float().cpu().numpy()
    return outputs


def soft_cross_entropy(outputs: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """T**2 CE(softmax(targets / T), softmax(outputs / T)) of each example, (n,): up to a constant T**2 KL."""
    wanted = torch.softmax(targets / temperature, 1)
    return -(temperature**2) * (wanted * functional.log_softmax(outputs / temperature, 1)).sum(1)


def classes_of(learner: Learner) -> NDArray[np.int64]:
    """Of the private examples, in order."""
    labels: NDArray[np.int64] = learner.train.targets().numpy().astype(np.int64)
    return labels


def frequent(labels: NDArray[np.int64], classes: int, settings: FdAluSettings, learner: Learner) -> NDArray[np.bool_]:
    """Of which classes knowledge may leave this client, (C,)."""
    least = settings.min_count if learner.allows(CONSENT) else max(settings.min_count, LEAST_COUNT)
    return np.bincount(labels, minlength=classes) >= least


class _WithTargets(Teacher):
    """Adds the term of each private example that has target scores: row `line[i]` of `scores`, -1 for none."""

    line: torch.Tensor
    scores: torch.Tensor

    def _teach(self, line: NDArray[np.int64], scores: Array) -> None:
        self.line = torch.from_numpy(line)
        self.scores = torch.from_numpy(scores.astype(np.float32)).to(self.learner.device)

    def term(self, rows: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor | None:
        if not len(self.scores):
            return None
        line = self.line[rows].to(self.scores.device)
        targets = self.scores[line.clamp(min=0)].to(outputs.dtype)
        values = soft_cross_entropy(outputs, targets, self.settings.softness)
        return torch.where(line >= 0, values, 0.0).mean()


class ClassTeacher(_WithTargets):
    """Remembers `own/NAME`, the answer that was counted, as decoded, and `own/round`, when."""

    def __init__(self, settings: FdAluSettings, task: Task, memory: Arrays, learner: Learner) -> None:
        super().__init__(settings, task, memory, learner)
        self._labels = classes_of(learner)
        own = under("own", memory)
        # What is broadcast now are the answers of the block before, so only one given then is part of them.
        counted = "round" in own and int(own["round"]) == settings.local_rounds(task.round).start - 1
        means, known = others_means(task.arrays["means"], task.arrays["numbers"], own if counted else None)
        line = np.where(known, np.cumsum(known) - 1, -1)
        self._teach(line[self._labels], means[known])

    def knowledge(self) -> tuple[dict[str, Array], dict[str, Array]]:
        classes = len(self.task.arrays["numbers"])
        owned = frequent(self._labels, classes, self.settings, self.learner)
        outputs = outputs_on(self.learner, self.learner.train).astype(np.float64)
        rows = [outputs[self._labels == label].mean(0) for label in np.flatnonzero(owned)]
        answer = {
            "owned": owned,
            "counts": np.bincount(self._labels, minlength=classes)[owned].astype(np.uint32),
            "rows": np.array(rows, np.float32).reshape(-1, classes),
        }
        remembered = {f"own/{name}": array for name, array in self.learner.decoded(answer).items()}
        return answer, {**remembered, "own/round": np.array(self.task.round, np.int64)}


class ProxyTeacher(Teacher):
    """Distils on the proxy examples of the block before, answers for those of this one."""

    def __init__(self, settings: FdAluSettings, task: Task, memory: Arrays, learner: Learner) -> None:
        super().__init__(settings, task, memory, learner)
        if learner.proxy is None:
            raise TaskRefusedError("proxy-mismatch", "the task has no proxy set: data() must return public examples")
        self._proxy = learner.proxy
        if len(self._proxy) < settings.proxy_samples:
            raise TaskRefusedError(
                "proxy-mismatch",
                f"the proxy set has {len(self._proxy)} examples; the run draws {settings.proxy_samples} "
                "(proxy-samples) for each exchange",
            )
        self._digest = digest_of_samples(self._proxy)
        self._known = bool(task.arrays["proxy_set"].any())
        if self._known and not np.array_equal(task.arrays["proxy_set"], self._digest):
            raise TaskRefusedError(
                "proxy-mismatch", "the arrays of this client's proxy set are not those of the others"
            )
        self._labels = torch.from_numpy(task.arrays["labels"].copy()).to(learner.device)

    def _drawn(self, round_: int) -> torch.Tensor:
        seed = int(self.task.options["seed"])
        return torch.from_numpy(drawn(len(self._proxy), self.settings.proxy_samples, seed, round_))

    def lesson(self, optimiser: Optimizer, seed: int) -> None:
        if not self._known or not self.settings.beta:
            return
        examples, labels = self._drawn(self.settings.local_rounds(self.task.round).start - 1), self._labels
        if "known" in self.task.arrays:
            known = torch.from_numpy(self.task.arrays["known"].copy())
            examples, labels = examples[known], labels[known.to(labels.device)]
        order = list(shuffled(len(examples), self.settings.batch_size, seed))
        for rows, batch in zip(order, self._proxy.read([examples[rows] for rows in order], seed), strict=True):
            optimiser.zero_grad()
            outputs = self.learner.outputs(self.learner.model, batch.inputs)
            wanted = labels[rows.to(labels.device)].to(outputs.dtype)
            value = functional.kl_div(functional.log_softmax(outputs, 1), wanted, reduction="batchmean")
            (self.settings.beta * value).backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    def knowledge(self) -> tuple[dict[str, Array], dict[str, Array]]:
        scores = outputs_on(self.learner, self._proxy, self._drawn(self.task.round)).astype(np.float64)
        most = scores.max(1, keepdims=True)
        powers = np.exp(scores - most)
        sums = powers.sum(1, keepdims=True)
        labels = (powers / sums).astype(np.float32)
        answer: dict[str, Array] = {"labels": labels}
        if self.settings.sends_some:
            energies = -(most + np.log(sums)).reshape(-1)
            sent = np.zeros(len(labels), np.bool_)
            sent[np.argsort(energies, kind="stable")[: self.settings.labels_sent]] = True
            answer = {"labels": labels[sent], "sent": sent}
        if not self._known:
            answer["set"] = self._digest
        return answer, {}


class SampleTeacher(_WithTargets):
    """Learns from the related examples' logits, answers with its own examples' ones. Remembers `data`, what names the
    examples that the coordinator knows; where they are others by now, it has no teacher and sends their hashes again.
    """

    def __init__(self, settings: FdAluSettings, task: Task, memory: Arrays, learner: Learner) -> None:
        super().__init__(settings, task, memory, learner)
        if not learner.allows(CONSENT):
            raise TaskRefusedError(
                "consent-missing", "the run takes hashes, labels and logits of single examples; to allow it, "
                f"start this client with --allow {CONSENT}",
            )  # fmt: skip
        self._classes = int(task.reply["logits"].max_shape[1])
        labels = classes_of(learner)
        # Order and choice follow from the data alone: the same in every exchange.
        self._sent = np.flatnonzero(frequent(labels, self._classes, settings, learner)[labels])
        self._labels = labels[self._sent].astype(np.uint16)
        mine = task.parts.get("private")
        self._data = np.frombuffer(named(learner.train, torch.from_numpy(self._sent)), np.uint8)
        # Without a part of its own, the coordinator does not know this client's examples.
        self._is_known = (
            mine is not None
            and len(mine["known"]) == len(self._sent)
            and np.array_equal(memory.get("data", self._data), self._data)
        )
        line = np.full(len(labels), -1)
        scores: Array = np.zeros((0, self._classes), np.float32)
        if mine is not None and self._is_known:
            scores = mine["logits"]
            line[self._sent[mine["known"]]] = np.arange(len(scores))
        self._teach(line, scores)

    def knowledge(self) -> tuple[dict[str, Array], dict[str, Array]]:
        chosen, samples = torch.from_numpy(self._sent), self.learner.train
        empty = np.zeros((0, self._classes), np.float32)
        answer: dict[str, Array] = {"logits": outputs_on(self.learner, samples, chosen) if len(chosen) else empty}
        if not self._is_known:
            seed = int(self.task.options["seed"])
            answer["hashes"] = hashes_of(self.learner, samples, self.settings.hash_dims, seed, chosen)
            answer["labels"] = self._labels
        return answer, {"data": self._data}


def hashes_of(
    learner: Learner, samples: Samples, dims: int, seed: int, rows: torch.Tensor | None = None
) -> NDArray[np.int8]:
    """Hashes of these examples, or of all, i8 (n, dims), each scaled to its largest number: of the user's encoder,
    where there is one, or else of a random projection, the same for all clients.

    `seed`: of the run. Raises: `TaskRefusedError` (an encoder of another size).
    """
    found: Array = np.zeros((0, dims), np.float32)
    chosen = torch.arange(len(samples)) if rows is None else rows
    batches = samples.read(torch.split(chosen, _AT_ONCE)) if len(chosen) else iter(())
    if len(chosen) and learner.encode is None:
        flat = np.concatenate([_flat(batch) for batch in batches])
        found = flat @ np.random.default_rng([seed, dims]).standard_normal((flat.shape[1], dims), np.float32)
    elif len(chosen) and learner.encode is not None:
        with torch.no_grad():
            blocks = [learner.encode(batch.inputs) for batch in batches]
        found = torch.cat(blocks).float().cpu().numpy()
        if found.shape != (len(chosen), dims):
            raise TaskRefusedError(
                "model-mismatch", f"encode() gives {found.shape[1:]} numbers an example; the run has hash-dims {dims}"
            )
    largest = np.maximum(np.abs(found).max(1, keepdims=True, initial=0), np.finfo(np.float32).tiny)
    hashes: NDArray[np.int8] = np.rint(found / largest * 127).astype(np.int8)
    return hashes


def _flat(batch: Batch) -> Array:
    """The numbers of each example in a row, float32."""
    parts = [part.reshape(len(batch), -1).cpu().numpy() for part in parts_of(batch.inputs).values()]
    return np.concatenate([part.astype(np.float32) for part in parts], 1)


def digest_of_samples(samples: Samples) -> NDArray[np.uint64]:
    """`digest_of` the inputs of all examples; of several tensors, of their digests, by name."""
    read: dict[str, list[Array]] = {}
    for batch in in_order(samples):
        for name, part in parts_of(batch.inputs).items():
            read.setdefault(name, []).append(part.cpu().numpy())
    found = [digest_of(np.concatenate(read[name])) for name in sorted(read)]
    return found[0] if len(found) == 1 else digest_of(np.stack(found))


TEACHERS: dict[str, type[Teacher]] = {"class": ClassTeacher, "proxy": ProxyTeacher, "sample": SampleTeacher}
