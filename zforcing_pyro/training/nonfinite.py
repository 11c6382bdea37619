"""Why a gradient is not finite."""

import torch

from ..estimators import SequenceELBO
from ..models import StochasticRNN
from ..models.given import GivenSequences


class NonFinite(ArithmeticError):
    """A run whose gradients have stopped being finite; says where that begins."""


@torch.enable_grad()
def diagnosis(net: StochasticRNN, estimator: SequenceELBO, given: GivenSequences) -> str:
    """Returns the first terms, steps and parameters that are not finite, and the largest gradients.

    The random state is that of the draw in question; ``given`` is the net with its batch.
    """
    objective, named = estimator.objective(given), dict(net.named_parameters())
    loss = -objective.value.mean()
    grads = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    parts, terms = [], objective.terms
    for name in ("log_prior", "log_posterior", "log_emission", "kl", "auxiliary", "reverse"):
        if name == "kl" and terms.kl_per_latent is None:
            continue
        bad = ~getattr(terms, name).isfinite().all(0)  # (batch, time)
        if bad.any():
            step, num = int(bad.any(0).nonzero()[0]), int(bad.any(1).sum())
            parts.append(f"{name} from step {step} on, in {num} of {len(bad)} sequences")
    weights = [name for name, p in named.items() if not p.isfinite().all()]
    norms = {name: grad.norm().item() for name, grad in zip(named, grads)}
    bad = [name for name, grad in zip(named, grads) if not grad.isfinite().all()]
    for kind, names in (("weights", weights), ("gradients", bad)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{kind} that are not finite: {', '.join(names[:3])}{more}")
    finite = sorted((n for n in norms if n not in bad), key=norms.__getitem__, reverse=True)[:3]
    if finite:
        parts.append("largest others: " + ", ".join(f"{n} (norm {norms[n]:.3g})" for n in finite))
    if not bad and not weights:
        parts.insert(0, "this part of the batch is finite; another process or part has it")
    return "; ".join(parts)
