"""Z-Forcing's loss in JAX: the loops hold what is recurrent, every other product is one for all
steps. Time comes first, as ``jax.lax.scan`` has it. Parameters go by the names of the net's."""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

Parameters = dict[str, Array]


def loss(
    p: Parameters,
    x: Array,
    noise: Array,
    emission: str,
    weights: tuple[float, float],
    by_hand: bool,
) -> Array:
    """Minus the ELBO and the costs, in nats per sequence.

    Args:
        p: The net's parameters.
        x: ``(time, batch, x_dim)``, or ``(time, batch)`` for symbols.
        noise: ``(time, batch, z_dim)``.
        emission: Key of ``EMISSIONS``.
        weights: Of auxiliary and reverse cost.
        by_hand: Whether the recurrences' gradients are those written by hand.
    """
    aux_weight, reverse_weight = weights
    embedded, start = embed(p, x)
    lstm = "backward_rnn.lstm."
    bias = p[lstm + "bias_ih_l0"] + p[lstm + "bias_hh_l0"]
    projected = embedded @ p[lstm + "weight_ih_l0"].T + bias
    b = (lstm_by_hand if by_hand else backward_lstm)(projected, p[lstm + "weight_hh_l0"])

    inputs = jnp.concatenate([jnp.broadcast_to(start, embedded[:1].shape), embedded[:-1]])
    h_dim = b.shape[-1]
    first = p["posterior.mlp.layers.0.weight"]
    hs, z, q = (recurrence_by_hand if by_hand else recurrence)(
        inputs @ p["cell.weight_x"].T + p["cell.bias"],
        b @ first[:, h_dim:].T + p["posterior.mlp.layers.0.bias"],
        noise,
        jnp.concatenate([p["cell.weight_h"], first[:, :h_dim]]),
        p["cell.weight_z"],
        p["posterior.mlp.layers.1.weight"],
        p["posterior.mlp.layers.1.bias"],
    )
    h_past = jnp.concatenate([jnp.zeros_like(hs[:1]), hs[:-1]])
    mu_q, log_sigma_q = clamped(q)
    mu_p, log_sigma_p = clamped(network(p, "prior", h_past))
    variance_ratio = jnp.exp(2 * (log_sigma_q - log_sigma_p))
    shift = ((mu_q - mu_p) * jnp.exp(-log_sigma_p)) ** 2
    kl = (log_sigma_p - log_sigma_q + 0.5 * (variance_ratio + shift - 1)).sum()
    mu_a, log_sigma_a = clamped(network(p, "costs.auxiliary", z))
    auxiliary = log_normal(lax.stop_gradient(b), jnp.tanh(mu_a), log_sigma_a)
    reverse = log_emission(affine(p, "costs.reverse.mlp.layers.0", b[1:]), x[:-1], emission)
    costs = aux_weight * auxiliary + reverse_weight * reverse
    return (kl - log_emission(network(p, "emission", hs), x, emission) - costs) / x.shape[1]


def affine(p: Parameters, name: str, x: Array) -> Array:
    return x @ p[name + ".weight"].T + p[name + ".bias"]


def activation(x: Array) -> Array:
    return jnp.clip(jnp.where(x > 0, x, x / 3), -3.0, 3.0)


def network(p: Parameters, name: str, x: Array) -> Array:
    return affine(p, f"{name}.mlp.layers.1", activation(affine(p, f"{name}.mlp.layers.0", x)))


def clamped(output: Array) -> list[Array]:
    return jnp.split(jnp.clip(output, -8.0, 8.0), 2, -1)


def embed(p: Parameters, x: Array) -> tuple[Array, Array]:
    """e(x_t) of all steps, and what stands before the first."""
    if "embed.table.weight" in p:
        return p["embed.table.weight"][x], p["embed.table.weight"][-1]
    if "embed.linear.weight" in p:
        return affine(p, "embed.linear", x), p["embed.linear.bias"]
    return x, jnp.zeros(x.shape[-1], x.dtype)


def log_normal(x: Array, mu: Array, log_sigma: Array) -> Array:
    """Summed over everything."""
    u = (x - mu) * jnp.exp(-log_sigma)
    return -(0.5 * u**2 + log_sigma + 0.5 * math.log(2 * math.pi)).sum()


def log_emission(output: Array, x: Array, emission: str) -> Array:
    """Summed over everything."""
    if emission == "categorical":
        log_p = jax.nn.log_softmax(output, -1)
        return jnp.take_along_axis(log_p, x[..., None], -1).sum()
    if emission == "bernoulli":
        return (x * output - jax.nn.softplus(output)).sum()
    return log_normal(x, *jnp.split(output, 2, -1))


