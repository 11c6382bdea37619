"""The recurrence of an LSTM with a latent in its input, and its gradients written by hand."""

import torch
from torch import Tensor

from ...emissions import DiagNormal
from ...layers.lstm import LSTMCell, LSTMState
from ...layers.products import by_formula, is_plain, stacked_product
from .loops import backward_loop, forward_loop

Rolled = tuple[Tensor, Tensor, Tensor, Tensor]


def obstacle(cell, posterior, projected, state, noise) -> str | None:
    """Returns why :func:`fused` cannot run; None if it can."""
    if type(cell) is not LSTMCell:
        return f"it knows LSTMCell, got {type(cell).__name__}"
    if not is_plain(cell.weight_h, projected, *state, *([] if noise is None else [noise])):
        return "it knows no transforms of torch.func and no forward mode"
    if cell.weight_h.is_meta:
        return "it needs values, got tensors on the meta device"
    if noise is not None and noise.requires_grad:
        return "it has no gradient with respect to the noise"
    if type(posterior) is not DiagNormal:
        return f"the posterior must be DiagNormal, got {type(posterior).__name__}"
    if posterior.tanh_mean:
        return "the posterior's mean must not be squashed, got 'tanh_mean'"
    if len(posterior.mlp.layers) != 2:
        return f"the posterior must have one hidden layer, got {len(posterior.mlp.layers) - 1}"
    return None


def fused(
    cell: LSTMCell,
    posterior: DiagNormal,
    projected: Tensor,
    from_future: Tensor,
    weight_q: Tensor,
    state: LSTMState,
    noise: Tensor | None = None,
) -> Rolled:
    """Draws z_t ~ q(z_t | h_{t-1}, b_t) step by step; the noise is one draw a step.

    Three products a step forward and three backward, on buffers that are allocated once; each
    gradient of a weight is one product for all steps. Once differentiable.

    ``projected`` is the cell's projection of its inputs, ``(batch, updates, 4 h_dim)``;
    ``from_future`` the posterior's first layer of b_t, ``(batch, time, hidden_dim)``, and
    ``weight_q`` its weight on h_{t-1}. Other arguments are those of :func:`.recurrence.roll_out`.

    Returns:
        h_0 and all h_t ``(updates + 1, particles, batch, h_dim)``, the last c
        ``(particles, batch, h_dim)``, and with ``time`` first z_t and the posterior's output.
    """
    h, c = state
    if noise is None:
        noise = drawn_by_step(h.new_empty(from_future.shape[1], *h.shape[:-1], posterior.x_dim))
    else:
        noise = noise.movedim(-2, 0).contiguous()
    out = posterior.mlp.layers[1]
    return Recurrence.apply(
        projected.transpose(0, 1),
        from_future.transpose(0, 1),
        noise,
        h,
        c,
        cell.weight_h,
        weight_q,
        cell.weight_z,
        out.weight,
        out.bias,
        (posterior.clamp, posterior.exponent, posterior.min_scale),
    )


def drawn_by_step(noise: Tensor) -> Tensor:
    """Fills ``(time, ...)`` with the stream of one draw a step."""
    # PyTorch draws 16 numbers at a time if there are as many.
    at_once = noise[0].numel() % 16 == 0 and noise.device.type == "cpu"
    for part in (noise,) if at_once else noise:
        part.normal_()
    return noise


