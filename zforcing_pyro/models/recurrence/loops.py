"""The time loops of :mod:`.fused`, operation by operation. Rows are of all draws."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import hardtanh_, leaky_relu_

from ...layers.products import prepared

hardtanh_backward = torch.ops.aten.hardtanh_backward.default
leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input


def forward_loop(inputs, weights, buffers: list[Tensor], lead: list[int], shape) -> None:
    """Fills the buffers of :class:`Recurrence`; ``output`` comes as the bias."""
    (projected, from_future, noise), (weight_hq, weight_z, weight_out) = inputs, weights
    hs, cs, gates, tanh_c, hidden, output, z, exps = buffers
    clamp, half, min_scale = shape
    rows, h_dim, hidden_dim, z_dim = *hs.shape[1:], hidden.shape[-1], z.shape[-1]
    gates_dim = 4 * h_dim
    times_h = prepared(weight_hq, rows)
    times_z, times_out = prepared(weight_z, rows), prepared(weight_out, rows)
    minus_one = hs.new_full((), -1)  # a Python number would be made a tensor at every step
    # Views are made once: a hundred of them cost less than one by one.
    scales, views = exps[..., z_dim:], update_views(hs, cs, gates, tanh_c)
    steps_of = (v.unbind() for v in (from_future, hidden, output, exps, scales, noise, z))
    updates = zip(projected.unbind(), gates.unbind(), hs.unbind(), views)
    for future_t, a, raw, exp, scale, noise_t, z_t in zip(*steps_of):
        update = next(updates, None)
        from_h = times_h(hs[-1] if update is None else update[2])
        hidden_t = from_h[:, gates_dim:].view(*lead, hidden_dim)
        torch.add(hidden_t, future_t, out=a.view(*lead, hidden_dim))
        times_out(hardtanh_(leaky_relu_(a, 1 / 3), -3.0, 3.0), raw)
        raw = raw.clamp(-clamp, clamp) if clamp else raw
        # Of means too, and not read there: it is fast where memory is contiguous.
        torch.exp(raw * half if half != 1 else raw, out=exp)
        scale = scale + min_scale if min_scale else scale
        torch.addcmul(raw[:, :z_dim], scale, noise_t, out=z_t)
        if update is None:
            break
        projected_t, g, _, views = update
        from_h = from_h[:, :gates_dim].view(*lead, gates_dim)
        torch.add(from_h, projected_t, out=g.view(*lead, gates_dim))
        times_z(z_t, g)
        update_state(g, minus_one, *views)


def update_views(hs: Tensor, cs: Tensor, gates: Tensor, tanh_c: Tensor) -> Iterator:
    """Yields what :func:`update_state` reads and writes at each step."""
    gate_views = (v.unbind() for v in gates.view(*gates.shape[:2], 4, hs.shape[-1]).unbind(2))
    return zip(tanh_c.unbind(), cs.unbind(), cs[1:].unbind(), hs[1:].unbind(), *gate_views)


def update_state(g, minus_one, tanh, c, c_next, h_next, i, f, new, o) -> None:
    """Computes one LSTM update in place; i, f, new and o are parts of the gates g."""
    # tanh x = 2 sigmoid(2 x) - 1, on AMD's CPUs in a third of the time of torch.tanh.
    new.add_(new)
    g.sigmoid_()
    torch.add(minus_one, new, alpha=2, out=new)
    torch.mul(f, c, out=c_next).addcmul_(i, new)
    torch.add(c_next, c_next, out=tanh).sigmoid_()
    torch.add(minus_one, tanh, alpha=2, out=tanh)
    torch.mul(o, tanh, out=h_next)


def backward_loop(slopes, state, noise, weights, saved, results, clamp, half) -> None:
    """Fills the results; the gradients of the state go from the last one to the first."""
    (d_hs, d_z, d_output), (d_h, d_c), (d_gates, d_hidden, d_out) = slopes, state, results
    weight_h, weight_q, weight_z, weight_out = weights
    cs, gates, tanh_c, hidden, output, exps = saved
    num_steps, rows, z_dim = noise.shape
    h_from_gates, h_from_hidden = prepared(weight_h.t(), rows), prepared(weight_q.t(), rows)
    z_from_gates, from_out = prepared(weight_z.t(), rows), prepared(weight_out.t(), rows)
    first = d_h
    for end in range(num_steps, 0, -(size := block_size(gates))):
        block = slice(max(end - size, 0), end)
        # Elementwise derivatives of some steps at once: loops are for what is recurrent.
        d_raw = torch.stack([torch.ones_like(noise[block]), noise[block]], 2)
        d_raw[:, :, 1].mul_(exps[block, :, z_dim:]).mul_(half)
        if clamp:
            d_raw.mul_((output[block].abs() <= clamp).view_as(d_raw))
        slopes = derivatives(block, cs, gates, tanh_c, d_gates)
        updates = list(zip(slopes, d_gates[block], d_hs[block]))
        d_halves = d_out[block].view(-1, rows, 2, z_dim).unbind()
        d_read = d_output[block].view(-1, rows, 2, z_dim).unbind()
        for t in reversed(range(len(d_raw))):
            d_z_t = d_z[block.start + t]
            if t < len(updates):
                views, d_g, d_h_read = updates[t]
                update_gradient(d_h, d_c, *views)
                d_z_t = z_from_gates(d_g).add_(d_z_t)
            torch.addcmul(d_read[t], d_z_t[:, None], d_raw[t], out=d_halves[t])
            d_a = d_hidden[block.start + t]
            d_clipped = from_out(d_out[block.start + t])
            a = hidden[block.start + t]
            d_clipped = hardtanh_backward(d_clipped, a, -3.0, 3.0)
            leaky_relu_backward(d_clipped, a, 1 / 3, True, grad_input=d_a)
            if t < len(updates):
                d_h = h_from_hidden(d_a, h_from_gates(d_g).add_(d_h_read))
            else:
                d_h = h_from_hidden(d_a).add_(d_hs[block.start + t])
    first.copy_(d_h)


def derivatives(block: slice, cs, gates, tanh_c, d_gates) -> Iterator:
    """Yields what :func:`update_gradient` reads and writes at each step of a block.

    Elementwise derivatives of some steps at once: loops are for what is recurrent.
    """
    rows, h_dim = cs.shape[1:]
    i, f, new, o = gates[block].view(-1, rows, 4, h_dim).unbind(2)
    tanh = tanh_c[block]
    of_c = gates.new_empty(len(i), rows, 3, h_dim)
    torch.mul(i - i * i, new, out=of_c[:, :, 0])
    torch.mul(f - f * f, cs[block][: len(i)], out=of_c[:, :, 1])
    torch.addcmul(i, i * new, new, value=-1, out=of_c[:, :, 2])
    of_h = (o - o * o).mul_(tanh), torch.addcmul(o, o * tanh, tanh, value=-1)
    d_parts = d_gates[block].view(-1, rows, 4, h_dim)
    views = f, of_c, *of_h, d_parts[:, :, :3], d_parts[:, :, 3]
    return zip(*(v.unbind() for v in views))


def update_gradient(d_h, d_c, f, c_slopes, o_slope, h_slope, d_ifn, d_o) -> None:
    """Back-propagates one LSTM update: writes the gates' gradient, and d_c moves to c_{t-1}."""
    d_c.addcmul_(d_h, h_slope)
    torch.mul(d_c[:, None], c_slopes, out=d_ifn)
    torch.mul(d_h, o_slope, out=d_o)
    d_c.mul_(f)


def block_size(gates: Tensor) -> int:
    """Returns the number of steps whose gates stay in a core's cache, some hundred kilobytes."""
    return max(1, 2**19 // (gates.shape[1:].numel() * gates.element_size()))
