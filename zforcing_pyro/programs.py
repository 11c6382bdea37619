"""Terms of any pair of Pyro programs, read off their traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from .sites import Plates, Site, is_density, is_drawn, is_factor, kl_per_latent, means
from .terms import Given, Resample, Terms


class ProgramPair(Given):
    """A model and a guide, any two Pyro programs, and the arguments that both are called with.

    All their sites stand in one batch plate: that which is common to all of them. Plates nested in
    it are summed out. A factor of the model is part of log p(x, z); a factor of the guide is a cost
    (reverse, if its name starts so). Latents are a dict from site to tensor.

    Where a plate draws a subsample, the first run decides which: a pair is given one batch.

    Args:
        model, guide: The programs.
        args, kwargs: What both are called with. To :meth:`dream` they must take a keyword
            ``observations``, a dict from site to tensor, in place of the data, as those of
            ``pyro.infer.ReweightedWakeSleep`` do.
        max_plate_nesting: Number of dims that the programs' own plates take, from -1 leftwards; the
            plate of particles stands left of them.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("sequences", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x):
        ...     with pyro.plate("sequences", len(x)):
        ...         pyro.sample("z", dist.Normal(x / 2, 1.0))
        >>> ProgramPair(model, guide, torch.zeros(3)).terms(num_particles=5).log_weight.shape
        torch.Size([5, 3])
    """

    def __init__(
        self, model: Callable, guide: Callable, *args, max_plate_nesting: int = 1, **kwargs
    ):
        self.model, self.guide, self.args, self.kwargs = model, guide, args, kwargs
        self.max_plate_nesting = max_plate_nesting
        self.subsample: dict[str, Tensor] = {}

    def terms(self, num_particles: int = 1, latents: dict[str, Tensor] | None = None) -> Terms:
        """One term of every sample site.

        Args:
            num_particles: Draws of the latents, in a plate left of the programs' own.
            latents: Values to score instead of a draw, by site.

        Raises:
            NotImplementedError: If a latent of the guide is drawn and not reparameterised.
            ValueError: If a site stands outside the batch plate, sites are scaled differently, or
                the latents of model, guide and ``latents`` are not the same.
        """
        return self.traced(num_particles, latents)[0]

    def traced(
        self, num_particles: int, latents: dict[str, Tensor] | None
    ) -> tuple[Terms, poutine.Trace]:
        """:meth:`terms`, and the model's trace."""
        latents = latents or {}
        if latents:
            num_particles = len(next(iter(latents.values())))

        guide_trace = self.run(self.guide, num_particles, latents)
        values = {s["name"]: s["value"] for s in guide_trace.nodes.values() if is_drawn(s)}
        model_trace = self.run(self.model, num_particles, values)
        sites = [s for s in model_trace.nodes.values() if is_density(s)]
        guide_sites = [s for s in guide_trace.nodes.values() if is_density(s)]
        plates = Plates(sites + guide_sites, num_particles, self.max_plate_nesting)
        self.sequence_dim = self.max_plate_nesting + 1 + plates.dim

        zero = torch.zeros_like(plates.log_prob((sites + guide_sites)[0]))

        def stacked(sites: list[Site], sign: int = 1) -> Tensor:
            return torch.stack([sign * plates.log_prob(s) for s in sites] or [zero], -1)

        factors = [s for s in guide_sites if is_factor(s)]
        reverse = [s for s in factors if s["name"].startswith("reverse")]
        auxiliary = [s for s in factors if not s["name"].startswith("reverse")]
        posterior = [s for s in guide_sites if not is_factor(s)]
        prior = [model_trace.nodes.get(s["name"]) for s in posterior]
        check_latents(sites, guide_sites, latents)
        masks = [plates.mask(s) for s in posterior]
        terms = Terms(
            log_prior=stacked(prior),
            log_posterior=stacked(posterior),
            log_emission=stacked([s for s in sites if s["is_observed"]]),
            kl_per_latent=kl_per_latent(posterior, prior, plates),
            auxiliary=stacked(auxiliary, sign=-1),
            reverse=stacked(reverse, sign=-1),
            latents={s["name"]: s["value"] for s in posterior},
            posterior_mean=means(posterior),
            scale=plates.scale,
            state=returned(guide_trace, model_trace),
            mask=torch.stack(masks, -1) if masks else None,
        )
        return terms, model_trace

    def run(
        self, program: Callable, num_particles: int, values: dict[str, Tensor]
    ) -> poutine.Trace:
        """The trace of a program with its latents set to ``values`` where they are given."""
        given = poutine.Trace()
        for name, value in (values | self.subsample).items():
            given.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
        dim = -1 - self.max_plate_nesting
        program = pyro.plate("particles", num_particles, dim=dim)(program)
        trace = poutine.trace(poutine.replay(program, trace=given))
        try:
            trace = trace.get_trace(*self.args, **self.kwargs)
        except ValueError as error:
            if '"particles", collide at' not in str(error):
                raise
            raise ValueError(
                f"Plates must stand at dims {dim + 1}..-1, got another one at {dim}: an estimator "
                "of programs with nested plates must be told their 'max_plate_nesting'"
            ) from error
        drawn = (s for s in trace.nodes.values() if is_drawn(s) and site_is_subsample(s))
        self.subsample |= {site["name"]: site["value"] for site in drawn}
        return trace

    def filtered(self, num_particles: int, resample: Resample) -> Terms:
        """The terms of a particle filter, by replay: the programs run again after a resampling.

        The latents so far are then those of the ancestors, and what follows is drawn anew: at most
        one run a step. The n-th latent is one step with the n-th observation.

        Raises:
            ValueError: If the programs are not one latent and one observation after the other.
        """
        terms, trace = self.traced(num_particles, None)
        names = check_steps(trace)
        fields = ("log_prior", "log_posterior", "log_emission", "auxiliary", "reverse")
        kept: list[dict[str, Tensor]] = []
        latents = {}
        for t, name in enumerate(names):
            step = {f: getattr(terms, f)[..., t] for f in fields if t < getattr(terms, f).shape[-1]}
            kept.append(step)
            latents[name] = terms.latents[name]
            log_weight = step["log_emission"] + step["log_prior"] - step["log_posterior"]
            ahead = terms.mask[..., t + 1 :].flatten(2).any(-1).any(0)
            ancestors = resample(log_weight, ahead)
            if ancestors is not None:
                past = {n: self.descended(terms.latents[n], ancestors) for n in names[: t + 1]}
                terms, _ = self.traced(num_particles, past)
        stacked = {f: torch.stack([k[f] for k in kept if f in k], -1) for f in fields}
        return terms._replace(
            **stacked, latents=latents, kl_per_latent=None, posterior_mean=None, state=None
        )

    def descended(self, z: Tensor, ancestors: Tensor) -> Tensor:
        """A latent of each particle's ancestor."""
        shape = [1] * z.dim()
        shape[0], shape[self.sequence_dim] = ancestors.shape
        return z.gather(0, ancestors.view(shape).expand_as(z))

    def dream(self) -> tuple[ProgramPair, dict[str, Tensor]]:
        """A batch of the same sizes that the model draws, and the latents that it drew.

        Raises:
            ValueError: If the programs are called without ``observations``.
        """
        if "observations" not in self.kwargs:
            raise ValueError(
                "A dream must be handed to the guide: programs must take a keyword 'observations', "
                "a dict from site to tensor, and be called with it"
            )
        with torch.no_grad():
            trace = self.run(poutine.uncondition(self.model), 1, {})
        sites = [s for s in trace.nodes.values() if is_density(s) and not is_factor(s)]
        seen = {s["name"]: s["value"] for s in sites if s["infer"].get("was_observed")}
        latents = {s["name"]: s["value"] for s in sites if s["name"] not in seen}
        observations = {name: value[0] for name, value in seen.items()}
        pair = ProgramPair(
            self.model,
            self.guide,
            *self.args,
            max_plate_nesting=self.max_plate_nesting,
            **self.kwargs | {"observations": observations},
        )
        pair.subsample = self.subsample
        return pair, latents


