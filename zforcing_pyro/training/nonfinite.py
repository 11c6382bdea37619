"""Why a gradient is not finite."""

from __future__ import annotations

import torch

from ..estimators import SequenceELBO
from ..estimators.terms import Terms
from ..models import StochasticRNN
from ..models.given import GivenSequences


class NonFinite(ArithmeticError):
    """A run whose gradients are no numbers any more; says where that begins."""


def diagnosis(net: StochasticRNN, estimator: SequenceELBO, given: GivenSequences) -> str:
    """The first terms, steps and parameters that are not finite, and the largest gradients.

    Args:
        net: Whose parameters are looked at.
        estimator: The objective.
        given: The net with the batch; the random state is that of the draw in question.
    """
    with torch.enable_grad():
        objective = estimator.objective(given)
        named = dict(net.named_parameters())
        loss = -objective.value.mean()
        grads = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    found = bad_terms(objective.terms)
    weights = [name for name, p in named.items() if not p.isfinite().all()]
    norms = {name: grad.norm().item() for name, grad in zip(named, grads)}
    bad = [name for name, grad in zip(named, grads) if not grad.isfinite().all()]
    if weights:
        found.append(f"weights that are not finite: {listed(weights)}")
    if bad:
        found.append(f"gradients that are not finite: {listed(bad)}")
    finite = sorted((n for n in norms if n not in bad), key=norms.get, reverse=True)[:3]
    if finite:
        found.append("largest others: " + ", ".join(f"{n} (norm {norms[n]:.3g})" for n in finite))
    if not bad and not weights:
        found.insert(0, "this part of the batch is finite; another process or part has it")
    return "; ".join(found)


def bad_terms(terms: Terms) -> list[str]:
    """Of each term, where it is not finite: the first step, and of how many sequences."""
    found = []
    for name in ("log_prior", "log_posterior", "log_emission", "kl", "auxiliary", "reverse"):
        if name == "kl" and terms.kl_per_latent is None:
            continue
        bad = ~getattr(terms, name).isfinite().all(0)  # (batch, time)
        if bad.any():
            step = int(bad.any(0).nonzero()[0])
            found.append(
                f"{name} from step {step} on, in {int(bad.any(1).sum())} of {len(bad)} sequences"
            )
    return found


def listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
