"""Latents and recurrent states of every step of a data set, as named arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...data import SequenceSet
from ...estimators.terms import Terms
from ...models import StochasticRNN
from ...models.checks import check_positive
from ...models.given import GivenSequences
from ...models.steps import steps
from .batches import Source, batches, drawing, most_rows, with_nan

if TYPE_CHECKING:
    import xarray as xr

FORWARD = ("h", "z")
"""Entries of a state that are features of the past; an LSTM's cell c is not."""

BACKWARD = ("b", "a")
"""Entries of a context that summarise the x_t, ..., x_T that a guide has read."""


def num_latents(net: StochasticRNN) -> int:
    """Returns the size of z_t; 0 for a model without latents.

    Example:
        >>> num_latents(ZForcing(Bernoulli, 1, z_dim=5, h_dim=4)), num_latents(RNN(Bernoulli, 1))
        (5, 0)
    """
    with drawing(net, seed=0):
        x = net.emission.template(1, 1, next(net.parameters()))
        return net.terms(x, torch.ones(1, dtype=torch.long, device=x.device)).latents.shape[-1]


def check_latents(net: Source) -> int | None:
    """Returns the size of z_t; raises ValueError if it is 0. None for programs."""
    if not isinstance(net, StochasticRNN):
        return None
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
    """Returns latents, KL and recurrent states at each step; NaN past a length.

    Args:
        data: Sequences, such as a hundred or two of a split: ``data.subset(range(200))``.
        num_draws: Draws of the guide behind the means.
        max_rows: Draws times sequences in memory at once, or fewer where sequences are long.

    Returns:
        Variables, float32, with coordinates ``sequence`` (index in ``data``), ``time``, ``latent``:

        - ``z``: one draw of q(z | x), ``(sequence, time, latent)``;
        - ``z_mean``: mean of q(z_t | past, x) over draws of the past, ``(sequence, time, latent)``;
        - ``prior_mean``: mean of p(z_t | past) over the same draws, ``(sequence, time, latent)``; 0
          without a closed form;
        - ``kl``: mean KL(q(z_t | past, x) || p(z_t | past)) in nats, ``(sequence, time, latent)``.
          The dim is ``all_latents`` of size 1 where only the joint KL is known, as for a full
          covariance. Without a closed form it is log q - log p at the draws, and the attribute
          ``is_estimate`` is 1;
        - ``h``: mean state of the generative recurrence before z_t, ``(sequence, time, hidden)``:
          h_{t-1}, and z_{t-1} where the state has it (SRNN: d_t and z_{t-1}). None for programs;
        - ``b``: the guide's summary of x_t, ..., x_T (x_1, ..., x_t if it filters), where it has
          one, ``(sequence, time, backward)``;
        - ``lengths``: ``(sequence,)``.

    Raises:
        ValueError: If the net has no latents, or a number is not positive.
    """
    import xarray as xr

    check_positive(num_draws=num_draws, max_rows=max_rows)
    check_latents(net)
    num_steps, rows = int(data.lengths.max()), []
    with drawing(net, seed):
        for given in batches(net, data, max(1, most_rows(net, data, max_rows) // num_draws)):
            means = batch_codes(given, num_draws).items()
            rows.append({k: with_nan(v.float(), given.lengths, num_steps) for k, v in means})
    arrays = {name: torch.cat([row[name] for row in rows]).numpy() for name in rows[0]}
    is_estimate = "kl_estimate" in arrays
    arrays["kl"] = arrays.pop("kl_estimate" if is_estimate else "kl")
    last = {"h": "hidden", "b": "backward"}
    if arrays["kl"].shape != arrays["z"].shape:
        last["kl"] = "all_latents"
    dims = ("sequence", "time", "latent")
    codes = xr.Dataset(
        {name: ((*dims[:2], last.get(name, "latent")), v) for name, v in arrays.items()},
        coords={name: range(n) for name, n in zip(dims, arrays["z"].shape)},
    )
    codes["lengths"] = ("sequence", data.lengths.numpy())
    codes["kl"].attrs = {"units": "nats", "is_estimate": int(is_estimate)}
    return codes


def batch_codes(given: GivenSequences, num_draws: int) -> dict[str, Tensor]:
    """Returns a draw, and means over ``num_draws`` draws, each ``(batch, time, ...)``."""
    terms = given.terms(num_draws)
    z_mean = terms.latents if terms.posterior_mean is None else terms.posterior_mean
    prior_mean = torch.zeros_like(z_mean) if terms.prior_mean is None else terms.prior_mean
    codes = {"z": terms.latents[0], "z_mean": z_mean.mean(0), "prior_mean": prior_mean.mean(0)}
    if terms.kl_per_latent is None:
        codes["kl_estimate"] = terms.kl_or_estimate.mean(0)[..., None]
    else:
        codes["kl"] = terms.kl_per_latent.mean(0)
    return codes | batch_states(given, terms)


def batch_states(given: GivenSequences, terms: Terms) -> dict[str, Tensor]:
    """Returns mean states before each latent and backward states; none for programs only."""
    net, batch = given.net, given.batch
    if not net.has_steps:
        return {}
    context, _ = net.full_context(batch)
    state, states = net.particles(batch, len(terms.latents)), []
    names = [name for name in FORWARD if name in state]
    for context_t, z in zip(steps(context), terms.latents.unbind(2)):
        forward = [state[name].mean(0) for name in names]
        forward += [context_t["d"]] if "d" in context_t else []
        states.append(torch.cat(forward, -1))
        state = net.step(context_t, state, z).state
    backward = [context[name] for name in BACKWARD if name in context]
    return {"h": torch.stack(states, 1), **({"b": backward[0]} if backward else {})}
