"""Terms of the traces of a model and a guide."""

from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer.util import MultiFrameTensor
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from .sites import Layout, Site, is_delta, is_density, is_factor
from .terms import Terms


def densities(trace: poutine.Trace) -> list[Site]:
    """Returns the sites that have a log-density."""
    return [site for site in trace.nodes.values() if is_density(site)]


def terms_of(
    sites: list[Site], guide_sites: list[Site], layout: Layout, latents: dict[str, Tensor]
) -> Terms:
    """Returns the terms of the sites of a model and a guide; ``latents`` were not drawn."""
    zero = torch.zeros_like(layout.log_prob((sites + guide_sites)[0]))

    def stacked(sites: list[Site], sign: int = 1) -> Tensor:
        return torch.stack([sign * layout.log_prob(s) for s in sites] or [zero], -1)

    factors = [s for s in guide_sites if is_factor(s)]
    reverse = [s for s in factors if s["name"].startswith("reverse")]
    auxiliary = [s for s in factors if not s["name"].startswith("reverse")]
    drawn = [s for s in guide_sites if not is_factor(s)]
    of_model = {s["name"]: s for s in sites}
    posterior = [s for s in drawn if s["name"] in of_model]
    prior = [of_model[s["name"]] for s in posterior]
    log_prior = [layout.log_prob(site) for site in prior] or [zero]
    log_posterior, closed, slot = [zero] * len(log_prior), in_order(sites, posterior), 0
    for site in drawn:
        slot, log_prob = min(slot, len(log_prior) - 1), layout.log_prob(site)
        if is_delta(site):  # a function of other draws, whose Jacobian counts with the prior
            log_prior[slot] = log_prior[slot] - log_prob
        else:
            log_posterior[slot] = log_posterior[slot] + log_prob
        if site["name"] in of_model:
            slot += 1
        else:
            closed[slot] = False
    log_prior, log_posterior = torch.stack(log_prior, -1), torch.stack(log_posterior, -1)
    kl = [layout.kl(q, p) if c else None for q, p, c in zip(posterior, prior, closed)]
    is_drawn = any(k is None for k in kl)
    estimate = (log_posterior - log_prior)[..., None]
    kl = [estimate[..., n, :] if k is None else k for n, k in enumerate(kl)] or [zero[..., None]]
    if len({k.shape for k in kl}) > 1:
        kl = [k.sum(-1, keepdim=True) for k in kl]
    scored = [s for s in drawn if not (s["fn"].has_rsample or s["name"] in latents)]
    scored = scored if torch.is_grad_enabled() else []
    has_means = layout.dim is not None and len(drawn) == len(posterior)
    return Terms(
        log_prior=log_prior,
        log_posterior=log_posterior,
        log_emission=stacked([s for s in sites if s["is_observed"]]),
        kl_per_latent=torch.stack(kl, -2),
        kl_drawn=is_drawn or layout.dim is None,
        auxiliary=stacked(auxiliary, sign=-1),
        reverse=stacked(reverse, sign=-1),
        latents={s["name"]: layout.padded(s["value"], s) for s in drawn},
        posterior_mean=layout.means(posterior) if has_means else None,
        prior_mean=layout.means(prior) if has_means else None,
        scale=layout.scale,
        mask=layout.mask(posterior),
        score={s["name"]: layout.log_prob(s, scaled=False) for s in scored},
        score_by_plates=(
            score_by_plates(sites, guide_sites, scored) if scored and layout.dim is None else None
        ),
    )


