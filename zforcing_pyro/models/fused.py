"""The recurrence of an LSTM with a latent in its input, and its gradient written by hand."""

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu_

from ..emissions import DiagNormal
from ..nn import LSTMCell, LSTMState
from ..products import prepared, stacked_product, transformed

Rolled = tuple[Tensor, Tensor, Tensor, Tensor]


def obstacle(cell: LSTMCell, posterior: DiagNormal, latents: Tensor | None) -> str | None:
    """Why :func:`fused` cannot run what is asked of it; None if it can."""
    if type(cell) is not LSTMCell:
        return f"it knows LSTMCell, got {type(cell).__name__}"
    if type(posterior) is not DiagNormal:
        return f"the posterior must be DiagNormal, got {type(posterior).__name__}"
    if posterior.tanh_mean:
        return "the posterior's mean must not be squashed, got 'tanh_mean'"
    if len(posterior.mlp.layers) != 2:
        return f"the posterior must have one hidden layer, got {len(posterior.mlp.layers) - 1}"
    if latents is not None:
        return "it draws latents, and these were given"
    if transformed():
        return "it knows no transforms of torch.func"
    if cell.weight_h.is_meta:
        return "it needs values, got tensors on the meta device"
    return None


def fused(
    cell: LSTMCell,
    posterior: DiagNormal,
    projected: Tensor,
    from_future: Tensor,
    weight_q: Tensor,
    state: LSTMState,
) -> Rolled:
    """Draws z_t ~ q(z_t | h_{t-1}, b_t) step by step; the noise is one draw a step.

    Three products a step forward and three backward, on buffers that are allocated once; each
    gradient of a weight is one product for all steps. Once differentiable.

    Args:
        cell: The recurrence.
        posterior: Network with one hidden layer that reads ``[h_{t-1}, b_t]``.
        projected: The cell's projection of its inputs, ``(batch, updates, 4 h_dim)``.
        from_future: The first layer of the posterior of b_t, ``(batch, time, hidden_dim)``.
        weight_q: Weight of that layer on h_{t-1}, ``(hidden_dim, h_dim)``.
        state: h_0 and c_0, each ``(particles, batch, h_dim)``.

    Returns:
        h_0 and all h_t ``(updates + 1, particles, batch, h_dim)``, the last c
        ``(particles, batch, h_dim)``, and with ``time`` first z_t and the posterior's output.
    """
    h, c = state
    num_steps, z_dim = from_future.shape[1], posterior.x_dim
    noise = h.new_empty(num_steps, *h.shape[:-1], z_dim)
    for noise_t in noise:
        noise_t.normal_()
    out = posterior.mlp.layers[1]
    shape = (posterior.clamp, posterior.half, posterior.min_scale)
    return Recurrence.apply(
        projected.transpose(0, 1),
        from_future.transpose(0, 1),
        noise,
        h,
        c,
        torch.cat([cell.weight_h, weight_q]),
        cell.weight_z,
        out.weight,
        out.bias,
        shape,
    )


