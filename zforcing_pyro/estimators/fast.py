"""Decides whether two Pyro programs may be computed by the fast path of their net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger


def net_of(model: Callable, guide: Callable) -> Any:
    """Returns the net whose ``given`` computes what the programs compute, or None.

    Programs must be the methods ``model`` and ``guide`` of one net, written no later than its
    ``terms``: a subclass that overrides a program alone has no fast path. Handlers must leave
    sample sites alone, as the trace of parameters of ``pyro.infer.SVI`` does.
    """
    net = getattr(model, "__self__", None)
    if net is None or getattr(guide, "__self__", None) is not net or not hasattr(net, "given"):
        return None
    cls = type(net)
    if (model.__func__, guide.__func__) != (cls.model, cls.guide):
        return None
    if definition(cls, "terms") > min(definition(cls, "model"), definition(cls, "guide")):
        return None
    watched = [h for h in _PYRO_STACK if not (type(h) is TraceMessenger and h.param_only)]
    return None if watched else net


def definition(cls: type, name: str) -> int:
    """Returns the place in the method resolution order of the class that defines ``name``."""
    return next(i for i, base in enumerate(cls.__mro__) if name in vars(base))
