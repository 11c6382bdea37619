"""The recurrence of an LSTM with a latent in its input, and its gradient written by hand."""

import torch
from torch import Tensor
from torch.nn.functional import hardtanh_, leaky_relu_

from ..emissions import DiagNormal
from ..nn import LSTMCell, LSTMState
from ..products import Prepared, by_formula, stacked_product, transformed
from .graphs import Graphs

Rolled = tuple[Tensor, Tensor, Tensor, Tensor]

hardtanh_backward = torch.ops.aten.hardtanh_backward.default
leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input


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
        return "it knows no transforms of torch.func and no forward mode"
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
    graphs: Graphs | None = None,
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
        graphs: What captures it, for training steps of shapes that come again.

    Returns:
        h_0 and all h_t ``(updates + 1, particles, batch, h_dim)``, the last c
        ``(particles, batch, h_dim)``, and with ``time`` first z_t and the posterior's output.
    """
    h, c = state
    num_steps, z_dim = from_future.shape[1], posterior.x_dim
    noise = h.new_empty(num_steps, *h.shape[:-1], z_dim)
    # The stream of one draw a step. PyTorch draws 16 numbers at a time if there are as many.
    for part in (noise,) if noise[0].numel() % 16 == 0 and h.device.type == "cpu" else noise:
        part.normal_()
    out = posterior.mlp.layers[1]
    shape = (posterior.clamp, posterior.half, posterior.min_scale)
    tensors = (
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
    )
    if graphs is None or not torch.is_grad_enabled():
        return Recurrence.apply(*tensors, shape)
    return graphs(*tensors, options=(shape,))


class Recurrence(torch.autograd.Function):
    """:func:`fused` on tensors whose first dim is time. Buffers are matrices: rows of all draws."""

    @staticmethod
    def forward(
        ctx,
        projected: Tensor,
        from_future: Tensor,
        noise: Tensor,
        h: Tensor,
        c: Tensor,
        weight_h: Tensor,
        weight_q: Tensor,
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
            return h.new_empty(steps, rows, dim)

        hs, cs = buffer(num_updates + 1, h_dim), buffer(num_updates + 1, h_dim)
        gates, tanh_c = buffer(num_updates, gates_dim), buffer(num_updates, h_dim)
        hidden, z, exps = (buffer(num_steps, n) for n in (hidden_dim, z_dim, 2 * z_dim))
        # A copy, also where a single row needs no expansion: it is written to.
        output = bias_out.expand(num_steps, rows, -1).clone(memory_format=torch.contiguous_format)
        noise = noise.view(num_steps, rows, z_dim)
        hs[0], cs[0] = h.reshape(rows, h_dim), c.reshape(rows, h_dim)
        times_h = Prepared(torch.cat([weight_h, weight_q]), rows)
        times_z, times_out = Prepared(weight_z, rows), Prepared(weight_out, rows)
        minus_one = h.new_full((), -1)  # a Python number would be made a tensor at every step
        # Views are made once: a hundred of them cost less than one by one.
        steps_of = (
            v.unbind() for v in (from_future, hidden, output, exps, exps[..., z_dim:], noise, z)
        )
        updates_of = (v.unbind() for v in (projected, gates, tanh_c, cs, hs))
        gate_views = [v.unbind() for v in gates.view(-1, rows, 4, h_dim).unbind(2)]
        updates = zip(*updates_of, cs[1:].unbind(), hs[1:].unbind(), *gate_views)
        for future_t, a, raw, exp, scale, noise_t, z_t in zip(*steps_of):
            update = next(updates, None)
            from_h = times_h(hs[-1] if update is None else update[4])
            known = from_h[:, gates_dim:].view(*lead, hidden_dim)
            torch.add(known, future_t, out=a.view(*lead, hidden_dim))
            times_out.add_to(raw, hardtanh_(leaky_relu_(a, 1 / 3), -3.0, 3.0))
            raw = raw.clamp(-clamp, clamp) if clamp else raw
            # Of means too, and not read there: it is fast where memory is contiguous.
            torch.exp(raw * half if half != 1 else raw, out=exp)
            scale = scale + min_scale if min_scale else scale
            torch.addcmul(raw[:, :z_dim], scale, noise_t, out=z_t)
            if update is None:
                break
            projected_t, g, tanh, c, _, c_next, h_next, i, f, new, o = update
            from_h = from_h[:, :gates_dim].view(*lead, gates_dim)
            torch.add(from_h, projected_t, out=g.view(*lead, gates_dim))
            times_z.add_to(g, z_t)
            # tanh x = 2 sigmoid(2 x) - 1, in a third of the time of torch.tanh.
            new.add_(new)
            g.sigmoid_()
            torch.add(minus_one, new, alpha=2, out=new)
            torch.mul(f, c, out=c_next).addcmul_(i, new)
            torch.add(c_next, c_next, out=tanh).sigmoid_()
            torch.add(minus_one, tanh, alpha=2, out=tanh)
            torch.mul(o, tanh, out=h_next)
        ctx.save_for_backward(
            noise,
            weight_h,
            weight_q,
            weight_z,
            weight_out,
            hs,
            cs,
            gates,
            tanh_c,
            hidden,
            output,
            z,
            exps,
        )
        ctx.shape = shape, lead
        unflattened = (v.view(-1, *lead, v.shape[-1]) for v in (hs, z, output))
        hs_out, z_out, output_out = unflattened
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
        noise, weight_h, weight_q, weight_z, weight_out, *saved = ctx.saved_tensors
        hs, cs, gates, tanh_c, hidden, output, z, exps = saved
        (clamp, half, _), lead = ctx.shape
        (num_steps, rows, z_dim), num_updates = noise.shape, len(gates)
        h_dim = hs.shape[-1]
        d_hs, d_z, d_output = (v.reshape(-1, rows, v.shape[-1]) for v in (d_hs, d_z, d_output))
        d_gates = hs.new_empty(num_updates, rows, 4 * h_dim)
        d_hidden, d_out = torch.empty_like(hidden), torch.empty_like(output)
        h_from_gates, h_from_hidden = Prepared(weight_h.t(), rows), Prepared(weight_q.t(), rows)
        z_from_gates, from_out = Prepared(weight_z.t(), rows), Prepared(weight_out.t(), rows)
        d_h, d_c = d_hs[num_updates].clone(), d_c.reshape(rows, h_dim).clone()
        for end in range(num_steps, 0, -(size := block_size(gates))):
            block = slice(max(end - size, 0), end)
            # Elementwise derivatives of some steps at once: loops are for what is recurrent.
            d_raw = torch.stack([torch.ones_like(noise[block]), noise[block]], 2)
            d_raw[:, :, 1].mul_(exps[block, :, z_dim:]).mul_(half)
            if clamp:
                d_raw.mul_((output[block].abs() <= clamp).view_as(d_raw))
            i, f, new, o = gates[block].view(-1, rows, 4, h_dim).unbind(2)
            tanh = tanh_c[block]
            of_c = gates.new_empty(len(i), rows, 3, h_dim)
            torch.mul(i - i * i, new, out=of_c[:, :, 0])
            torch.mul(f - f * f, cs[block][: len(i)], out=of_c[:, :, 1])
            torch.addcmul(i, i * new, new, value=-1, out=of_c[:, :, 2])
            of_h = (o - o * o).mul_(tanh), torch.addcmul(o, o * tanh, tanh, value=-1)
            d_halves = d_out[block].view(-1, rows, 2, z_dim).unbind()
            d_given = d_output[block].view(-1, rows, 2, z_dim).unbind()
            gates_of = d_gates[block].view(-1, rows, 4, h_dim)
            views = (f, of_c, *of_h, d_gates[block], gates_of[:, :, :3], gates_of[:, :, 3])
            updates = list(zip(*(v.unbind() for v in views), d_hs[block]))
            for t in reversed(range(len(d_raw))):
                d_z_t = d_z[block.start + t]
                if t < len(updates):
                    f_t, c_slopes, o_slope, h_slope, d_g, d_ifn, d_o, d_h_given = updates[t]
                    d_c.addcmul_(d_h, h_slope)
                    torch.mul(d_c[:, None], c_slopes, out=d_ifn)
                    torch.mul(d_h, o_slope, out=d_o)
                    d_c.mul_(f_t)
                    d_z_t = z_from_gates(d_g).add_(d_z_t)
                torch.addcmul(d_given[t], d_z_t[:, None], d_raw[t], out=d_halves[t])
                d_a = d_hidden[block.start + t]
                d_clipped = from_out(d_out[block.start + t])
                a = hidden[block.start + t]
                d_clipped = hardtanh_backward(d_clipped, a, -3.0, 3.0)
                leaky_relu_backward(d_clipped, a, 1 / 3, True, grad_input=d_a)
                if t < len(updates):
                    d_h = h_from_hidden.add_to(h_from_gates(d_g).add_(d_h_given), d_a)
                else:
                    d_h = h_from_hidden(d_a).add_(d_hs[block.start + t])
        past = hs[:num_steps]
        return (
            over_particles(d_gates, lead),
            over_particles(d_hidden, lead),
            None,
            d_h.view(*lead, h_dim),
            d_c.view(*lead, h_dim),
            stacked_product(d_gates, hs[:num_updates]),
            stacked_product(d_hidden, past),
            stacked_product(d_gates, z[:num_updates]),
            stacked_product(d_out, hidden),
            d_out.flatten(0, -2).sum(0),
            None,
        )


def over_particles(gradient: Tensor, lead: list[int]) -> Tensor:
    """Of what all particles share: summed over them."""
    gradient = gradient.view(len(gradient), *lead, gradient.shape[-1])
    return gradient.squeeze(1) if lead[0] == 1 else gradient.sum(1)


def block_size(gates: Tensor) -> int:
    """Steps whose gates stay in a core's cache, some hundred kilobytes."""
    return max(1, 2**19 // (gates.shape[1:].numel() * gates.element_size()))
