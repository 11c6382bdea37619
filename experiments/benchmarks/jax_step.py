"""The training step in JAX: one compiled function of weights, optimiser and noise."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array

from . import jax_model
from .configurations import Problem
from .variants import LEARNING_RATE, Gradients, Unavailable, Variant

State = tuple[jax_model.Parameters, jax_model.Parameters, jax_model.Parameters, Array, Array]


class JaxStep(Variant):
    """Loss, gradient and Adam in one compiled function, which reuses the memory of its state.

    Args:
        problem: The net and its data.
        by_hand: Whether the recurrences' gradients are those written by hand.
    """

    def __init__(self, problem: Problem, by_hand: bool):
        c, net = problem.configuration, problem.net
        if c.num_particles > 1:
            raise Unavailable("it is written for one particle")
        self.noise_shape = c.num_steps, c.batch_size, c.z_dim
        self.dtype = net.cell.bias.dtype
        p = {name: jnp.array(v.detach().numpy()) for name, v in net.named_parameters()}
        self.x = jnp.array(problem.x.transpose(0, 1).numpy().astype(dtype_of(problem.x)))
        weights = net.weights.aux, net.weights.reverse
        loss = partial(jax_model.loss, emission=c.emission, weights=weights, by_hand=by_hand)
        self.value_and_grad = jax.jit(jax.value_and_grad(loss))
        zeros = [{name: jnp.zeros_like(v) for name, v in p.items()} for _ in range(2)]
        self.state: State = (p, *zeros, jnp.zeros(()), jax.random.PRNGKey(0))
        self.update = jax.jit(partial(update, loss, self.noise_shape), donate_argnums=0)
        self.compiled = None

    def step(self) -> None:
        if self.compiled is None:
            self.warm_up()
        self.state, loss = self.compiled(self.state, self.x)
        loss.block_until_ready()

    def loss_and_gradients(self, seed: int) -> tuple[float, Gradients]:
        torch.manual_seed(seed)
        steps, *shape = self.noise_shape
        noise = torch.stack([torch.randn(shape, dtype=self.dtype) for _ in range(steps)])
        loss, found = self.value_and_grad(self.state[0], self.x, jnp.array(noise.numpy()))
        return loss.item(), {k: torch.from_numpy(np.array(v)) for k, v in found.items()}

    def warm_up(self) -> None:
        self.compiled = self.update.lower(self.state, self.x).compile()


def update(loss, noise_shape: tuple[int, ...], state: State, x: Array) -> tuple[State, Array]:
    """One step of Adam at fresh noise."""
    p, m, v, count, key = state
    key, draw = jax.random.split(key)
    value, g = jax.value_and_grad(loss)(p, x, jax.random.normal(draw, noise_shape))
    count = count + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    correction, root = 1 - 0.9**count, jnp.sqrt(1 - 0.999**count)

    def moved(p: Array, m: Array, v: Array) -> Array:
        return p - LEARNING_RATE * (m / correction) / (jnp.sqrt(v) / root + 1e-8)

    return (jax.tree.map(moved, p, m, v), m, v, count, key), value


def dtype_of(x: torch.Tensor) -> type:
    """JAX has 32-bit integers by default."""
    return np.float32 if x.is_floating_point() else np.int32
