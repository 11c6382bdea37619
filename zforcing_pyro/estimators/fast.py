"""Decides whether two Pyro programs may be computed by the fast path of their net."""

from typing import Any

from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger


def net_of(model: Any, guide: Any) -> Any:
    """Returns the net whose ``given`` computes what the programs compute, or None.

    Programs must be the methods ``model`` and ``guide`` of one net that has a fast path of them.
    Handlers must leave sample sites alone, as the trace of parameters of ``pyro.infer.SVI`` does.
    """
    net = getattr(model, "__self__", None)
    if getattr(guide, "__self__", None) is not net or net is None or not hasattr(net, "has_fast"):
        return None
    if (model.__func__, guide.__func__) != (type(net).model, type(net).guide):
        return None
    watched = [h for h in _PYRO_STACK if not (type(h) is TraceMessenger and h.param_only)]
    return net if net.has_fast and not watched else None
