"""A LightningModule with its own Trainer: three lines of `fit`.

    pip install pytorch-lightning
    thinwire-client task check docs/examples/lightning_module.py --share 0/3

The module says what a step is and which optimiser it takes, as everywhere; the run says how many epochs, which rate and
which batches. A Trainer's loggers, checkpoints and progress are for whole trainings: a task is one of many short ones.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from breast_cancer import data
from pytorch_lightning import LightningModule, Trainer
from torch import nn

from thinwire.methods.work import Work

__all__ = ["data", "fit", "model"]
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Tumours(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))
        self.rate = 0.02

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.net(table)
        return found

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        table, targets = batch
        value = nn.functional.cross_entropy(self(table), targets)
        self.log("loss", value, on_step=False, on_epoch=True, batch_size=len(targets))
        return value

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.rate, momentum=0.9)


def model() -> nn.Module:
    return Tumours()


def fit(model: Tumours, work: Work) -> float:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    model.rate = work.lr
    trainer = Trainer(max_epochs=work.epochs, accelerator="cpu", devices=1, **quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like more workers, and a folder to log to
        trainer.fit(model, work.dataloader())
    return float(trainer.callback_metrics["loss"])