class Recurrence(torch.autograd.Function):
    """:func:`fused` on tensors whose first dim is time. Buffers are matrices: rows of all draws."""

    @staticmethod
    def forward(ctx, projected, from_future, noise, h, c, *weights_and_shape) -> Rolled:
        weight_h, weight_q, weight_z, weight_out, bias_out, shape = weights_and_shape
        (num_steps, *lead, z_dim), num_updates = noise.shape, len(projected)
        h_dim, hidden_dim = h.shape[-1], from_future.shape[-1]
        rows = h[..., 0].numel()

        def buffer(steps: int, dim: int) -> Tensor:
            return h.new_empty(steps, rows, dim)

        hs, cs = buffer(num_updates + 1, h_dim), buffer(num_updates + 1, h_dim)
        gates, tanh_c = buffer(num_updates, 4 * h_dim), buffer(num_updates, h_dim)
        hidden, z, exps = (buffer(num_steps, n) for n in (hidden_dim, z_dim, 2 * z_dim))
        # A copy, also where a single row needs no expansion: it is written to.
        output = bias_out.expand(num_steps, rows, -1).clone(memory_format=torch.contiguous_format)
        noise = noise.view(num_steps, rows, z_dim)
        hs[0], cs[0] = h.reshape(rows, h_dim), c.reshape(rows, h_dim)
        buffers = [hs, cs, gates, tanh_c, hidden, output, z, exps]
        weights = torch.cat([weight_h, weight_q]), weight_z, weight_out
        forward_loop((projected, from_future, noise), weights, buffers, lead, shape)
        ctx.save_for_backward(noise, weight_h, weight_q, weight_z, weight_out, *buffers)
        ctx.shape = shape, lead
        hs_out, z_out, output_out = (v.view(-1, *lead, v.shape[-1]) for v in (hs, z, output))
        return hs_out, cs[-1].view(*lead, h_dim).clone(), z_out, output_out

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        if by_formula(*gradients):
            raise RuntimeError(
                "The fused recurrence is once differentiable; for a gradient of its gradient, or "
                "many gradients at once, set the net's 'backend' to 'reference'"
            )
        # In the types of its buffers, also where a caller differentiates under autocast.
        with torch.autocast(gradients[0].device.type, enabled=False):
            return Recurrence.through_time(ctx, *gradients)

    @staticmethod
    def through_time(ctx, d_hs: Tensor, d_c: Tensor, d_z: Tensor, d_output: Tensor):
        """Returns the gradients of the inputs of :meth:`forward` from those of its results."""
        noise, weight_h, weight_q, weight_z, weight_out, *buffers = ctx.saved_tensors
        hs, cs, gates, tanh_c, hidden, output, z, exps = buffers
        (clamp, half, _), lead = ctx.shape
        (num_steps, rows, _), num_updates = noise.shape, len(gates)
        h_dim = hs.shape[-1]
        d_hs, d_z, d_output = (v.reshape(-1, rows, v.shape[-1]) for v in (d_hs, d_z, d_output))
        d_gates = hs.new_empty(num_updates, rows, 4 * h_dim)
        d_hidden, d_out = torch.empty_like(hidden), torch.empty_like(output)
        state = d_h, d_c = copy(d_hs[num_updates]), copy(d_c.reshape(rows, h_dim))
        weights, slopes = (weight_h, weight_q, weight_z, weight_out), (d_hs, d_z, d_output)
        saved, results = (cs, gates, tanh_c, hidden, output, exps), (d_gates, d_hidden, d_out)
        backward_loop(slopes, state, noise, weights, saved, results, clamp, half)
        return (
            over_particles(d_gates, lead),
            over_particles(d_hidden, lead),
            None,
            d_h.view(*lead, h_dim),
            d_c.view(*lead, h_dim),
            stacked_product(d_gates, hs[:num_updates]),
            stacked_product(d_hidden, hs[:num_steps]),
            stacked_product(d_gates, z[:num_updates]),
            stacked_product(d_out, hidden),
            d_out.flatten(0, -2).sum(0),
            None,
        )


def copy(x: Tensor) -> Tensor:
    """Returns a copy, row by row in memory, whatever the order of ``x``."""
    return x.clone(memory_format=torch.contiguous_format)


def over_particles(gradient: Tensor, lead: list[int]) -> Tensor:
    """Returns the gradient of what all particles share: the sum over them."""
    gradient = gradient.view(len(gradient), *lead, gradient.shape[-1])
    return gradient.squeeze(1) if lead[0] == 1 else gradient.sum(1)
