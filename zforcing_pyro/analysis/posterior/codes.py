"""Latents and recurrent states of every step of a data set, as named arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...data import SequenceSet
from ...estimators.terms import Terms
from ...layers.blocks import length_mask
from ...models import StochasticRNN, evaluating
from ...models.checks import check_positive
from ...models.steps import steps
from .batches import NetBatch, batches, most_rows

if TYPE_CHECKING:
    import xarray as xr

FORWARD = ("h", "z")
"""Entries of a state that are features of the past; an LSTM's cell c is none."""

BACKWARD = ("b", "a")
"""Entries of a context that summarise what a guide has read of x_t, ..., x_T."""


def num_latents(net: StochasticRNN) -> int:
    """Size of z_t; 0 of a model without latents, which nothing of this package can look at.

    Example:
        >>> num_latents(ZForcing(Bernoulli, 1, z_dim=5, h_dim=4)), num_latents(RNN(Bernoulli, 1))
        (5, 0)
    """
    with evaluating(net, seed=0):
        x = net.emission.template(1, 1, next(net.parameters()))
        return net.terms(x, torch.ones(1, dtype=torch.long, device=x.device)).latents.shape[-1]


def check_latents(net: StochasticRNN) -> int:
    """The size of z_t, which must not be 0.

    Raises:
        ValueError: If it is.
    """
    if not (size := num_latents(net)):
        raise ValueError(f"'net' must have latents, got {type(net).__name__}, which has none")
    return size


def latent_codes(
    net: StochasticRNN,
    data: SequenceSet,
    num_draws: int = 8,
    max_rows: int = 1_024,
    seed: int = 0,
) -> xr.Dataset:
    """What the guide and the recurrence say at each step; NaN past a length.

    Args:
        net: A model with latents.
        data: Sequences, such as a hundred or two of a split: ``data.subset(range(200))``.
        num_draws: Draws of the guide behind the means.
        max_rows: Draws times sequences in memory at once, or fewer where they are long.
        seed: Of the draws.

    Returns:
        Variables, float32, with coordinates ``sequence`` (index in ``data``), ``time``, ``latent``:

        - ``z``: one draw of q(z | x), ``(sequence, time, latent)``;
        - ``z_mean``: mean of q(z_t | past, x) over draws of the past, ``(sequence, time, latent)``;
        - ``prior_mean``: mean of p(z_t | past) over the same draws, ``(sequence, time, latent)``; 0
          where it has no closed form;
        - ``kl``: mean KL(q(z_t | past, x) || p(z_t | past)) in nats, ``(sequence, time, latent)``;
          in place of ``latent`` a dim ``all_latents`` of size 1 where only the KL of all latents
          together is known, as of a full covariance, or where there is no closed form: then
          the attribute ``is_estimate`` is 1, and it is log q - log p at the draws;
        - ``h``: mean state of the generative recurrence before z_t, ``(sequence, time, hidden)``:
          h_{t-1}, and z_{t-1} where it is part of it (SRNN: d_t and z_{t-1}). Absent where a model
          has programs only;
        - ``b``: what the guide has read of x_t, ..., x_T, ``(sequence, time, backward)``. Absent
          where a guide has no such state; one that filters has read x_1, ..., x_t;
        - ``lengths``: ``(sequence,)``.

    Raises:
        ValueError: If the net has no latents, or a number is not positive.
    """
    import xarray as xr

    check_positive(num_draws=num_draws, max_rows=max_rows)
    check_latents(net)
    num_steps, rows = int(data.lengths.max()), []
    with evaluating(net, seed):
        size = max(1, most_rows(net, num_steps, max_rows) // num_draws)
        for given in batches(net, data, size):
            rows.append(means_of_batch(net, given, num_draws))
            mask = length_mask(given.lengths, given.x.shape[1])
            rows[-1] = {name: with_nan(v, mask, num_steps) for name, v in rows[-1].items()}
    found = {name: torch.cat([r[name] for r in rows]).numpy() for name in rows[0]}
    last = {"h": "hidden", "b": "backward"}
    is_estimate = "kl_estimate" in found
    found["kl"] = found.pop("kl_estimate" if is_estimate else "kl")
    if found["kl"].shape != found["z"].shape:
        last["kl"] = "all_latents"
    dims = ("sequence", "time", "latent")
    codes = xr.Dataset(
        {name: ((*dims[:2], last.get(name, "latent")), v) for name, v in found.items()},
        coords={name: range(n) for name, n in zip(dims, found["z"].shape)},
    )
    codes["lengths"] = ("sequence", data.lengths.numpy())
    codes["kl"].attrs = {"units": "nats", "is_estimate": int(is_estimate)}
    return codes


def means_of_batch(net: StochasticRNN, given: NetBatch, num_draws: int) -> dict[str, Tensor]:
    """A draw, and means over ``num_draws`` of them, each ``(batch, time, ...)``."""
    _, x, lengths, state = given
    terms = net.terms(x, lengths, num_draws, state=state)
    mean = terms.latents if terms.posterior_mean is None else terms.posterior_mean
    prior_mean = torch.zeros_like(mean) if terms.prior_mean is None else terms.prior_mean
    found = {"z": terms.latents[0], "z_mean": mean.mean(0), "prior_mean": prior_mean.mean(0)}
    if terms.kl_per_latent is None:
        found["kl_estimate"] = terms.kl_or_estimate.mean(0)[..., None]
    else:
        found["kl"] = terms.kl_per_latent.mean(0)
    return found | states_of_batch(net, given, terms)


def states_of_batch(net: StochasticRNN, given: NetBatch, terms: Terms) -> dict[str, Tensor]:
    """Mean states before each latent, and the backward states, where a model has steps."""
    if type(net).context is StochasticRNN.context:
        return {}
    _, x, lengths, state = given
    context, _ = net.context(x, lengths, state)
    state, states = net.particles(x, len(terms.latents), state), []
    names = [name for name in FORWARD if name in state]
    for context_t, z in zip(steps(context), terms.latents.unbind(2)):
        forward = [state[name].mean(0) for name in names]
        forward += [context_t["d"]] if "d" in context_t else []
        states.append(torch.cat(forward, -1))
        state, _ = net.step(state, context_t, z)
    backward = [context[name] for name in BACKWARD if name in context]
    return {"h": torch.stack(states, 1), **({"b": backward[0]} if backward else {})}


def with_nan(values: Tensor, mask: Tensor, num_steps: int) -> Tensor:
    """float32 on the CPU, ``(batch, num_steps, ...)``, NaN where ``mask`` is False or ends."""
    values = values.float().cpu().masked_fill(~mask.cpu()[..., None], torch.nan)
    rest = values.new_full((len(values), num_steps - values.shape[1], values.shape[2]), torch.nan)
    return torch.cat([values, rest], 1)
