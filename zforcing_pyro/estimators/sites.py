"""Sample sites of Pyro programs: their plates, their log-densities, their divergence."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

Site = Any
"""A node of a trace: a dict by name."""

PARTICLES = "num_particles_vectorized"
"""Name of the plate of particles, the one that Pyro's estimators use."""


def is_latent(site: Site) -> bool:
    """Returns whether a site is drawn; a plate that draws a subsample is, too."""
    return site["type"] == "sample" and not site["is_observed"]


def is_density(site: Site) -> bool:
    """Returns whether a site has a log-density: not subsamples and ``pyro.deterministic``."""
    if site["type"] != "sample" or site_is_subsample(site):
        return False
    return not site["infer"].get("_deterministic")


def base_of(fn: Distribution) -> Distribution:
    """Returns a distribution without its event dims and mask."""
    while isinstance(fn, (dist.Independent, dist.MaskedDistribution)):
        fn = fn.base_dist
    return fn


def is_factor(site: Site) -> bool:
    """Returns whether a site is a ``pyro.factor``."""
    return isinstance(base_of(site["fn"]), dist.Unit)


def is_delta(site: Site) -> bool:
    """Returns whether a site is a function of others, with the Jacobian as its log-density."""
    return isinstance(base_of(site["fn"]), dist.Delta)


def plates_of(site: Site) -> Iterator[Any]:
    """Yields the frames of a site's vectorised plates, without the plate of particles."""
    for frame in site["cond_indep_stack"]:
        if frame.vectorized and frame.name != PARTICLES:
            yield frame


def nesting(sites: Iterable[Site]) -> int:
    """Returns the number of dims of all plates but the plate of particles."""
    return max((-frame.dim for site in sites for frame in plates_of(site)), default=0)


class Layout:
    """Sums the log-densities of sites to ``(particles, batch)``.

    Args:
        sites: All sites of both programs.
        num_particles: Number of particles.
        max_plate_nesting: Dims of the programs' plates; particles are one dim more.
        per_sequence: Refuses sites that do not share one batch plate and its scale. Otherwise the
            batch counts as one sequence where sites do not, and scales multiply log-densities.
    """

    def __init__(
        self, sites: list[Site], num_particles: int, max_plate_nesting: int, per_sequence: bool
    ):
        if not sites:
            raise ValueError("The programs must have a sample site, got none")
        self.num_dims = 1 + max_plate_nesting
        self.scale: float | Tensor = 1.0
        self.dim: int | None = None
        try:
            dim, size = batch_plate(sites)
            self.dim, self.scale = dim, common_scale(sites, dim)
        except ValueError as error:
            if per_sequence:
                raise ValueError(f"{error}; TraceELBO and TraceSTL take such programs") from None
            size = 1
        self.shape = (num_particles, size)

    @property
    def sequence_dim(self) -> int | None:
        """Dim of sequences in :meth:`padded` latents; None if the batch counts as one sequence."""
        return None if self.dim is None else self.num_dims + self.dim

    def summed(
        self, value: Tensor, site: Site, num_event_dims: int = 0, scaled: bool = False
    ) -> Tensor:
        """Sums over all plates but particles and batch, to ``(particles, batch, ...)``.

        With ``scaled``, the site's scale multiplies the value first unless all sites share it.
        """
        batch_dims = value.dim() - num_event_dims
        events, size = value.shape[batch_dims:], value.shape[:batch_dims]
        shape = [self.shape[0], *[1] * (self.num_dims - 1)]
        for frame in plates_of(site):
            shape[frame.dim] = frame.size
        if len(size) > len(shape) or any(n not in (1, m) for n, m in zip(size[::-1], shape[::-1])):
            raise ValueError(
                f"Site '{site['name']}' must have the shape of its plates {tuple(shape)}, got "
                f"{tuple(size)}: declare other dims as event dims (to_event)"
            )
        value = value.expand(*shape, *events)
        if scaled and self.dim is None:
            scale = site["scale"]
            events_too = (*getattr(scale, "shape", ()), *[1] * num_event_dims)
            value = value * (scale.view(events_too) if isinstance(scale, Tensor) else scale)
        inner = [d for d in range(1, self.num_dims) if d != self.sequence_dim]
        value = value.sum(inner) if inner else value
        value = value[:, None] if self.dim is None else value
        return value.expand(*self.shape, *events)

    def log_prob(self, site: Site, scaled: bool = True) -> Tensor:
        """Returns the log-density of a site's value, ``(particles, batch)``.

        Raises:
            ValueError: If a flow has no inverse at a value that it did not draw.
        """
        try:
            log_prob = site["fn"].log_prob(site["value"])
        except (KeyError, NotImplementedError) as error:
            if not isinstance(base_of(site["fn"]), dist.TransformedDistribution):
                raise
            raise ValueError(
                f"Site '{site['name']}' must have a flow with an inverse, to be scored at a value "
                "that it did not draw; TraceELBO, TraceIWAE and TraceRenyi take it"
            ) from error
        return self.summed(scale_and_mask(log_prob, mask=site["mask"]), site, scaled=scaled)

    def mask(self, sites: list[Site]) -> Tensor | None:
        """Returns where any of a site is not masked, ``(particles, batch, site)``."""
        if self.dim is None or not sites:
            return None
        masks = [True if site["mask"] is None else site["mask"] for site in sites]
        masks = [torch.as_tensor(m, device=s["value"].device) for m, s in zip(masks, sites)]
        return torch.stack([self.summed(m.long(), s) > 0 for m, s in zip(masks, sites)], -1)

    def padded(self, value: Tensor, site: Site) -> Tensor:
        """Returns a value as ``(particles, plates..., events...)``."""
        missing = self.num_dims - value.dim() + len(site["fn"].event_shape)
        value = value.reshape((1,) * missing + value.shape) if missing > 0 else value
        return value.expand(self.shape[0], *value.shape[1:])

    def means(self, sites: list[Site]) -> dict[str, Tensor] | None:
        """Returns the mean of each site by its name, if all have one in closed form."""
        try:
            return {s["name"]: self.padded(s["fn"].mean.expand(s["fn"].shape()), s) for s in sites}
        except NotImplementedError:
            return None

    def kl(self, q: Site, p: Site) -> Tensor | None:
        """Returns KL(q || p) by dimension of an independent event, else ``(particles, batch, 1)``.

        None is returned where the KL has no closed form.
        """
        alike = is_same(q["scale"], p["scale"]) and is_same(q["mask"], p["mask"])
        if not alike or is_delta(q):  # a Delta may have a log-density
            return None
        fns = [q["fn"], p["fn"]]
        by_dimension = all(
            isinstance(fn, dist.Independent) and fn.reinterpreted_batch_ndims == 1 for fn in fns
        )
        try:
            kl = kl_divergence(*(fn.base_dist for fn in fns) if by_dimension else fns)
        except NotImplementedError:
            return None
        kl, mask = kl if by_dimension else kl[..., None], q["mask"]
        kl = scale_and_mask(kl, mask=mask[..., None] if isinstance(mask, Tensor) else mask)
        return self.summed(kl, q, num_event_dims=1, scaled=True)


