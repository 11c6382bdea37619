"""What models hand to estimators: the log-densities at one draw of the latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import kl_divergence


class Terms(NamedTuple):
    """Log-densities in nats, each of shape ``(particles, batch, time)``, zero at padding.

    For programs in general the last dim of each term counts its sites.
    """

    log_prior: Tensor
    """log p(z_t | past)."""
    log_posterior: Tensor
    """log q(z_t | past, x)."""
    log_emission: Tensor
    """log p(x_t | z, past)."""
    kl_per_latent: Tensor | None
    """KL(q(z_t | past, x) || p(z_t | past)) by dimension, ``(particles, batch, time, z_dim)``; None
    where a pair of distributions has no closed form."""
    auxiliary: Tensor
    """Weighted log p(b_t | z_t): part of a training objective, never of a bound."""
    reverse: Tensor
    """Weighted log p(x_{t-1} | b_t): likewise."""
    latents: Any
    """The draw: ``(particles, batch, time, z_dim)``, or a dict from site to tensor."""
    posterior_mean: Any = None
    """Mean of q(z_t | past, x), shaped like ``latents``; None where it has no closed form."""
    scale: float | Tensor = 1.0
    """What the programs scale a sequence's log-densities by, such as a plate's size over its
    subsample's: not yet applied."""
    state: Any = None
    """What the next chunk of each sequence starts from: what the programs return."""

    @property
    def kl(self) -> Tensor:
        """The analytic KL of each step, ``(particles, batch, time)``."""
        if self.kl_per_latent is None:
            raise NotImplementedError("A latent's KL has no closed form; use the sampled one")
        return self.kl_per_latent.sum(-1)

    @property
    def kl_or_estimate(self) -> Tensor:
        """The analytic KL where there is one, else log q - log p at the draw."""
        return self.log_posterior - self.log_prior if self.kl_per_latent is None else self.kl

    @property
    def log_weight(self) -> Tensor:
        """log p(x, z) - log q(z | x) of each particle and sequence, ``(particles, batch)``."""
        return self.log_emission.sum(-1) + (self.log_prior - self.log_posterior).sum(-1)

    def summed(self) -> Terms:
        """Totals over time: each term ``(particles, batch, 1)``, and no latents.

        Estimators take them as they take :class:`Terms`, in the memory of one step.
        """
        kl = self.kl_per_latent
        return self._replace(
            log_prior=self.log_prior.sum(-1, keepdim=True),
            log_posterior=self.log_posterior.sum(-1, keepdim=True),
            log_emission=self.log_emission.sum(-1, keepdim=True),
            kl_per_latent=None if kl is None else kl.sum(-2, keepdim=True),
            auxiliary=self.auxiliary.sum(-1, keepdim=True),
            reverse=self.reverse.sum(-1, keepdim=True),
            latents=None,
            posterior_mean=None,
            state=None,
        )

    def masked(self, mask: Tensor) -> Terms:
        """Zero log-densities where ``mask``, of shape ``(batch, time)``, is False."""
        masked = {
            name: torch.where(mask, getattr(self, name), 0.0)
            for name in ("log_prior", "log_posterior", "log_emission", "auxiliary", "reverse")
        }
        kl = self.kl_per_latent
        kl = None if kl is None else torch.where(mask[..., None], kl, 0.0)
        return self._replace(**masked, kl_per_latent=kl)


def trace_terms(
    model: Callable,
    guide: Callable,
    *args,
    num_particles: int = 1,
    latents: dict[str, Tensor] | None = None,
    **kwargs,
) -> Terms:
    """Runs ``guide``, then ``model`` against it, and reads one term off every sample site.

    The programs are any whose sites all stand in one batch plate at dim -1. A factor of the model
    is part of log p(x, z); a factor of the guide is a cost (reverse, if its name starts so).

    Args:
        model, guide: Pyro programs, called with ``*args, **kwargs``.
        num_particles: Draws of the latents, in a plate at dim -2.
        latents: Values to score instead of a draw, by site.

    Raises:
        NotImplementedError: If a latent of the guide is drawn and not reparameterised.
        ValueError: If a site stands outside the batch plate, sites are scaled differently, or the
            latents of model, guide and ``latents`` are not the same.
    """
    latents = latents or {}

    def vectorized(program):
        return pyro.plate("particles", num_particles, dim=-2)(program)

    guide_trace = run(vectorized(guide), latents, *args, **kwargs)
    values = {s["name"]: s["value"] for s in guide_trace.nodes.values() if is_drawn(s)}
    model_trace = run(vectorized(model), values, *args, **kwargs)
    sites = [s for s in model_trace.nodes.values() if is_density(s)]
    guide_sites = [s for s in guide_trace.nodes.values() if is_density(s)]
    shape, scale = plate_shape(sites + guide_sites, num_particles)

    def log_prob(site: dict) -> Tensor:
        log_prob = site["fn"].log_prob(site["value"])
        return scale_and_mask(log_prob, mask=site["mask"]).expand(shape)

    zero = torch.zeros_like(log_prob((sites + guide_sites)[0]))

    def stacked(sites: list[dict], sign: int = 1) -> Tensor:
        return torch.stack([sign * log_prob(s) for s in sites] or [zero], -1)

    factors = [s for s in guide_sites if is_factor(s)]
    reverse = [s for s in factors if s["name"].startswith("reverse")]
    auxiliary = [s for s in factors if not s["name"].startswith("reverse")]
    posterior = [s for s in guide_sites if not is_factor(s)]
    prior = [model_trace.nodes.get(s["name"]) for s in posterior]
    drawn = {s["name"]: s["value"] for s in posterior}
    if torch.is_grad_enabled():
        for site in guide_sites:
            if site["name"] not in latents and not site["fn"].has_rsample:
                raise NotImplementedError(f"Site '{site['name']}' must be reparameterised")
    for site, other in zip(posterior, prior):
        if site["is_observed"] or other is None or other["is_observed"]:
            raise ValueError(f"Site '{site['name']}' of the guide is no latent of the model")
    if missing := {s["name"] for s in sites if not s["is_observed"]} - drawn.keys():
        raise ValueError(f"The guide draws no value for latents of the model: {sorted(missing)}")
    if unknown := latents.keys() - drawn.keys():
        raise ValueError(f"'latents' must be among {sorted(drawn)}, got also {sorted(unknown)}")
    return Terms(
        log_prior=stacked(prior),
        log_posterior=stacked(posterior),
        log_emission=stacked([s for s in sites if s["is_observed"]]),
        kl_per_latent=kl_per_latent(posterior, prior, shape),
        auxiliary=stacked(auxiliary, sign=-1),
        reverse=stacked(reverse, sign=-1),
        latents=drawn,
        posterior_mean=means(posterior, shape),
        scale=scale,
        state=returned(guide_trace, model_trace),
    )


