"""Programs written as a step, which a particle filter runs step by step."""

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from .sites import Site, is_factor
from .terms import BY_STEP
from .traces import Valued

State = dict[str, Tensor]


class Steps:
    """A Pyro program as its first state and its step; all estimators take it.

    A filter runs each step of a model and a guide once, where it runs other programs once more for
    each step at which a sequence resamples.

    Args:
        init: From the program's arguments to the state before the first step, a dict of tensors. It
            draws nothing, and an entry that no step returns is the same for all particles.
        step: From the state, t and the program's arguments to new entries of the state, of shape
            ``(particles, batch, ...)`` where there are several particles. It runs in the batch
            plate, at dim -1.
        size: From the program's arguments to batch size and number of steps; None is the first two
            dims of the first argument.
        twist: Of a guide, from the state after a step, t and the program's arguments to log r_t,
            ``(particles, batch)``, see :class:`.TraceTwisted`. The state is that of both programs.
            It is a module, announced to Pyro as ``twist``. To be learnt from draws it reads the
            future from entries of the state that ``init`` returns and no step does,
            ``(batch, ...)``.

    Example:
        >>> import pyro.distributions as dist
        >>> def step(state, t, x):
        ...     z = pyro.sample(f"z_{t}", dist.Normal(state["z"], 1.0))
        ...     pyro.sample(f"x_{t}", dist.Normal(z, 1.0), obs=x[:, t])
        ...     return {"z": z}
        >>> def guide_step(state, t, x):
        ...     return {"z": pyro.sample(f"z_{t}", dist.Normal(state["z"], 1.0))}
        >>> def init(x):
        ...     return {"z": torch.zeros(len(x))}
        >>> programs = Steps(init, step), Steps(init, guide_step)
        >>> TraceFIVO(16).loss(*programs, torch.zeros(3, 40)) > 0
        True
    """

    def __init__(
        self,
        init: Callable[..., State],
        step: Callable[..., State],
        size: Callable[..., Sequence[int]] | None = None,
        twist: torch.nn.Module | None = None,
    ):
        self.init, self.step, self.size = init, step, size or first_sizes
        self.twist = twist

    def __call__(self, *args, **kwargs) -> State:
        num_sequences, num_steps = self.size(*args, **kwargs)
        state = self.init(*args, **kwargs)
        with pyro.plate("sequences", num_sequences, dim=-1):
            for t in pyro.markov(range(num_steps)):
                state = state | self.step(state, t, *args, **kwargs)
        return state

    def start(self, *args, **kwargs) -> State:
        """Returns the first state.

        Raises:
            ValueError: If ``init`` draws or observes something, which no step would weigh.
        """
        with poutine.trace() as handler:
            state = self.init(*args, **kwargs)
        nodes = handler.trace.nodes
        sites = [name for name, site in nodes.items() if site["type"] == "sample"]
        if sites:
            raise ValueError(f"'init' must draw nothing, got sites {sites}: draw in the first step")
        return state


def first_sizes(x: Tensor, *args, **kwargs) -> Sequence[int]:
    """Returns batch size and number of steps of ``x``, ``(batch, time, ...)``."""
    return x.shape[:2]


class Stepping:
    """One of two :class:`Steps` with its state, as a program of the next step.

    Args:
        steps, args, kwargs: The program and its arguments.
    """

    def __init__(self, steps: Steps, args: tuple, kwargs: dict):
        self.steps, self.args, self.kwargs = steps, args, kwargs
        self.num_sequences, self.num_steps = steps.size(*args, **kwargs)
        self.state = steps.start(*args, **kwargs)
        self.new: State = {}
        self.t = 0

    def __call__(self) -> None:
        with pyro.plate("sequences", self.num_sequences, dim=-1):
            self.new = self.steps.step(self.state, self.t, *self.args, **self.kwargs)

    def advance(self, ancestors: Tensor | None) -> None:
        """Goes on to the next step, with the entries of each particle's ancestor.

        Raises:
            ValueError: If a step returned an entry that has no particles.
        """
        if ancestors is not None and len(ancestors) > 1:
            size = tuple(ancestors.shape)
            for name, value in self.new.items():
                if tuple(value.shape[:2]) != size:
                    raise ValueError(
                        f"'{name}' of a step's state must have shape {size} and more, got "
                        f"{tuple(value.shape)}: return it expanded, or from 'init'"
                    )
                index = ancestors.view(*size, *[1] * (value.dim() - 2))
                self.new[name] = value.gather(0, index.expand_as(value))
        self.state, self.t = self.state | self.new, self.t + 1


def joined(parts: list[Any]) -> dict[str, Any]:
    """Returns the fields of the terms of a filter from those of its steps."""
    fields: dict[str, Any] = {
        name: torch.stack([getattr(part, name).sum(-1) for part in parts], -1) for name in BY_STEP
    }
    for name in ("latents", "score"):
        fields[name] = {k: v for part in parts for k, v in getattr(part, name).items()}
    masks = [part.mask for part in parts]
    if all(mask is not None for mask in masks):
        fields["mask"] = torch.stack([mask.any(-1) for mask in masks], -1)
    return fields | dict.fromkeys(("kl_per_latent", "posterior_mean", "prior_mean"))


def log_twist(model: Stepping, guide: Stepping, other: State | None = None) -> Tensor:
    """Returns the guide's log r_t after the steps' last run; 0 at the last step.

    Entries of ``other`` replace those of the state.
    """
    state = guide.state | model.state | guide.new | model.new | (other or {})
    twist = guide.steps.twist
    if twist is None or guide.t + 1 == guide.num_steps:
        return torch.zeros(guide.num_sequences)
    return twist(state, guide.t, *guide.args, **guide.kwargs)


def foreseen(
    model: Stepping, guide: Stepping, latents: State
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns log r_t at the latents that the model drew; see :meth:`.Given.foreseen`."""
    num, parts = guide.num_sequences, []
    for t in range(guide.num_steps):
        with Valued(latents), torch.no_grad():
            guide()
            model()
        shift = int(torch.randint(1, num, ())) if num > 1 else 0
        future = guide.state.keys() - guide.new.keys() - model.new.keys()
        other = {name: guide.state[name].roll(shift, 0) for name in future}
        pair = log_twist(model, guide), log_twist(model, guide, other)
        ahead = torch.full((num,), t + 1 < guide.num_steps)
        parts.append((*pair, ahead, ahead & (num > 1)))
        guide.advance(None)
        model.advance(None)
    own, others, counts, counts_too = (torch.stack(part, -1) for part in zip(*parts))
    return own, others, counts, counts_too


def check_steps(sites: list[Site], guide_sites: list[Site]) -> list[str]:
    """Returns the names of a model's latents, one observation after each, in the guide's order.

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
    """Returns the step of each cost, by its kind: of the latent drawn last, or else the first."""
    places: dict[str, list[int]] = {"auxiliary": [], "reverse": []}
    step = 0
    for site in guide_sites:
        step += site["name"] in names
        if is_factor(site):
            kind = "reverse" if site["name"].startswith("reverse") else "auxiliary"
            places[kind].append(max(0, step - 1))
    return places
