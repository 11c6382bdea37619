"""Terms of any pair of Pyro programs, read off their traces."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from .sites import PARTICLES, Layout, Site, is_factor, is_latent, nesting
from .stepwise import Stepping, Steps, check_steps, cost_steps, foreseen, joined, log_twist
from .terms import Given, Resample, Terms
from .traces import Valued, check_latents, concatenated, densities, returned, terms_of

MANY_RUNS = 8
"""Number of runs of two programs above which a filter says what it costs."""


class ProgramPair(Given):
    """A model and a guide, any two Pyro programs, and the arguments that both are called with.

    The sites that all stand in one batch plate are terms of sequences; plates nested in it are
    summed out. A factor of the model is part of log p(x, z); a factor of the guide is a cost
    (reverse, if its name starts so). Latents are a dict from site to tensor, ``(particles,
    plates..., events...)``. A single particle adds no dim to what the programs compute.

    A site of the guide with ``infer={"is_auxiliary": True}``, such as those of
    ``pyro.infer.autoguide``, need not be one of the model's; its log q counts with that of the
    next latent, or else of the last.

    Where a plate draws a subsample, the first run decides which: a pair is one batch.

    Args:
        model, guide: The programs.
        args, kwargs: What both are called with. To :meth:`dream` they must take a keyword
            ``observations``, a dict from site to tensor, in place of the data, as those of
            ``pyro.infer.ReweightedWakeSleep`` do.
        max_plate_nesting: Number of dims that the programs' own plates take, from -1 leftwards; the
            plate of particles stands left of them. It is raised where the programs nest more.

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

    vectorized: bool = True
    """Draws all particles in one run, or each in a run of its own."""
    per_sequence: bool = True
    """Refuses sites that do not share one batch plate; else the batch counts as one sequence."""
    log_twist: Callable[[dict[str, Tensor]], Tensor] | None = None
    """From the latents so far to log r_t, ``(particles, batch)``, for programs without steps."""

    def __init__(
        self, model: Callable, guide: Callable, *args, max_plate_nesting: int = 1, **kwargs
    ):
        self.model, self.guide, self.args, self.kwargs = model, guide, args, kwargs
        self.max_plate_nesting = max_plate_nesting
        self.subsample: dict[str, Any] = {}

    def terms(self, num_particles: int = 1, latents: dict[str, Tensor] | None = None) -> Terms:
        """Returns one term of every sample site.

        Args:
            num_particles: Draws of the latents.
            latents: Values to score instead of a draw, by site.

        Raises:
            ValueError: If a site stands outside the batch plate, sites are scaled differently, or
                the latents of model, guide and ``latents`` are not the same.
        """
        return self.traced(num_particles, latents or {})[0]

    def traced(
        self, num_particles: int, latents: dict[str, Tensor]
    ) -> tuple[Terms, list[Site], list[Site]]:
        """Returns :meth:`terms`, and the sites of model and guide."""
        if latents:
            num_particles = len(next(iter(latents.values())))
        if num_particles > 1 and not self.vectorized:
            runs = [
                self.traced(1, {name: z[k : k + 1] for name, z in latents.items()})
                for k in range(num_particles)
            ]
            return concatenated([terms for terms, *_ in runs]), *runs[-1][1:]
        try:
            guide, model = self.runs(num_particles, latents)
            nested = nesting(densities(guide) + densities(model)) > self.max_plate_nesting
        except Collision:
            nested = True
        if nested:
            self.max_plate_nesting = self.nesting_alone()
            if num_particles > 1:
                return self.traced(num_particles, latents)
        sites, guide_sites = densities(model), densities(guide)
        layout = Layout(
            sites + guide_sites, num_particles, self.max_plate_nesting, self.per_sequence
        )
        self.sequence_dim = layout.sequence_dim
        check_latents(sites, guide_sites, latents)
        terms = terms_of(sites, guide_sites, layout, latents)
        return terms._replace(state=returned(guide, model)), sites, guide_sites

    def runs(
        self, num_particles: int, latents: dict[str, Tensor]
    ) -> tuple[poutine.Trace, poutine.Trace]:
        """Returns the traces of the guide, and of the model at the guide's draws."""
        # Flows keep what they drew with its Jacobian; an alias makes them score without that.
        aliases = {name: z.view_as(z) for name, z in latents.items()}
        guide = self.run(self.guide, num_particles, aliases)
        values = {n: s["value"] for n, s in guide.nodes.items() if is_latent(s)}
        return guide, self.run(self.model, num_particles, values)

    def run(self, program: Callable, num_particles: int, values: dict[str, Any]) -> poutine.Trace:
        """Returns the trace of a program with latents set to ``values`` where there are some.

        Raises:
            Collision: If a plate of the program stands where the plate of particles does.
        """
        if num_particles > 1:
            plate = pyro.plate(PARTICLES, num_particles, dim=-1 - self.max_plate_nesting)
            program = plate(program)
        trace = poutine.trace(Valued(values | self.subsample)(program))
        try:
            trace = trace.get_trace(*self.args, **self.kwargs)
        except ValueError as error:
            if f'"{PARTICLES}", collide at' in str(error):
                raise Collision from None
            message = re.split(r"\n *Trace Shapes:", str(error))[0]  # Pyro appends a table
            raise ValueError(message).with_traceback(error.__traceback__) from None
        drawn = ((n, s) for n, s in trace.nodes.items() if is_latent(s) and site_is_subsample(s))
        self.subsample |= {name: site["value"] for name, site in drawn}
        return trace

    def nesting_alone(self) -> int:
        """Returns the depth of the plates of both programs without the plate of particles."""
        return nesting(site for trace in self.runs(1, {}) for site in densities(trace))

    def filtered(self, num_particles: int, resample: Resample, twisted: bool = False) -> Terms:
        """Returns the terms of a particle filter; programs run again after a resampling.

        The latents so far are then those of the ancestors, and what follows is drawn anew: at most
        one run a step. The n-th latent is one step with the n-th observation, and with the costs
        between it and the next latent of the guide. Two :class:`Steps` run each step once.

        Raises:
            ValueError: If the model is not one latent and one observation after the other, or the
                guide draws latents in another order.
        """
        if isinstance(self.model, Steps) and isinstance(self.guide, Steps):
            return self.stepped(self.model, self.guide, num_particles, resample, twisted)
        terms, sites, guide_sites = self.traced(num_particles, {})
        names, num_runs = check_steps(sites, guide_sites), 1
        drawn, costs = list(terms.latents), cost_steps(guide_sites, names)
        fields = ("log_prior", "log_posterior", "log_emission")
        kept: list[dict[str, Tensor]] = []
        latents, past, twist = {}, {}, torch.tensor(0.0)
        for t, name in enumerate(names):
            step = {f: getattr(terms, f)[..., t] for f in fields}
            for f, places in costs.items():
                of_step = [i for i, place in enumerate(places) if place == t]
                step[f] = getattr(terms, f)[..., of_step].sum(-1)
            kept.append(step)
            latents[name] = terms.latents[name]
            log_weight = step["log_emission"] + step["log_prior"] - step["log_posterior"]
            assert terms.mask is not None, "a filter has sequences"
            ahead = terms.mask[..., t + 1 :].flatten(2).any(-1).any(0)
            past = {n: terms.latents[n] for n in drawn[: drawn.index(name) + 1]}
            if twisted and self.log_twist is not None:
                before, twist = twist, torch.where(ahead, self.log_twist(past), 0.0)
                log_weight, step["twist"] = log_weight + twist - before, twist
            ancestors = resample(log_weight, ahead)
            if ancestors is not None:
                past = {n: self.descended(z, ancestors) for n, z in past.items()}
                twist = twist.gather(0, ancestors) if "twist" in step else twist
                terms, *_ = self.traced(num_particles, past)
                num_runs += 1
        if num_runs > MANY_RUNS:
            warnings.warn(
                f"The programs ran {num_runs} times, once more for each of {len(names)} steps at "
                "which a sequence resampled; estimators.Steps(init, step) runs each step once",
                stacklevel=2,
            )
        stacked: dict[str, Any] = {f: torch.stack([k[f] for k in kept], -1) for f in kept[0]}
        stacked |= dict.fromkeys(("kl_per_latent", "posterior_mean", "prior_mean", "state"))
        return terms._replace(**stacked, latents=latents)

    def stepped(
        self,
        model_steps: Steps,
        guide_steps: Steps,
        num_particles: int,
        resample: Resample,
        twisted: bool,
    ) -> Terms:
        """Returns the terms of a particle filter of two :class:`Steps`, whose steps run once each.

        A step may have any number of latents and observations.
        """
        model = Stepping(model_steps, self.args, self.kwargs)
        guide = Stepping(guide_steps, self.args, self.kwargs)
        parts, log_twists, twist = [], [], torch.tensor(0.0)
        for t in range(model.num_steps):
            pair = ProgramPair(model, guide)
            terms, *_ = pair.traced(num_particles, {})
            parts.append(terms)
            log_weight = terms.log_weight
            goes_on = torch.full_like(log_weight[0], t + 1 < model.num_steps, dtype=torch.bool)
            if twisted and guide_steps.twist is not None:
                before, twist = twist, log_twist(model, guide).expand_as(log_weight)
                log_weight = log_weight + twist - before
                log_twists.append(twist)
            ancestors = resample(log_weight, goes_on)
            twist = twist if ancestors is None or not log_twists else twist.gather(0, ancestors)
            model.advance(ancestors)
            guide.advance(ancestors)
        self.sequence_dim = pair.sequence_dim
        fields = joined(parts) | {"twist": torch.stack(log_twists, -1) if log_twists else None}
        return terms._replace(**fields, state=guide.state | model.state)

    def twist_parameters(self) -> list[Tensor]:
        """Returns the parameters of the guide's twist, and announces them to Pyro."""
        twist = getattr(self.guide, "twist", None)
        return [] if twist is None else list(pyro.module("twist", twist).parameters())

    def foreseen(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns log r_t of a dream of two :class:`Steps`; see :meth:`Given.foreseen`.

        The future is what ``init`` of the guide returns and no step does.
        """
        dreamt, latents = self.dream()
        assert isinstance(self.model, Steps) and isinstance(self.guide, Steps)
        model = Stepping(self.model, dreamt.args, dreamt.kwargs)
        guide = Stepping(self.guide, dreamt.args, dreamt.kwargs)
        return foreseen(model, guide, latents)

    def descended(self, z: Tensor, ancestors: Tensor) -> Tensor:
        """Returns a latent of each particle's ancestor."""
        assert self.sequence_dim is not None
        shape = [1] * z.dim()
        shape[0], shape[self.sequence_dim] = ancestors.shape
        return z.gather(0, ancestors.view(shape).expand_as(z))

    def dream(self) -> tuple["ProgramPair", dict[str, Tensor]]:
        """Returns a batch of the same sizes that the model draws, and the latents that it drew.

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
        sites = [s for s in densities(trace) if not is_factor(s)]
        layout = Layout(sites, 1, self.max_plate_nesting, self.per_sequence)
        seen = {s["name"]: s["value"] for s in sites if s["infer"].get("was_observed")}
        latents = {s["name"]: layout.padded(s["value"], s) for s in sites if s["name"] not in seen}
        kwargs = self.kwargs | {"observations": seen}
        nesting = self.max_plate_nesting
        pair = ProgramPair(self.model, self.guide, *self.args, max_plate_nesting=nesting, **kwargs)
        pair.subsample = self.subsample
        return pair, latents


class Collision(Exception):
    """A program's plate stands at the dim of the plate of particles."""