def returned(guide_trace: poutine.Trace, model_trace: poutine.Trace) -> Any:
    """What the model returned; where both programs returned dicts, all entries of both."""
    guide, model = (trace.nodes["_RETURN"]["value"] for trace in (guide_trace, model_trace))
    return guide | model if isinstance(guide, dict) and isinstance(model, dict) else model


def run(program: Callable, values: dict[str, Tensor], *args, **kwargs) -> poutine.Trace:
    """The trace of ``program`` with its latents set to ``values`` where they are given."""
    given = poutine.Trace()
    for name, value in values.items():
        given.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
    return poutine.trace(poutine.replay(program, trace=given)).get_trace(*args, **kwargs)


def is_drawn(site: dict) -> bool:
    """Also where it is a plate that draws a subsample, which model and guide must share."""
    return site["type"] == "sample" and not site["is_observed"]


def is_density(site: dict) -> bool:
    return site["type"] == "sample" and not site_is_subsample(site)


def is_factor(site: dict) -> bool:
    fn = site["fn"]
    while isinstance(fn, dist.Independent):
        fn = fn.base_dist
    return isinstance(fn, dist.Unit)


def plate_shape(sites: list[dict], num_particles: int) -> tuple[tuple[int, int], float | Tensor]:
    """``(particles, batch)`` and the common scale of sites that share one batch plate."""
    batch, scale = None, None
    for site in sites:
        frames = {f.dim: f for f in site["cond_indep_stack"]}
        if set(frames) != {-1, -2}:
            raise ValueError(
                f"Site '{site['name']}' must stand in one batch plate at dim -1, got plates at "
                f"{sorted(set(frames) - {-2}) or 'no dim'}: bounds are taken per sequence, and a "
                "site shared by sequences would turn them into one joint bound"
            )
        batch, scale = batch or frames[-1], site["scale"] if scale is None else scale
        if frames[-1].size != batch.size:
            raise ValueError(
                f"Site '{site['name']}' must stand in a batch plate of size {batch.size}, "
                f"got {frames[-1].size}"
            )
        if not is_same(site["scale"], scale):
            raise ValueError(
                f"Site '{site['name']}' must be scaled like the others by {scale}, got "
                f"{site['scale']}: a scale within a multi-sample bound makes it no bound"
            )
    if batch is None:
        raise ValueError("The programs must have a sample site, got none")
    return (num_particles, batch.size), scale


def is_same(scale: float | Tensor, other: float | Tensor) -> bool:
    same = scale == other
    return bool(same.all()) if isinstance(same, Tensor) else same


def means(sites: list[dict], shape: tuple[int, int]) -> dict[str, Tensor] | None:
    """Mean of each site by its name, if all have one in closed form."""
    try:
        return {s["name"]: s["fn"].mean.expand(*shape, *s["fn"].event_shape) for s in sites}
    except NotImplementedError:
        return None


def kl_per_latent(
    posterior: list[dict], prior: list[dict], shape: tuple[int, int]
) -> Tensor | None:
    """KL of each pair, by dimension if all have as many: ``(particles, batch, site, dim)``."""
    kl = [kl_of_site(q, p, shape) for q, p in zip(posterior, prior)]
    if not kl or any(k is None for k in kl):
        return None
    if len({k.shape for k in kl}) > 1:
        kl = [k.sum(-1, keepdim=True) for k in kl]
    return torch.stack(kl, -2)


def kl_of_site(q: dict, p: dict, shape: tuple[int, int]) -> Tensor | None:
    """KL of two sites by dimension of an independent event, else ``(particles, batch, 1)``."""
    q_fn, p_fn = q["fn"], p["fn"]
    try:
        if not all(
            isinstance(fn, dist.Independent) and fn.reinterpreted_batch_ndims == 1
            for fn in (q_fn, p_fn)
        ):
            kl = scale_and_mask(kl_divergence(q_fn, p_fn), mask=q["mask"])
            return kl.expand(shape)[..., None]
        mask = q["mask"][..., None] if isinstance(q["mask"], Tensor) else q["mask"]
        kl = kl_divergence(q_fn.base_dist, p_fn.base_dist)
        return scale_and_mask(kl, mask=mask).expand(*shape, -1)
    except NotImplementedError:
        return None
