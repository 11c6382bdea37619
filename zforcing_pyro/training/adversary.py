"""A critic as a second player: what it compares, its opinion in the net's loss, and its updates."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils import clip_grad_norm_

from ..estimators.base import gradient_only
from ..estimators.terms import Terms
from ..layers.blocks import concat, full_precision, length_mask
from ..layers.critics import StepCritic, TrajectoryCritic
from ..models import StochasticRNN
from ..models.given import GivenSequences
from .options import TrainingOptions
from .schedules import Schedule

GUIDE = "posterior", "backward_rnn", "left_rnn", "combiner", "recognition_rnn", "filter", "costs"
"""Parts of a net that its model does not read."""
PRIOR = "prior", "transition"
CLIP, DECAY = 5.0, 0.9
"""Largest norm of the critic's gradient, and decay of the moving average of its accuracy."""


class Compared(NamedTuple):
    """Behaviours that a critic compares, without gradients."""

    real: Tensor  # ([particles,] batch, time, dim)
    fake: Tensor  # like real
    mask: Tensor  # True at real steps, (batch, time)
    opinion: Tensor  # C_f or C_g of all sequences together, a scalar


class Adversary(nn.Module, ABC):
    r"""A critic D that tells real from fake, its optimiser, and its gate.

    .. math:: C_d = \mathbb{E}[\mathrm{softplus}(-D(\text{real}))]
        + \mathbb{E}[\mathrm{softplus}(D(\text{fake}))]

    At equilibrium it is 2 log 2. Costs are means over the steps of each sequence, then over
    sequences. The critic is no part of the net, and nothing of it is in a bound.
    """

    def __init__(self, critic: nn.Module, options: TrainingOptions, rate: float):
        super().__init__()
        self.critic, self.options = critic, options
        rate = options.critic_lr or rate * options.lr
        self.optimiser = torch.optim.Adam(critic.parameters(), rate, betas=(0.5, 0.999))
        self.accuracy, self.sums = 0.5, torch.zeros(4, dtype=torch.float64)
        self.begin(0)

    @property
    def rests_in_warmup(self) -> bool:
        """True if nothing is compared in the first updates."""
        return False

    def begin(self, update: int) -> None:
        """Sets the weight of the opinion, and who learns, by the schedule and the gate."""
        low, high = self.options.gates
        since = update - self.options.adv_warmup
        self.rise = Schedule(0.0, 1.0, self.options.adv_updates)(max(since, 0))
        self.counts = since >= 0 and self.accuracy >= low and self.rise > 0
        self.learns = self.accuracy <= high
        self.plays = since >= 0 or not self.rests_in_warmup

    @abstractmethod
    def compare(self, given: GivenSequences, terms: Terms) -> tuple[Tensor | None, Compared]:
        """Returns the cost of the net's part, summed over sequences, and what the critic compares.

        The cost trains the net, and no parameter of the critic; None is no cost.
        """

    def forward(self, real: Tensor, fake: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns C_d summed over sequences, and the sums of C_d and of the accuracy: ``(2,)``."""
        d_real, d_fake = self.verdict(real, mask), self.verdict(fake, mask)
        cost = self.average(softplus(-d_real) + softplus(d_fake), mask).sum()
        with torch.no_grad():
            right = (d_real.sign() - d_fake.sign()) / 4 + 0.5  # half a point for a logit of 0
            return cost, torch.stack([cost.detach(), self.average(right, mask).sum()])

    def verdict(self, behaviour: Tensor, mask: Tensor) -> Tensor:
        """Returns logits of being real, ``(..., batch)`` or ``(..., batch, time)``."""
        return full_precision(self.critic(behaviour, mask))

    @staticmethod
    def average(values: Tensor, mask: Tensor, total: bool = False) -> Tensor:
        """Returns means over steps, if any, or totals, and over particles: ``(batch,)``."""
        if values.shape[-2:] == mask.shape:
            values = torch.where(mask, values, 0.0).sum(-1) / (1 if total else mask.sum(-1))
        return values.flatten(0, -2).mean(0) if values.dim() > 1 else values

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keeps the critic's parameters without gradients for a while."""
        self.critic.requires_grad_(False)
        try:
            yield
        finally:
            self.critic.requires_grad_(True)

    def learn(self, fabric: Fabric, critic: Any, parts: list[tuple[Any, float]]) -> None:
        """Takes the critic's steps of an update, unless its gate is closed.

        Every process calls it. ``critic`` is this module as Fabric has set it up. ``parts``
        are what is compared in each part of the update, each with the factor that makes sums over
        sequences means over the batch: 0 where a process has no sequence.
        """
        total = torch.zeros(3, device=fabric.device)
        for step in range(self.options.critic_steps if self.learns else 1):
            self.optimiser.zero_grad()
            for turn, (compared, scale) in enumerate(parts):
                with (
                    torch.set_grad_enabled(self.learns),
                    fabric.no_backward_sync(critic, enabled=turn + 1 < len(parts)),
                ):
                    cost, sums = critic(*compared[:3])
                    if self.learns:
                        fabric.backward(cost * scale)
                if not step:
                    total = total + scale * torch.cat([sums, compared.opinion[None]])
            if self.learns:
                norm = clip_grad_norm_(self.critic.parameters(), CLIP)
                if norm.isfinite():
                    self.optimiser.step()
        means = fabric.all_reduce(total).cpu().double()  # type: ignore[union-attr]
        if means.isfinite().all():
            self.accuracy = DECAY * self.accuracy + (1 - DECAY) * means[1].item()
            self.sums = self.sums + torch.cat([means, torch.ones(1)])

    def row(self) -> dict[str, float]:
        """Returns means since the last row: the accuracy, and costs minus those at equilibrium."""
        cost, accuracy, opinion, num = self.sums.tolist()
        self.sums = torch.zeros_like(self.sums)
        if not num:
            return {}
        return {
            "critic_accuracy": accuracy / num,
            "critic_cost": cost / num - 2 * math.log(2),
            "adversary": opinion / num - math.log(2),
        }

    def state(self) -> dict[str, Any]:
        """Returns what :meth:`restore` takes."""
        state = {"critic": self.critic.state_dict(), "optimiser": self.optimiser.state_dict()}
        return state | {"accuracy": self.accuracy, "sums": self.sums}

    def restore(self, state: dict[str, Any]) -> None:
        """Loads a :meth:`state`. One of another critic is a KeyError, TypeError or RuntimeError."""
        self.critic.load_state_dict(state["critic"])
        if state["sums"].shape != self.sums.shape:
            raise TypeError("sums of other curves")
        group = self.optimiser.state_dict()["param_groups"]
        moments = {"state": state["optimiser"]["state"], "param_groups": group}
        self.optimiser.load_state_dict(moments)
        self.accuracy, self.sums = 0.0 + state["accuracy"], state["sums"]


class ProfessorForcing(Adversary):
    r"""Free-running trajectories made like teacher-forced ones (Lamb et al., 2016).

    A behaviour B(x) is, at each step, what the emission reads and the parameters that it gives. The
    model draws :math:`\tilde x`, and reads it once more as data, with a gradient; see
    https://arxiv.org/abs/1610.09038. The net pays

    .. math:: w_f\, \mathbb{E}[\mathrm{softplus}(-D(B(\tilde x)))]
        + w_t\, \mathbb{E}[\mathrm{softplus}(D(B(x)))]
    """

    def __init__(self, net: StochasticRNN, options: TrainingOptions):
        with torch.no_grad():
            terms = net.terms(net.emission.template(1, 1, next(net.parameters())))
        in_dim, dim = self.behaviour(net, terms).shape[-1], options.critic_dim
        super().__init__(TrajectoryCritic(in_dim, dim, options.critic_pool == "step"), options, 0.1)

    @property
    def rests_in_warmup(self) -> bool:
        return True

    @staticmethod
    def behaviour(net: StochasticRNN, terms: Terms) -> Tensor:
        """Returns B(x) of one particle, ``(batch, time, dim)``."""
        assert terms.states is not None
        output = net.emission.raw(terms.states)
        return (terms.states if output is None else concat(terms.states, output))[0]

    def compare(self, given: GivenSequences, terms: Terms) -> tuple[Tensor | None, Compared]:
        real, mask = self.behaviour(given.net, terms), length_mask(given.lengths, given.x.shape[1])
        dreamt, z = given.dream()
        weight, teacher = self.options.weight * self.rise, self.options.teacher_weight * self.rise
        with torch.set_grad_enabled(self.counts and weight > 0):
            fake = self.behaviour(given.net, dreamt.terms(latents=z))
        with self.frozen():
            opinion = self.average(softplus(-self.verdict(fake, mask)), mask).sum()
            cost = weight * opinion if self.counts and weight else None
            if self.counts and teacher:
                of_teacher = self.average(softplus(self.verdict(real, mask)), mask).sum()
                cost = teacher * of_teacher + (0 if cost is None else cost)
        return cost, Compared(real.detach(), fake.detach(), mask, opinion.detach())


class LatentCritic(Adversary):
    r"""Draws of the posterior made like those of the prior (after Huang & Xiao, 2021).

    Real is :math:`z \sim p(z_t \mid \cdot)`, fake :math:`z \sim q(z_t \mid \cdot)`, both at the
    same past, along the guide's own path; see https://arxiv.org/abs/2108.04496. The posterior pays
    :math:`w \sum_t \mathrm{softplus}(-D(z_t, h_t))`, or, as an estimate of the KL,
    :math:`\sum_t -D(z_t, h_t)`. Only the parameters that the option ``adv_trains`` names get its
    gradient. Where it replaces the KL, the model's part of that, log p(z_t), trains the model.
    """

    def __init__(self, net: StochasticRNN, options: TrainingOptions):
        x = net.emission.template(1, 1, next(net.parameters()))
        with torch.no_grad():
            path = net.given(x).path(net.terms(x).latents)
        assert path.past is not None
        in_dim = path.z.shape[-1]
        if options.critic_reads == "z_h":
            in_dim += path.past.shape[-1]
        super().__init__(StepCritic(in_dim, options.critic_dim), options, 0.5)

    def compare(self, given: GivenSequences, terms: Terms) -> tuple[Tensor | None, Compared]:
        options, mask = self.options, length_mask(given.lengths, given.x.shape[1])
        is_ratio, z = options.adv_mode == "ratio", terms.latents
        # At fixed latents, z_t is a function of the guide that no later step reads.
        path = given.path(z if is_ratio else z.detach())
        p, q, past = path.prior, path.posterior, path.past
        assert past is not None
        p = p.expand(z.shape[:-1])
        noise = ((z - q.mean) / q.stddev).detach()
        drawn, z_p = z if is_ratio else q.mean + q.stddev * noise, p.rsample()
        fake = self.read(drawn, past if is_ratio else past.detach())
        with self.frozen():
            d = self.verdict(fake, mask)
            opinion = softplus(-d)
            value = self.average(-d if is_ratio else opinion, mask, total=True).sum()
            if options.adv_trains == "both" and not is_ratio:
                d_p = self.verdict(self.read(z_p, past.detach()), mask)
                value = value + self.average(softplus(d_p), mask, total=True).sum()
        weight, cost = (1.0 if is_ratio else options.weight) * self.rise, None
        if self.counts and weight:
            trained = GUIDE + PRIOR * (options.adv_trains == "both")
            cost = restricted(weight * value, given.net, trained)
        if options.replaces_kl and options.adv_trains == "posterior":
            log_prior = self.average(p.log_prob(z.detach()), mask, total=True).sum()
            if log_prior.requires_grad:  # not that of N(0, I)
                fitted = restricted(-log_prior, given.net, GUIDE, others=True)
                cost = gradient_only(fitted) + (0 if cost is None else cost)
        real = self.read(z_p, past).detach()
        opinion = self.average(opinion, mask).sum()
        return cost, Compared(real, fake.detach(), mask, opinion.detach())

    def read(self, z: Tensor, past: Tensor) -> Tensor:
        """Returns what the critic reads at each step, ``(particles, batch, time, dim)``."""
        return z if self.options.critic_reads == "z" else concat(z, past)


def restricted(
    value: Tensor, net: nn.Module, names: tuple[str, ...], others: bool = False
) -> Tensor:
    """Returns a scalar whose gradient reaches only the parts of a net in ``names``, or the others.

    Its graph is one of sums over parameters, so that it may be added to any loss.
    """
    parameters = [
        p
        for name, p in net.named_parameters()
        if p.requires_grad and (name.partition(".")[0] in names) != others
    ]
    slopes = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    surrogate = torch.stack([(p * slope).sum() for p, slope in zip(parameters, slopes)]).sum()
    return value.detach() + gradient_only(surrogate)


def adversary_for(net: StochasticRNN, options: TrainingOptions, seed: int) -> Adversary | None:
    """Returns the critic that options name, with weights drawn by ``seed``; None without one."""
    if options.adversary == "none":
        return None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kind = ProfessorForcing if options.adversary == "professor" else LatentCritic
        return kind(net, options).to(next(net.parameters()))