def gates_of(pre_activation: Array) -> tuple[Array, Array, Array, Array]:
    i, f, new, o = jnp.split(pre_activation, 4, -1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(new), jax.nn.sigmoid(o)


def backward_lstm(projected: Array, weight_h: Array) -> Array:
    """b_t of all steps, from its input's projection ``(time, batch, 4 h_dim)``."""
    return lstm_forward(projected, weight_h)[0]


def lstm_forward(projected: Array, weight_h: Array) -> tuple[Array, ...]:
    zero = jnp.zeros((projected.shape[1], weight_h.shape[1]), projected.dtype)
    transposed = weight_h.T

    def step(state: tuple, projected_t: Array) -> tuple:
        h, c = state
        i, f, new, o = gates_of(projected_t + h @ transposed)
        c = f * c + i * new
        tanh_c = jnp.tanh(c)
        h = o * tanh_c
        return (h, c), (h, c, tanh_c, jnp.concatenate([i, f, new, o], -1))

    _, (hs, cs, tanh_c, gates) = lax.scan(step, (zero, zero), projected, reverse=True)
    return hs, (weight_h, hs, cs, tanh_c, gates)


def d_gates_of(
    d_h: Array, d_c: Array, gates: Array, tanh_c: Array, c_past: Array
) -> tuple[Array, Array]:
    """Gradients of the gates' pre-activations and of c_{t-1}."""
    i, f, new, o = jnp.split(gates, 4, -1)
    d_c = d_c + d_h * o * (1 - tanh_c * tanh_c)
    d_i, d_f = d_c * new * i * (1 - i), d_c * c_past * f * (1 - f)
    d_new, d_o = d_c * i * (1 - new * new), d_h * tanh_c * o * (1 - o)
    return jnp.concatenate([d_i, d_f, d_new, d_o], -1), d_c * f


def stacked_product(a: Array, b: Array) -> Array:
    """The gradient of a weight over all steps."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


def lstm_backward(saved: tuple, d_hs: Array) -> tuple[Array, Array]:
    weight_h, hs, cs, tanh_c, gates = saved
    zero = jnp.zeros_like(hs[0])
    c_past, h_past = (jnp.concatenate([v[1:], zero[None]]) for v in (cs, hs))

    def step(state: tuple, saved_t: tuple) -> tuple:
        d_h, d_c = state
        d_h_t, *of_step = saved_t
        d_gates, d_c = d_gates_of(d_h + d_h_t, d_c, *of_step)
        return (d_gates @ weight_h, d_c), d_gates

    _, d_gates = lax.scan(step, (zero, zero), (d_hs, gates, tanh_c, c_past))
    return d_gates, stacked_product(d_gates, h_past)


lstm_by_hand = jax.custom_vjp(backward_lstm)
lstm_by_hand.defvjp(lstm_forward, lstm_backward)


def recurrence(
    projected: Array,
    from_b: Array,
    noise: Array,
    weight_h: Array,
    weight_z: Array,
    weight_out: Array,
    bias_out: Array,
) -> tuple[Array, Array, Array]:
    """h_t, z_t and the posterior's output of all steps, with time first.

    Args:
        projected: The cell's projection of its input, with the bias.
        from_b: What the posterior's first layer makes of b_t, with the bias.
        noise: ``(time, batch, z_dim)``.
        weight_h: What multiplies h_{t-1}: of the cell, and of the posterior's first layer.
        weight_z: What multiplies z_t.
        weight_out, bias_out: The posterior's second layer.
    """
    args = projected, from_b, noise, weight_h, weight_z, weight_out, bias_out
    return recurrence_forward(*args)[0]


def recurrence_forward(projected, from_b, noise, weight_h, weight_z, weight_out, bias_out):
    gates_dim = projected.shape[-1]
    zero = jnp.zeros((projected.shape[1], gates_dim // 4), projected.dtype)
    times_h, times_z, times_out = weight_h.T, weight_z.T, weight_out.T

    def step(state: tuple, known: tuple) -> tuple:
        h, c = state
        projected_t, from_b_t, noise_t = known
        from_h = h @ times_h
        hidden = activation(from_h[:, gates_dim:] + from_b_t)
        output = hidden @ times_out + bias_out
        mu, log_sigma = clamped(output)
        sigma = jnp.exp(log_sigma)
        z = mu + sigma * noise_t
        i, f, new, o = gates_of(from_h[:, :gates_dim] + projected_t + z @ times_z)
        c = f * c + i * new
        tanh_c = jnp.tanh(c)
        h, gates = o * tanh_c, jnp.concatenate([i, f, new, o], -1)
        return (h, c), (h, z, output, c, tanh_c, hidden, sigma, gates)

    known = projected, from_b, noise
    _, (hs, z, output, *others) = lax.scan(step, (zero, zero), known)
    return (hs, z, output), (noise, weight_h, weight_z, weight_out, hs, z, output, *others)


def recurrence_backward(saved, given):
    noise, weight_h, weight_z, weight_out, hs, z, output, cs, tanh_c, hidden, sigma, gates = saved
    d_hs, d_zs, d_outputs = given
    gates_dim, zero = gates.shape[-1], jnp.zeros_like(hs[0])
    c_past, h_past = (jnp.concatenate([zero[None], v[:-1]]) for v in (cs, hs))
    slope = jnp.where(hidden > 0, 1.0, 1 / 3) * (jnp.abs(hidden) < 3)
    d_of_z = jnp.concatenate([jnp.ones_like(noise), noise * sigma], -1) * (jnp.abs(output) < 8)

    def step(state: tuple, saved_t: tuple) -> tuple:
        d_h, d_c = state
        d_h_t, d_z_t, d_output_t, slope_t, d_of_z_t, *of_step = saved_t
        d_gates, d_c = d_gates_of(d_h + d_h_t, d_c, *of_step)
        d_z = d_gates @ weight_z + d_z_t
        d_output = d_output_t + jnp.concatenate([d_z, d_z], -1) * d_of_z_t
        d_rows = jnp.concatenate([d_gates, d_output @ weight_out * slope_t], -1)
        return (d_rows @ weight_h, d_c), (d_rows, d_output)

    known = d_hs, d_zs, d_outputs, slope, d_of_z, gates, tanh_c, c_past
    _, (d_rows, d_output) = lax.scan(step, (zero, zero), known, reverse=True)
    d_gates, d_hidden = d_rows[..., :gates_dim], d_rows[..., gates_dim:]
    return (
        d_gates,
        d_hidden,
        jnp.zeros_like(noise),
        stacked_product(d_rows, h_past),
        stacked_product(d_gates, z),
        stacked_product(d_output, hidden),
        d_output.sum((0, 1)),
    )


recurrence_by_hand = jax.custom_vjp(recurrence)
recurrence_by_hand.defvjp(recurrence_forward, recurrence_backward)