def check_latents(sites: list[Site], guide_sites: list[Site], latents: dict[str, Tensor]) -> None:
    """Refuses programs whose latents differ, and draws that carry no gradient.

    Raises:
        NotImplementedError, ValueError: As :meth:`ProgramPair.terms`.
    """
    if torch.is_grad_enabled():
        for site in guide_sites:
            if site["name"] not in latents and not site["fn"].has_rsample:
                raise NotImplementedError(f"Site '{site['name']}' must be reparameterised")
    of_model = {s["name"]: s for s in sites}
    drawn = {s["name"]: s for s in guide_sites if not is_factor(s)}
    for name, site in drawn.items():
        if site["is_observed"] or name not in of_model or of_model[name]["is_observed"]:
            raise ValueError(f"Site '{name}' of the guide is no latent of the model")
    if missing := {n for n, s in of_model.items() if not s["is_observed"]} - drawn.keys():
        raise ValueError(f"The guide draws no value for latents of the model: {sorted(missing)}")
    if unknown := latents.keys() - drawn.keys():
        raise ValueError(f"'latents' must be among {sorted(drawn)}, got also {sorted(unknown)}")


def check_steps(trace: poutine.Trace) -> list[str]:
    """Names of a model's latents, one followed by one observation each.

    Raises:
        ValueError: If its sites are otherwise.
    """
    sites = [s for s in trace.nodes.values() if is_density(s)]
    kinds = [s["is_observed"] for s in sites]
    if kinds != [False, True] * (len(kinds) // 2):
        raise ValueError(
            "To be filtered, a model must be one latent and one observation after the other, got "
            f"{[s['name'] for s in sites]}"
        )
    return [s["name"] for s in sites[::2]]


def returned(guide_trace: poutine.Trace, model_trace: poutine.Trace) -> Any:
    """What the model returned; where both programs returned dicts, all entries of both."""
    guide, model = (trace.nodes["_RETURN"]["value"] for trace in (guide_trace, model_trace))
    return guide | model if isinstance(guide, dict) and isinstance(model, dict) else model
