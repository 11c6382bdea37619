"""Terms of any pair of Pyro programs, read off their traces."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from .sites import Plates, Site, is_density, is_drawn, is_factor, kl_per_latent, means, nesting
from .terms import Given, Resample, Terms


class ProgramPair(Given):
    """A model and a guide, any two Pyro programs, and the arguments that both are called with.

    All their sites stand in one batch plate: that which is common to all of them. Plates nested in
    it are summed out. A factor of the model is part of log p(x, z); a factor of the guide is a cost
    (reverse, if its name starts so). Latents are a dict from site to tensor.

    A site of the guide with ``infer={"is_auxiliary": True}``, such as those of
    ``pyro.infer.autoguide.AutoNormal``, need be none of the model's; its log q counts with that of
    the next latent, or else of the last. There is then no analytic KL.

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
    ) -> tuple[Terms, list[Site], list[Site]]:
        """:meth:`terms`, and the sites of model and guide."""
        latents = latents or {}
        if latents:
            num_particles = len(next(iter(latents.values())))

        guide_trace = self.run(self.guide, num_particles, latents)
        values = {s["name"]: s["value"] for s in guide_trace.nodes.values() if is_drawn(s)}
        model_trace = self.run(self.model, num_particles, values)
        sites = [s for s in model_trace.nodes.values() if is_density(s)]
        guide_sites = [s for s in guide_trace.nodes.values() if is_density(s)]
        if nesting(sites + guide_sites, -1 - self.max_plate_nesting) > self.max_plate_nesting:
            self.refuse_nesting()
        plates = Plates(sites + guide_sites, num_particles, self.max_plate_nesting)
        self.sequence_dim = self.max_plate_nesting + 1 + plates.dim

        zero = torch.zeros_like(plates.log_prob((sites + guide_sites)[0]))

        def stacked(sites: list[Site], sign: int = 1) -> Tensor:
            return torch.stack([sign * plates.log_prob(s) for s in sites] or [zero], -1)

        factors = [s for s in guide_sites if is_factor(s)]
        reverse = [s for s in factors if s["name"].startswith("reverse")]
        auxiliary = [s for s in factors if not s["name"].startswith("reverse")]
        check_latents(sites, guide_sites, latents)
        drawn = [s for s in guide_sites if not is_factor(s)]
        posterior = [s for s in drawn if s["name"] in model_trace]
        prior = [model_trace.nodes[s["name"]] for s in posterior]
        log_posterior, latest = [zero] * max(1, len(posterior)), 0
        for site in drawn:
            slot = min(latest, len(log_posterior) - 1)
            log_posterior[slot] = log_posterior[slot] + plates.log_prob(site)
            latest += site["name"] in model_trace
        closed = len(drawn) == len(posterior)
        masks = [plates.mask(s) for s in posterior]
        terms = Terms(
            log_prior=stacked(prior),
            log_posterior=torch.stack(log_posterior, -1),
            log_emission=stacked([s for s in sites if s["is_observed"]]),
            kl_per_latent=kl_per_latent(posterior, prior, plates) if closed else None,
            auxiliary=stacked(auxiliary, sign=-1),
            reverse=stacked(reverse, sign=-1),
            latents={s["name"]: s["value"] for s in drawn},
            posterior_mean=means(posterior) if closed else None,
            prior_mean=means(prior) if closed else None,
            scale=plates.scale,
            state=returned(guide_trace, model_trace),
            mask=torch.stack(masks, -1) if masks else None,
        )
        return terms, sites, guide_sites

    def run(
        self, program: Callable, num_particles: int, values: dict[str, Tensor]
    ) -> poutine.Trace:
        """The trace of a program with its latents set to ``values`` where they are given."""
        dim = -1 - self.max_plate_nesting
        program = pyro.plate("particles", num_particles, dim=dim)(program)
        trace = poutine.trace(Valued(values | self.subsample)(program))
        try:
            trace = trace.get_trace(*self.args, **self.kwargs)
        except ValueError as error:
            if '"particles", collide at' in str(error):
                self.refuse_nesting()
            raise without_shapes(error) from None
        drawn = (s for s in trace.nodes.values() if is_drawn(s) and site_is_subsample(s))
        self.subsample |= {site["name"]: site["value"] for site in drawn}
        return trace

    def refuse_nesting(self) -> None:
        """Says how deep the plates of both programs are without that of particles.

        Raises:
            ValueError: Always.
        """
        try:
            guide = poutine.trace(self.guide).get_trace(*self.args, **self.kwargs)
            model = poutine.trace(poutine.replay(self.model, trace=guide))
            model = model.get_trace(*self.args, **self.kwargs)
        except ValueError as error:
            raise without_shapes(error) from None
        sites = [s for trace in (guide, model) for s in trace.nodes.values() if is_density(s)]
        raise ValueError(
            "An estimator of programs with nested plates must be told their 'max_plate_nesting', "
            f"here {nesting(sites)}, got {self.max_plate_nesting}"
        ) from None

    def filtered(self, num_particles: int, resample: Resample) -> Terms:
        """The terms of a particle filter, by replay: the programs run again after a resampling.

        The latents so far are then those of the ancestors, and what follows is drawn anew: at most
        one run a step. The n-th latent is one step with the n-th observation
        and with the costs between it and the next latent of the guide.

        Raises:
            ValueError: If the model is not one latent and one observation after the other, or the
                guide draws latents in another order.
        """
        terms, sites, guide_sites = self.traced(num_particles, None)
        names = check_steps(sites, guide_sites)
        drawn, costs = list(terms.latents), cost_steps(guide_sites, names)
        fields = ("log_prior", "log_posterior", "log_emission")
        kept: list[dict[str, Tensor]] = []
        latents = {}
        for t, name in enumerate(names):
            step = {f: getattr(terms, f)[..., t] for f in fields}
            for f, places in costs.items():
                of_step = [i for i, place in enumerate(places) if place == t]
                step[f] = getattr(terms, f)[..., of_step].sum(-1)
            kept.append(step)
            latents[name] = terms.latents[name]
            log_weight = step["log_emission"] + step["log_prior"] - step["log_posterior"]
            ahead = terms.mask[..., t + 1 :].flatten(2).any(-1).any(0)
            ancestors = resample(log_weight, ahead)
            if ancestors is not None:
                past = drawn[: drawn.index(name) + 1]
                past = {n: self.descended(terms.latents[n], ancestors) for n in past}
                terms, *_ = self.traced(num_particles, past)
        stacked = {f: torch.stack([k[f] for k in kept], -1) for f in kept[0]}
        return terms._replace(
            **stacked,
            latents=latents,
            kl_per_latent=None,
            posterior_mean=None,
            prior_mean=None,
            state=None,
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


class Valued(Messenger):
    """Sets latents to values; unlike a replay it leaves what a site says of itself."""

    def __init__(self, values: dict[str, Tensor]):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def check_latents(sites: list[Site], guide_sites: list[Site], latents: dict[str, Tensor]) -> None:
    """Refuses programs whose latents differ, and draws that carry no gradient.

    Raises:
        NotImplementedError, ValueError: As :meth:`ProgramPair.terms`.
    """
    if torch.is_grad_enabled():
        for site in guide_sites:
            if site["name"] not in latents and not site["fn"].has_rsample:
                raise NotImplementedError(
                    f"Site '{site['name']}' must be reparameterised; TraceRWS takes such latents"
                )
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


def check_steps(sites: list[Site], guide_sites: list[Site]) -> list[str]:
    """Names of a model's latents, one followed by one observation each, as the guide draws them.

    Raises:
        ValueError: If the sites are otherwise.
    """
    kinds = [s["is_observed"] for s in sites]
    if kinds != [False, True] * (len(kinds) // 2):
        raise ValueError(
            "To be filtered, a model must be one latent and one observation after the other, got "
            f"{[s['name'] for s in sites]}"
        )
    names = [s["name"] for s in sites[::2]]
    if (order := [s["name"] for s in guide_sites if s["name"] in names]) != names:
        raise ValueError(
            f"To be filtered, a guide must draw latents in the model's order {names}, got {order}"
        )
    return names


def cost_steps(guide_sites: list[Site], names: list[str]) -> dict[str, list[int]]:
    """The step of each cost, by its kind: that of the latent drawn last, or else the first."""
    places, step = {"auxiliary": [], "reverse": []}, 0
    for site in guide_sites:
        step += site["name"] in names
        if is_factor(site):
            kind = "reverse" if site["name"].startswith("reverse") else "auxiliary"
            places[kind].append(max(0, step - 1))
    return places


def without_shapes(error: ValueError) -> ValueError:
    """What a program said, without the table of shapes that Pyro appends."""
    said = re.split(r"\n *Trace Shapes:", str(error))[0]
    return ValueError(said).with_traceback(error.__traceback__)


def returned(guide_trace: poutine.Trace, model_trace: poutine.Trace) -> Any:
    """What the model returned; where both programs returned dicts, all entries of both."""
    guide, model = (trace.nodes["_RETURN"]["value"] for trace in (guide_trace, model_trace))
    return guide | model if isinstance(guide, dict) and isinstance(model, dict) else model
