"""Sample sites of Pyro programs: their plates, their log-densities, their divergence."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import kl_divergence

Site = dict[str, Any]
"""A node of a trace."""


def is_drawn(site: Site) -> bool:
    """Also where it is a plate that draws a subsample, which model and guide must share."""
    return site["type"] == "sample" and not site["is_observed"]


def is_density(site: Site) -> bool:
    return site["type"] == "sample" and not site_is_subsample(site)


def is_factor(site: Site) -> bool:
    fn = site["fn"]
    while isinstance(fn, dist.Independent):
        fn = fn.base_dist
    return isinstance(fn, dist.Unit)


def nesting(sites: list[Site], particles: int | None = None) -> int:
    """Number of dims that the plates of sites take, but for that at dim ``particles``."""
    frames = [f for s in sites for f in s["cond_indep_stack"]]
    return max((-f.dim for f in frames if f.vectorized and f.dim != particles), default=0)


class Plates:
    """The dims of sites that share one batch plate, and their common scale.

    Args:
        sites: All sites of both programs.
        num_particles: Size of the plate left of all others.
        max_plate_nesting: Number of dims of those others.

    Raises:
        ValueError: If a site stands outside the batch plate or in a sequential one, has another
            shape than its plates, or is scaled unlike the others.
    """

    def __init__(self, sites: list[Site], num_particles: int, max_plate_nesting: int):
        if not sites:
            raise ValueError("The programs must have a sample site, got none")
        self.particles, allowed = -1 - max_plate_nesting, set(range(-max_plate_nesting, 0))
        shared = set(allowed)
        for site in sites:
            for frame in site["cond_indep_stack"]:
                if not frame.vectorized:
                    raise ValueError(
                        f"Site '{site['name']}' must stand in no sequential plate, got "
                        f"'{frame.name}': write \"with pyro.plate('{frame.name}', ...)\""
                    )
            dims = {f.dim for f in site["cond_indep_stack"]} - {self.particles}
            if not shared & dims:
                where = "-1" if max_plate_nesting == 1 else f"one of {sorted(shared)}"
                raise ValueError(
                    f"Site '{site['name']}' must stand in one batch plate at dim {where}, got "
                    f"plates at {sorted(dims) or 'no dim'}: bounds are taken per sequence, and a "
                    "site shared by sequences would turn them into one joint bound"
                )
            shared &= dims
        if len(shared) > 1:
            raise ValueError(
                f"Sites must have one plate in common, that of the batch, got {sorted(shared)}: "
                "declare the dims of an inner plate's sites as event dims (to_event)"
            )
        self.dim = shared.pop()
        batch = None
        for site in sites:
            for frame in site["cond_indep_stack"]:
                if frame.dim != self.dim:
                    continue
                batch = batch or frame
                # A program that is wrapped to have a factor cannot open the same plate again.
                same = frame.name == batch.name or is_factor(site)
                if not same or frame.size != batch.size:
                    raise ValueError(
                        f"Site '{site['name']}' must stand in the batch plate '{batch.name}' of "
                        f"size {batch.size}, got '{frame.name}' of size {frame.size}"
                    )
        self.scale = sites[0]["scale"]
        for site in sites:
            if not is_same(site["scale"], self.scale):
                raise ValueError(
                    f"Site '{site['name']}' must be scaled like the others by {self.scale}, got "
                    f"{site['scale']}: a scale within a multi-sample bound makes it no bound"
                )
        if isinstance(self.scale, Tensor) and self.scale.dim():
            self.scale = self.scale.reshape(-1)
        self.shape = (num_particles, batch.size)

    def summed(self, value: Tensor, site: Site, num_event_dims: int = 0) -> Tensor:
        """The sum over all plates but those of particles and batch: ``(particles, batch, ...)``."""
        events = value.shape[value.dim() - num_event_dims :]
        shape = [1] * -self.particles
        for frame in site["cond_indep_stack"]:
            shape[frame.dim] = frame.size
        own = value.shape[: value.dim() - num_event_dims]
        if len(own) > len(shape) or any(
            n not in (1, size) for n, size in zip(reversed(own), reversed(shape))
        ):
            raise ValueError(
                f"Site '{site['name']}' must have the shape of its plates {tuple(shape)}, got "
                f"{tuple(own)}: declare other dims as event dims (to_event)"
            )
        value = value.expand(torch.broadcast_shapes(value.shape, (*shape, *events)))
        inner = [d for d in range(1, -self.particles) if d != self.dim - self.particles]
        return (value.sum(inner) if inner else value).expand(*self.shape, *events)

    def log_prob(self, site: Site) -> Tensor:
        """Of the site's value, zero where it is masked: ``(particles, batch)``."""
        log_prob = site["fn"].log_prob(site["value"])
        return self.summed(scale_and_mask(log_prob, mask=site["mask"]), site)

    def mask(self, site: Site) -> Tensor:
        """Whether any of the site is not masked: ``(particles, batch)``."""
        mask = True if site["mask"] is None else site["mask"]
        mask = torch.as_tensor(mask, device=site["value"].device)
        return self.summed(mask.long(), site) > 0


def is_same(scale: float | Tensor, other: float | Tensor) -> bool:
    same = scale == other
    return bool(same.all()) if isinstance(same, Tensor) else same


def means(sites: list[Site]) -> dict[str, Tensor] | None:
    """Mean of each site by its name, if all have one in closed form."""
    try:
        return {s["name"]: s["fn"].mean.expand(s["fn"].shape()) for s in sites}
    except NotImplementedError:
        return None


def kl_per_latent(posterior: list[Site], prior: list[Site], plates: Plates) -> Tensor | None:
    """KL of each pair, by dimension if all have as many: ``(particles, batch, site, dim)``."""
    kl = [kl_of_site(q, p, plates) for q, p in zip(posterior, prior)]
    if not kl or any(k is None for k in kl):
        return None
    if len({k.shape for k in kl}) > 1:
        kl = [k.sum(-1, keepdim=True) for k in kl]
    return torch.stack(kl, -2)


def kl_of_site(q: Site, p: Site, plates: Plates) -> Tensor | None:
    """KL of two sites by dimension of an independent event, else ``(particles, batch, 1)``."""
    fns = [q["fn"], p["fn"]]
    by_dimension = all(
        isinstance(fn, dist.Independent) and fn.reinterpreted_batch_ndims == 1 for fn in fns
    )
    try:
        kl = kl_divergence(*(fn.base_dist for fn in fns) if by_dimension else fns)
    except NotImplementedError:
        return None
    kl = kl if by_dimension else kl[..., None]
    mask = q["mask"][..., None] if isinstance(q["mask"], Tensor) else q["mask"]
    kl = scale_and_mask(kl, mask=mask)
    return plates.summed(kl, q, num_event_dims=1)
