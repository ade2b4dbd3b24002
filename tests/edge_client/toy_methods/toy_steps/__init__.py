"""A toy: clients add their step count to the model, and remember how many of their answers counted."""

from __future__ import annotations

from thinwire.methods.chains import Chains
from thinwire.methods.method import Method
from thinwire.methods.settings import MethodSettings


class Settings(MethodSettings):
    """`step`: what each client adds; `defect`: whether they fail at it."""

    step: float = 1.0
    note: str = ""
    defect: bool = False


METHOD = Method("toy_steps", "Toy", "none", Settings, lambda settings: {"train": Chains()})
