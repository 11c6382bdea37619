"""The ways to take a training step. All have the same weights, data and loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from unittest import mock

import pyro
import torch
from lightning.fabric import Fabric
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

from zforcing_pyro.estimators import TraceELBO
from zforcing_pyro.layers import products
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.adversary import adversary_for
from zforcing_pyro.training.player import Player

from .configurations import Problem
from .floor import Floor
from .naive import naive_loss

LEARNING_RATE = 1e-4
Gradients = dict[str, Tensor]


class Variant(ABC):
    """One way to train a copy of a problem's net.

    Args:
        problem: The net and its data.

    Raises:
        Unavailable: If it cannot be had here, or not for this configuration.
    """

    sampled_kl = False
    """True if the loss has log q - log p in place of the closed form of the KL."""
    keeps_memory = False
    """True if the process keeps memory that it frees, as training with this package lets it."""

    @abstractmethod
    def __init__(self, problem: Problem): ...

    @abstractmethod
    def step(self) -> None:
        """Forward, backward, optimiser."""

    @abstractmethod
    def loss_and_gradients(self, seed: int) -> tuple[float, Gradients]:
        """Returns both, in nats per sequence, at the noise that ``seed`` gives to PyTorch."""

    @abstractmethod
    def warm_up(self) -> None:
        """Does what happens once in a run: loads or compiles code, makes the optimiser's state."""


class Unavailable(Exception):
    """A variant that cannot be measured; says why."""


class TorchVariant(Variant):
    """A loss of PyTorch with Adam."""

    fused_adam = False

    def __init__(self, problem: Problem):
        self.particles = problem.configuration.num_particles
        self.net, self.x, self.lengths = deepcopy(problem.net), problem.x, problem.lengths
        parameters = self.net.parameters()
        self.optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=self.fused_adam)

    @abstractmethod
    def loss(self) -> Tensor:
        """Returns the loss in nats per sequence."""

    def step(self) -> None:
        self.optimiser.zero_grad()
        self.loss().backward()
        self.optimiser.step()

    def loss_and_gradients(self, seed: int) -> tuple[float, Gradients]:
        torch.manual_seed(seed)
        self.optimiser.zero_grad()
        loss = self.loss()
        loss.backward()
        return loss.item(), gradients(self.net)

    def warm_up(self) -> None:
        """A step on the first two frames: a whole one would keep memory for the next."""
        x, lengths = self.x, self.lengths
        self.x, self.lengths = x[:, :2], lengths.clamp(max=2)
        self.step()
        self.x, self.lengths = x, lengths


class Naive(TorchVariant):
    """The loop as its equations read, with PyTorch's default Adam."""

    def loss(self) -> Tensor:
        return naive_loss(self.net, self.x, self.particles)


class NaiveSampledKL(Naive):
    """The naive loop with a sampled KL, which ``Trace_ELBO`` is compared with."""

    def loss(self) -> Tensor:
        return naive_loss(self.net, self.x, self.particles, analytic_kl=False)


class Fast(TorchVariant):
    """The package's own step: a net's terms, an estimator's objective, fused Adam."""

    fused_adam = keeps_memory = True

    def loss(self) -> Tensor:
        given = self.net.given(self.x, self.lengths)
        return -TraceELBO(self.particles).objective(given).value.mean()


class WithProfessor(Fast):
    """An update of the package with a critic of trajectories, and of that critic.

    Loss and gradients, which variants must agree on, are those without the critic.
    """

    kind = "professor"

    def __init__(self, problem: Problem):
        super().__init__(problem)
        options = TrainingOptions(adversary=self.kind, adv_warmup=0, gate_low=0.0, lr=LEARNING_RATE)
        self.player = Player(self.net, TraceELBO(self.particles), options)
        self.adversary = adversary_for(self.net, options, 0)
        self.fabric = Fabric(accelerator="cpu", devices=1)
        self.critic = self.fabric.setup(self.adversary)

    def step(self) -> None:
        scale = 1 / len(self.x)
        self.player.optimiser.zero_grad()
        given = self.net.given(self.x, self.lengths)
        loss, *_, compared = self.player(given, scale, self.adversary)
        loss.backward()
        self.player.step()
        self.adversary.learn(self.fabric, self.critic, [(compared, scale)])


class WithLatentCritic(WithProfessor):
    """The same with a critic of latents."""

    kind = "latent"


class Programs(Variant):
    """The net's two programs in Pyro's own training step."""

    elbo, fused = TraceMeanField_ELBO, False

    def __init__(self, problem: Problem):
        particles = problem.configuration.num_particles
        self.net, self.x, self.lengths = deepcopy(problem.net), problem.x, problem.lengths
        elbo = self.elbo(particles, max_plate_nesting=1, vectorize_particles=particles > 1)
        settings = {"lr": LEARNING_RATE} | ({"fused": True} if self.fused else {})
        optimiser = pyro.optim.Adam(settings)
        self.svi = SVI(self.net.model, self.net.guide, optimiser, loss=elbo)

    def step(self) -> None:
        self.svi.step(self.x, self.lengths)

    def loss_and_gradients(self, seed: int) -> tuple[float, Gradients]:
        torch.manual_seed(seed)
        self.net.zero_grad()
        loss = self.svi.loss_and_grads(self.net.model, self.net.guide, self.x, self.lengths)
        batch_size = len(self.x)
        found = {name: value / batch_size for name, value in gradients(self.net).items()}
        return loss / batch_size, found

    def warm_up(self) -> None:
        self.svi.step(self.x[:, :2], self.lengths.clamp(max=2))


class FastSVI(Programs):
    """Pyro's own training step with the package's estimator, which takes the net's fast path."""

    elbo, fused = TraceELBO, True


class PyroMeanField(Programs):
    """The same with PyTorch's own products."""

    def step(self) -> None:
        with torch_products():
            super().step()

    def loss_and_gradients(self, seed: int) -> tuple[float, Gradients]:
        with torch_products():
            return super().loss_and_gradients(seed)

    def warm_up(self) -> None:
        with torch_products():
            super().warm_up()


class PyroTrace(PyroMeanField):
    """The same with the KL at the draw."""

    elbo, sampled_kl = Trace_ELBO, True


@contextmanager
def torch_products() -> Iterator[None]:
    """Linear layers multiply as PyTorch's do, and not by the package's choice of a backend."""
    with mock.patch.object(products, "has_onednn", lambda: False):
        yield


def gradients(net: torch.nn.Module) -> Gradients:
    """By the names of the net's parameters; zeros where nothing came."""
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in net.named_parameters()
    }


def jax_scan(problem: Problem) -> Variant:
    """``jax.lax.scan`` over what is recurrent, compiled, differentiated by JAX."""
    return jax_variant(problem, by_hand=False)


def jax_vjp(problem: Problem) -> Variant:
    """The same with the gradient of both recurrences written by hand."""
    return jax_variant(problem, by_hand=True)


def jax_variant(problem: Problem, by_hand: bool) -> Variant:
    try:
        from .jax_step import JaxStep
    except ImportError as error:
        raise Unavailable("JAX is not installed") from error
    return JaxStep(problem, by_hand)


VARIANTS: dict[str, Callable[[Problem], Variant | Floor]] = {
    "naive": Naive,
    "pyro_trace": PyroTrace,
    "pyro_meanfield": PyroMeanField,
    "programs": Programs,
    "fast": Fast,
    "professor": WithProfessor,
    "latent": WithLatentCritic,
    "svi": FastSVI,
    "jax_scan": jax_scan,
    "jax_vjp": jax_vjp,
    "floor": Floor,
}