class Recurrence(torch.autograd.Function):
    """See :func:`fused`. Time comes first in all tensors, so that a step is a block of memory."""

    @staticmethod
    def forward(
        ctx,
        projected: Tensor,
        from_future: Tensor,
        noise: Tensor,
        h: Tensor,
        c: Tensor,
        weight_h: Tensor,
        weight_z: Tensor,
        weight_out: Tensor,
        bias_out: Tensor,
        shape: tuple[float, float, float],
    ) -> Rolled:
        clamp, half, min_scale = shape
        (num_steps, *lead, z_dim), num_updates = noise.shape, len(projected)
        h_dim, hidden_dim = h.shape[-1], from_future.shape[-1]
        rows, gates_dim = h[..., 0].numel(), 4 * h_dim

        def buffer(steps: int, dim: int) -> Tensor:
            return h.new_empty(steps, *lead, dim)

        hs, cs = buffer(num_updates + 1, h_dim), buffer(num_updates + 1, h_dim)
        gates, tanh_c = buffer(num_updates, gates_dim), buffer(num_updates, h_dim)
        hidden, output = buffer(num_steps, hidden_dim), buffer(num_steps, 2 * z_dim)
        z, exp_scale = buffer(num_steps, z_dim), buffer(num_steps, z_dim)
        hs[0], cs[0] = h, c
        times_h = prepared(weight_h, rows)
        times_z, times_out = prepared(weight_z, rows), prepared(weight_out, rows)
        for t in range(num_steps):
            from_h = times_h(hs[t])
            a = torch.add(from_h[..., gates_dim:], from_future[t], out=hidden[t])
            leaky_relu_(a, 1 / 3).clamp_(-3.0, 3.0)
            raw = torch.add(times_out(a), bias_out, out=output[t])
            loc, log_scale = raw[..., :z_dim], raw[..., z_dim:]
            if clamp:
                loc, log_scale = loc.clamp(-clamp, clamp), log_scale.clamp(-clamp, clamp)
            scale = torch.exp(log_scale * half if half != 1 else log_scale, out=exp_scale[t])
            scale = scale + min_scale if min_scale else scale
            torch.addcmul(loc, scale, noise[t], out=z[t])
            if t == num_updates:
                break
            g = torch.add(from_h[..., :gates_dim], projected[t], out=gates[t]).add_(times_z(z[t]))
            g[..., : 2 * h_dim].sigmoid_()
            g[..., 2 * h_dim : 3 * h_dim].tanh_()
            g[..., 3 * h_dim :].sigmoid_()
            i, f, new, o = g.chunk(4, dim=-1)
            torch.mul(f, cs[t], out=cs[t + 1]).addcmul_(i, new)
            torch.mul(o, torch.tanh(cs[t + 1], out=tanh_c[t]), out=hs[t + 1])
        ctx.save_for_backward(
            noise,
            weight_h,
            weight_z,
            weight_out,
            hs,
            cs,
            gates,
            tanh_c,
            hidden,
            output,
            z,
            exp_scale,
        )
        ctx.shape = shape
        return hs, cs[-1].clone(), z, output

    @staticmethod
    def backward(ctx, d_hs: Tensor, d_c: Tensor, d_z: Tensor, d_output: Tensor):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The fused recurrence is once differentiable; for a gradient of its gradient set "
                "the net's 'backend' to 'reference'"
            )
        noise, weight_h, weight_z, weight_out, *saved = ctx.saved_tensors
        hs, cs, gates, tanh_c, hidden, output, z, exp_scale = saved
        clamp, half, _ = ctx.shape
        (num_steps, *lead, z_dim), num_updates = noise.shape, len(gates)
        gates_dim, rows = gates.shape[-1], hs[0][..., 0].numel()
        d_rec = hs.new_empty(num_steps, *lead, len(weight_h))  # of gates and hidden layer
        d_out = hs.new_empty(num_steps, *lead, 2 * z_dim)
        from_rec, from_gates = prepared(weight_h.t(), rows), prepared(weight_z.t(), rows)
        from_out = prepared(weight_out.t(), rows)
        # Elementwise derivatives of all steps at once: loops are for what is recurrent.
        slope = torch.full_like(hidden, 1 / 3).masked_fill_(hidden > 0, 1.0).mul_(hidden.abs() < 3)
        d_scale = exp_scale * noise if half == 1 else exp_scale * noise * half
        if clamp:
            inside = output.abs() <= clamp
            d_scale = d_scale * inside[..., z_dim:]
        d_h = d_hs[num_updates].clone()
        d_c = d_c.clone()
        if num_updates < num_steps:
            d_rec[num_updates, ..., :gates_dim] = 0
        for t in range(num_steps - 1, -1, -1):
            d_rec_t, d_z_t = d_rec[t], d_z[t]
            d_gates = d_rec_t[..., :gates_dim]
            if t < num_updates:
                i, f, new, o = gates[t].chunk(4, dim=-1)
                d_i, d_f, d_new, d_o = d_gates.chunk(4, dim=-1)
                tanh = tanh_c[t]
                d_c.addcmul_(d_h * o, 1 - tanh * tanh)
                torch.mul(d_c * new, i * (1 - i), out=d_i)
                torch.mul(d_c * cs[t], f * (1 - f), out=d_f)
                torch.mul(d_c * i, 1 - new * new, out=d_new)
                torch.mul(d_h * tanh, o * (1 - o), out=d_o)
                d_c.mul_(f)
                d_z_t = from_gates(d_gates).add_(d_z_t)
            d_loc = d_z_t * inside[t, ..., :z_dim] if clamp else d_z_t
            torch.add(d_output[t, ..., :z_dim], d_loc, out=d_out[t, ..., :z_dim])
            torch.addcmul(d_output[t, ..., z_dim:], d_z_t, d_scale[t], out=d_out[t, ..., z_dim:])
            torch.mul(from_out(d_out[t]), slope[t], out=d_rec_t[..., gates_dim:])
            d_h = from_rec(d_rec_t).add_(d_hs[t])
        d_projected = d_rec[:num_updates, ..., :gates_dim]
        return (
            d_projected.sum(1),
            d_rec[..., gates_dim:].sum(1),
            None,
            d_h,
            d_c,
            stacked_product(d_rec, hs[:num_steps]),
            stacked_product(d_projected, z[:num_updates]),
            stacked_product(d_out, hidden),
            d_out.flatten(0, -2).sum(0),
            None,
        )