def batch_plate(sites: list[Site]) -> tuple[int, int]:
    """Returns dim and size of the plate that all sites share.

    Raises:
        ValueError: If there is not one such plate.
    """
    shared = set.intersection(*({frame.dim for frame in plates_of(site)} for site in sites))
    for site in sites:
        if any(not frame.vectorized for frame in site["cond_indep_stack"]):
            raise ValueError(f"Site '{site['name']}' must stand in no sequential plate")
    if not shared:
        site = min(sites, key=lambda site: len([*plates_of(site)]))
        raise ValueError(
            f"Site '{site['name']}' must stand in one batch plate with all others: bounds are "
            "taken per sequence, and a site shared by sequences would make them one joint bound"
        )
    if len(shared) > 1:
        raise ValueError(
            f"Sites must have one plate in common, that of the batch, got {sorted(shared)}: "
            "declare the dims of an inner plate's sites as event dims (to_event)"
        )
    (dim,) = shared
    batch: Any = None
    for site in sites:
        for frame in (f for f in plates_of(site) if f.dim == dim):
            batch = batch or frame
            subsampled = frame.size != frame.full_size and frame.name != batch.name
            if frame.size != batch.size or subsampled:
                raise ValueError(
                    f"Site '{site['name']}' must stand in the batch plate '{batch.name}' of "
                    f"size {batch.size}, got '{frame.name}' of size {frame.size}"
                )
    return dim, batch.size


def common_scale(sites: list[Site], dim: int) -> float | Tensor:
    """Returns the scale of all sites: a number, or a tensor ``(batch,)``.

    Raises:
        ValueError: If sites are scaled differently, or a scale varies along an inner plate.
    """
    scale = sites[0]["scale"]
    for site in sites:
        if not is_same(site["scale"], scale):
            raise ValueError(
                f"Site '{site['name']}' must be scaled like the others by {scale}, got "
                f"{site['scale']}: a scale within a multi-sample bound makes it no bound"
            )
    if not isinstance(scale, Tensor) or scale.numel() == 1:
        return scale.reshape(()) if isinstance(scale, Tensor) else scale
    if scale.dim() < -dim or scale.shape[dim] != scale.numel():
        raise ValueError(
            f"Sites must be scaled along the batch plate at dim {dim}, got a scale of shape "
            f"{tuple(scale.shape)}: the scale of an inner plate is not a scale of the sequences"
        )
    return scale.reshape(-1)


def is_same(a: Any, b: Any) -> bool:
    """Returns whether two scales or masks, numbers or tensors, are equal."""
    if a is b or a is None or b is None:
        return a is b
    try:
        same = a == b
    except RuntimeError:  # shapes that do not broadcast
        return False
    return same.is_meta or bool(same.all()) if isinstance(same, Tensor) else same