def score_by_plates(sites: list[Site], guide_sites: list[Site], scored: list[Site]) -> Tensor:
    """Returns a scalar with the score functions of the ELBO of one particle, from its plates.

    Each element of a latent has a cost of its own: that of the sites which share its plates, as in
    ``pyro.infer.Trace_ELBO``. The whole batch is one sequence to other score functions.
    """

    def log_prob(site: Site, scale: float | Tensor) -> Tensor:
        return scale_and_mask(site["fn"].log_prob(site["value"]), scale, site["mask"])

    cost = MultiFrameTensor()
    for sign, program in ((1, sites), (-1, guide_sites)):
        for site in program:
            term = sign * log_prob(site, site["scale"]).detach()
            cost.add((site["cond_indep_stack"], term))
    total = torch.zeros(())
    for site in scored:
        plates = site["cond_indep_stack"]
        total = total + (cost.sum_to(plates) * log_prob(site, 1.0)).sum()
        total = total + log_prob(site, site["scale"]).sum()  # the ELBO has it with a minus
    return total


def in_order(sites: list[Site], posterior: list[Site]) -> list[bool]:
    """Returns whether the guide has drawn before a latent all that the model draws before it.

    Elsewhere the closed form of KL(q || p) is not the KL: it conditions p on later draws.
    """
    places = {site["name"]: place for place, site in enumerate(sites)}
    closed, latest = [True] * len(posterior), -1
    for k in sorted(range(len(posterior)), key=lambda k: places[posterior[k]["name"]]):
        closed[k] = latest < k
        latest = max(latest, k)
    return closed


def concatenated(parts: list[Terms]) -> Terms:
    """Returns the terms of single particles as terms of all; the state is the last one's."""
    fields = {}
    for name, first in parts[0]._asdict().items():
        values = [getattr(part, name) for part in parts]
        if name in ("mask", "scale", "score_by_plates", "state", "weights") or first is None:
            fields[name] = values[-1]
        elif isinstance(first, dict):
            fields[name] = {n: torch.cat([value[n] for value in values]) for n in first}
        elif name == "kl_drawn":
            fields[name] = any(values)
        else:
            fields[name] = torch.cat(values)
    return Terms(**fields)


def check_latents(sites: list[Site], guide_sites: list[Site], latents: dict[str, Tensor]) -> None:
    """Refuses programs whose latents differ, as :meth:`ProgramPair.terms` says.

    Raises:
        ValueError: If a latent is one of a program only, or a value is given for another site.
    """
    of_model = {s["name"]: s for s in sites}
    drawn = {s["name"]: s for s in guide_sites if not is_factor(s)}
    for n, (name, site) in enumerate(drawn.items()):
        if name not in of_model and not site["is_observed"] and site["infer"].get("is_auxiliary"):
            if name not in latents and latents.keys() & list(drawn)[n:]:
                raise ValueError(
                    f"Latents cannot be scored without the guide's auxiliary site '{name}'"
                )
            continue
        if site["is_observed"] or name not in of_model or of_model[name]["is_observed"]:
            raise ValueError(f"Site '{name}' of the guide is no latent of the model")
    if missing := {n for n, s in of_model.items() if not s["is_observed"]} - drawn.keys():
        raise ValueError(f"The guide draws no value for latents of the model: {sorted(missing)}")
    if unknown := latents.keys() - drawn.keys():
        raise ValueError(f"'latents' must be among {sorted(drawn)}, got also {sorted(unknown)}")


def returned(guide_trace: poutine.Trace, model_trace: poutine.Trace) -> Any:
    """Returns what the model returned; or all entries of both, where both returned dicts."""
    guide, model = (trace.nodes["_RETURN"]["value"] for trace in (guide_trace, model_trace))
    return guide | model if isinstance(guide, dict) and isinstance(model, dict) else model


class Valued(Messenger):
    """Sets latents to values; unlike a replay it leaves other properties of a site alone."""

    def __init__(self, values: dict[str, Tensor]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            value = self.values[msg["name"]]
            if not site_is_subsample(msg):
                # A single particle has no dim, nor have plates that a site does not stand in.
                extra = value.dim() - len(msg["fn"].shape())
                while extra > 0 and len(value) == 1:
                    value, extra = value[0], extra - 1
            msg["value"], msg["done"] = value, True
