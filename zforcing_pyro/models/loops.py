"""The time loops of :class:`~.fused.Recurrence`, operation by operation. Rows are of all draws."""

import torch
from torch import Tensor
from torch.nn.functional import hardtanh_, leaky_relu_

from ..products import Prepared

hardtanh_backward = torch.ops.aten.hardtanh_backward.default
leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input


def forward_loop(
    projected: Tensor,
    from_future: Tensor,
    noise: Tensor,
    weight_hq: Tensor,
    weight_z: Tensor,
    weight_out: Tensor,
    buffers: list[Tensor],
    lead: list[int],
    clamp: float,
    half: float,
    min_scale: float,
) -> None:
    """Fills the buffers of :class:`Recurrence`; ``output`` comes as the bias."""
    hs, cs, gates, tanh_c, hidden, output, z, exps = buffers
    rows, h_dim, hidden_dim, z_dim = *hs.shape[1:], hidden.shape[-1], z.shape[-1]
    gates_dim = 4 * h_dim
    times_h = Prepared(weight_hq, rows)
    times_z, times_out = Prepared(weight_z, rows), Prepared(weight_out, rows)
    minus_one = hs.new_full((), -1)  # a Python number would be made a tensor at every step
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


def backward_loop(
    d_hs: Tensor,
    d_z: Tensor,
    d_output: Tensor,
    d_h: Tensor,
    d_c: Tensor,
    noise: Tensor,
    weight_h: Tensor,
    weight_q: Tensor,
    weight_z: Tensor,
    weight_out: Tensor,
    saved: list[Tensor],
    d_gates: Tensor,
    d_hidden: Tensor,
    d_out: Tensor,
    clamp: float,
    half: float,
) -> None:
    """Fills the last three buffers; ``d_h`` and ``d_c`` go from the last state to the first."""
    cs, gates, tanh_c, hidden, output, exps = saved
    (num_steps, rows, z_dim), h_dim = noise.shape, cs.shape[-1]
    h_from_gates, h_from_hidden = Prepared(weight_h.t(), rows), Prepared(weight_q.t(), rows)
    z_from_gates, from_out = Prepared(weight_z.t(), rows), Prepared(weight_out.t(), rows)
    first = d_h
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
    first.copy_(d_h)


def block_size(gates: Tensor) -> int:
    """Steps whose gates stay in a core's cache, some hundred kilobytes."""
    return max(1, 2**19 // (gates.shape[1:].numel() * gates.element_size()))
