"""The methods there are: the folders of this package that hold a `METHOD`."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import thinwire.methods as package

from .method import Method
from .server_half import ServerHalf


def method_ids() -> list[str]:
    """The ids of all methods, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg)


def find_method(method_id: str) -> Method:
    """The method of this id. Raises: `KeyError`, with the ids there are."""
    known = method_ids()
    if method_id not in known:
        raise KeyError(f"no method is named {method_id!r}; there are {', '.join(known)}")
    method = importlib.import_module(f"{package.__name__}.{method_id}").METHOD
    if not isinstance(method, Method) or method.id != method_id:
        raise KeyError(f"the folder {method_id!r} holds no METHOD of that id")
    return method


def server_half(method_id: str) -> type[ServerHalf[Any]]:
    """The server half's class. Raises: `KeyError`."""
    find_method(method_id)
    half: type[ServerHalf[Any]] = importlib.import_module(f"{package.__name__}.{method_id}.server").Server
    return half
