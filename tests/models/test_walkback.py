"""Variational Walkback; numbers are those of its specification's tests."""

import copy
import itertools
import math

import pyro.distributions as dist
import pytest
import torch
from family_cases import perturbed
from program_cases import program_loss
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.testing import assert_close

from zforcing_pyro.analysis.posterior import latent_codes
from zforcing_pyro.data import Points, Sequences, corpus
from zforcing_pyro.emissions import Bernoulli, Categorical, DiagNormal
from zforcing_pyro.emissions.operators import Operator
from zforcing_pyro.estimators import (
    TraceDReG,
    TraceELBO,
    TraceFIVO,
    TraceIWAE,
    TraceRenyi,
    TraceRWS,
    TraceSTL,
    TraceWalkback,
)
from zforcing_pyro.models import Walkback
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.fit import fit

ELBO = TraceELBO(analytic_kl=False)


class Linear(Operator):
    """s' = A s + sqrt(T c) noise."""

    def __init__(self, a: torch.Tensor, c: torch.Tensor):
        nn.Module.__init__(self)
        self.a, self.c, self.x_dim = nn.Parameter(a), c, len(c)

    def forward(self, s, log_t):
        scale = (self.c * log_t.exp()[..., None]).sqrt()
        return dist.Normal(s @ self.a.T, scale).to_event(1)

    def marginal(self, mean, variance):
        return dist.Normal(mean, variance.sqrt()).to_event(1)


class Table(Operator):
    """A matrix of probabilities between states that are one-hot vectors; T is not read."""

    support = torch.distributions.constraints.boolean
    has_rsample = False

    def __init__(self, logits: torch.Tensor):
        nn.Module.__init__(self)
        self.logits, self.x_dim = nn.Parameter(logits), len(logits)

    def forward(self, s, log_t):
        return dist.OneHotCategorical(logits=s @ self.logits.log_softmax(-1))

    def marginal(self, mean, variance):
        return dist.OneHotCategorical(probs=mean)


def net_of(operator, steps, factor=1.0, variance=None, mean=None):
    net = Walkback(DiagNormal, operator.x_dim, steps=steps, factor=factor, hidden_dim=1)
    net.emission = operator
    net.variance = torch.ones(operator.x_dim) if variance is None else variance
    net.mean = torch.zeros(operator.x_dim) if mean is None else mean
    return net


def walkback(emission=DiagNormal, x_dim=3, **options):
    return perturbed(Walkback(emission, x_dim, **{"steps": 4, "hidden_dim": 6} | options))


def points(emission=DiagNormal, num=5, x_dim=3):
    bits = emission is Bernoulli
    return torch.randint(2, (num, 1, x_dim)).double() if bits else torch.randn(num, 1, x_dim)


EVERY = [
    TraceELBO(2), TraceELBO(2, analytic_kl=False), TraceIWAE(3), TraceSTL(2), TraceDReG(3),
    TraceRWS(3), TraceRenyi(3), TraceWalkback(2),
]  # fmt: skip


@pytest.mark.parametrize("estimator", EVERY, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("emission", [DiagNormal, Bernoulli])
@pytest.mark.parametrize("fixed", [False, True])
def test_walk_in_one_call_is_that_of_the_programs(estimator, emission, fixed):
    """Loss and every gradient are the same."""
    bits = emission is Bernoulli
    if bits and (fixed or not estimator.takes_scores):
        return
    net, x, results = walkback(emission, fixed_walk=fixed), points(emission), []
    for loss in (
        lambda: -estimator.objective(net.given(x)).value.sum(),
        lambda: program_loss(estimator, net.model, net.guide, x),
    ):
        torch.manual_seed(1)
        value = loss()
        gradients = torch.autograd.grad(value, net.parameters(), materialize_grads=True)
        results.append((value, *gradients))
    assert_close(*results, rtol=1e-10, atol=1e-10)


def test_terms_are_those_of_the_programs_site_by_site():
    for emission in (DiagNormal, Bernoulli):
        net, x, results = walkback(emission), points(emission), []
        for terms in (net.terms, net.program_terms):
            torch.manual_seed(1)
            results.append(terms(x, num_particles=3))
        for name in ("log_prior", "log_posterior", "log_emission", "kl_per_latent", "latents"):
            assert_close(*(getattr(terms, name) for terms in results), rtol=1e-12, atol=1e-12)
        again = net.terms(x, latents=results[0].latents)
        assert_close(again.log_weight, results[0].log_weight, rtol=0, atol=1e-12)
        assert again.log_prior.shape == (3, 5, 4) and again.log_emission.shape == (3, 5, 1)


@pytest.mark.parametrize("steps", range(1, 9))
def test_detailed_balance_makes_every_walk_exact(steps):
    """1. N(a s, v (1 - a^2)) at T = 1 with p* = N(0, v): the bracket is log N(x; 0, v)."""
    v, a = torch.tensor([0.7, 2.0]), torch.tensor([0.8, -0.6])
    net = net_of(Linear(torch.diag(a), v * (1 - a**2)), steps, variance=v)
    x = torch.randn(6, 1, 2)
    exact = dist.Normal(0.0, v.sqrt()).to_event(1).log_prob(x[:, 0])
    assert_close(
        net.terms(x, num_particles=50).log_weight, exact.expand(50, -1), rtol=0, atol=1e-12
    )
    for estimator in (ELBO, TraceIWAE(3), TraceSTL(2), TraceDReG(2), TraceRWS(2), TraceWalkback(2)):
        for given in (net.given(x), estimator.given(lambda *a: net.model(*a), net.guide, x)):
            assert_close(estimator.objective(given).bound, exact, rtol=0, atol=1e-12)


def heated(a, c, log_t, x_dim):
    """Covariance of x by the recursion v <- A v A' + T c from p* = N(0, I)."""
    v = torch.eye(x_dim)
    for t in log_t.flip(0).exp():
        v = a @ v @ a.T + t * torch.diag(c)
    return v


def test_iwae_of_a_heated_walk_tends_to_the_likelihood():
    """2. And the ELBO lies below."""
    a, c = torch.tensor([[0.9]]), torch.tensor([0.2])
    net = net_of(Linear(a, c), 4, factor=1.5)
    x = torch.tensor([0.3, -0.8, 2.0]).view(3, 1, 1)
    cov = heated(a, c, net.log_t, 1)
    exact = dist.MultivariateNormal(torch.zeros(1), cov).log_prob(x[:, 0])
    with torch.no_grad():
        log_weight = net.terms(x, num_particles=200_000).log_weight
    weight = (log_weight - exact).exp()
    error = weight.std(0) / len(weight) ** 0.5
    assert (error < 0.01).all() and ((weight.mean(0) - 1).abs() < 4 * error).all()
    assert (log_weight.mean(0) < exact - 0.005).all()


@pytest.mark.parametrize("x_dim", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_bound_is_below_the_likelihood(x_dim, seed):
    """3. For random linear operators, by 3 standard errors."""
    torch.manual_seed(seed)
    a, c = 0.5 * torch.randn(x_dim, x_dim), 0.2 + torch.rand(x_dim)
    net, x = net_of(Linear(a, c), 3, factor=1.7), torch.randn(4, 1, x_dim)
    cov = heated(a, c, net.log_t, x_dim)
    exact = dist.MultivariateNormal(torch.zeros(x_dim), cov).log_prob(x[:, 0])
    with torch.no_grad():
        log_weight = net.terms(x, num_particles=20_000).log_weight
    error = log_weight.std(0) / len(log_weight) ** 0.5
    assert (log_weight.mean(0) - 3 * error < exact).all()


def test_gradient_is_that_of_least_squares_and_flows_through_no_state():
    """4. For F linear: sum of (s_{k-1} - A s_k) s_k' / (T c)."""
    a, c = torch.randn(2, 2) / 2, torch.tensor([0.3, 0.5])
    net, x = net_of(Linear(a, c), 3, factor=1.5), torch.randn(6, 1, 2)
    objective = TraceWalkback(2).objective(net.given(x))
    (slope,) = torch.autograd.grad(objective.value.sum(), net.emission.a)
    states = torch.cat([x[:, 0].expand(2, -1, -1)[..., None, :], objective.terms.latents], -2)
    before, after = states[..., :-1, :], states[..., 1:, :]
    residual = (before - after @ a.T) / (c * net.log_t.exp()[:, None])
    assert_close(slope, torch.einsum("pbki,pbkj->ij", residual, after) / 2)
    copied = net.terms(x, latents=objective.terms.latents.clone())
    stored = (copied.log_emission.sum(-1) + copied.log_prior.sum(-1)).mean(0).sum()
    assert_close(slope, torch.autograd.grad(stored, net.emission.a)[0])


def exact_discrete(table, start, steps):
    """log p(x) of each state by matrix products."""
    p = start
    for _ in range(steps):
        p = p @ table
    return p.log()


def test_discrete_walk_against_enumeration():
    """5. Exact p(x), the exact bound for K = 2, and the IWAE that converges."""
    logits, start = torch.randn(3, 3), torch.tensor([0.2, 0.5, 0.3])
    net, x = net_of(Table(logits), 2, mean=start), torch.eye(3)[:, None]
    table = logits.softmax(-1)
    exact = exact_discrete(table, start, 2)
    bound = torch.zeros(3)
    for i, j, k in itertools.product(range(3), repeat=3):  # x, s_1, s_2
        q = table[i, j] * table[j, k]
        bound[i] += q * (start[k] * table[k, j] * table[j, i] / q).log()
    with torch.no_grad():
        log_weight = net.terms(x, num_particles=20_000).log_weight
    error = log_weight.std(0) / len(log_weight) ** 0.5
    assert ((log_weight.mean(0) - bound).abs() < 4 * error).all()
    assert (bound < exact).all()
    weight = (log_weight - exact).exp()
    assert ((weight.mean(0) - 1).abs() < 4 * weight.std(0) / len(weight) ** 0.5).all()


def test_walk_that_turns_in_a_circle_is_learnt():
    """5. A walk that turns one way teaches the operator to turn the other way.

    On uniform states Bayes' rule gives the transpose, whose net flow is not zero: no detailed
    balance is built in.
    """
    turn = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    net = net_of(Table(torch.zeros(3, 3)), 1, mean=torch.full((3,), 1 / 3))
    frozen = Table(turn.log())
    net.forth = lambda s, log_t: frozen(s, log_t)
    optimiser = torch.optim.Adam(net.emission.parameters(), 0.05)
    for _ in range(300):
        x = torch.eye(3)[torch.randint(3, (200,))][:, None]
        loss = -TraceWalkback().objective(net.given(x)).value.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    learnt = net.emission.logits.detach().softmax(-1)
    assert_close(learnt, turn.T, rtol=0, atol=0.06)
    flow = (learnt - learnt.T)[0, 2] / 3
    assert flow > 0.15


def test_walk_of_no_steps_is_the_last_distribution():
    """6."""
    net, x = walkback(steps=0), points()
    net.mean, net.variance = torch.randn(3), torch.rand(3) + 0.1
    expected = dist.Normal(net.mean, net.variance.sqrt()).to_event(1).log_prob(x[:, 0])
    for estimator in (ELBO, TraceIWAE(2), TraceWalkback()):
        assert_close(estimator.objective(net.given(x)).bound, expected)
    assert net.generate(4).shape == (4, 1, 3)


def test_temperature_enters_through_the_scale_alone():
    """7. Unless the network reads it."""
    s, cold, hot = torch.randn(5, 3), torch.zeros(()), torch.tensor(2.0)
    for reads in (False, True):
        operator = walkback(reads_temperature=reads).emission
        one, other = operator(s, cold), operator(s, hot)
        assert torch.equal(one.mean, other.mean) is not reads
        if not reads:
            assert_close(other.variance, one.variance * math.exp(2))
    bits = walkback(Bernoulli, reads_temperature=False).emission
    s = points(Bernoulli)[:, 0]
    logits = [bits(s, t).base_dist.logits for t in (cold, hot)]
    assert_close(logits[0], logits[1] * math.exp(2))


def test_moments_are_those_of_last_states_and_are_saved_and_resumed(tmp_path):
    """8."""
    net = walkback(sigma0=0.5)
    x = torch.randn(64, 1, 3)
    for num in range(1, 4):
        terms = net.terms(x, num_particles=2)
        before = net.mean.clone(), net.variance.clone()
        net.observe(terms)
        last = terms.latents[..., -1, :].flatten(0, 1)
        mean = before[0] + (last.mean(0) - before[0]) / num
        assert_close(net.mean, mean)
        if num == 1:
            assert_close(net.variance, last.var(0, correction=0))
    data = Sequences(list(torch.randn(40, 1, 3)))
    options = TrainingOptions(batch_size=8, validate_every=4)
    long = copy.deepcopy(net)
    fit(long, data, data, TraceWalkback(), tmp_path / "long", options, 8)
    short = copy.deepcopy(net)
    fit(short, data, data, TraceWalkback(), tmp_path / "short", options, 4)
    again = copy.deepcopy(net)
    fit(again, data, data, TraceWalkback(), tmp_path / "short", options, 8, resume=True)
    for name in ("mean", "variance", "num_observed"):
        assert_close(getattr(again, name), getattr(long, name), rtol=0, atol=0)
        assert (getattr(long, name) != getattr(net, name)).any()


@pytest.mark.parametrize("bound", [TraceELBO(), TraceIWAE(2), TraceSTL(), TraceRWS(2)])
def test_every_bound_trains_while_the_moments_move(bound):
    data, net = Points(), Walkback(DiagNormal, 2, steps=3, hidden_dim=4)
    before = parameters_to_vector(net.parameters())
    options = TrainingOptions(batch_size=16, validate_on=16, lr_schedule="constant")
    fit(net, data.split("train"), data.split("valid"), bound, None, options, 2)
    assert net.num_observed == 2 and not parameters_to_vector(net.parameters()).equal(before)


def test_online_and_walk_have_one_first_gradient():
    """10."""
    net, x = walkback(steps=1), points()
    torch.manual_seed(1)
    (loss,) = net.online(x[:, 0])
    torch.manual_seed(1)
    objective = TraceWalkback().objective(net.given(x))
    names = list(net.parameters())
    pair = [torch.autograd.grad(v, names) for v in (loss.sum(), -objective.value.sum())]
    assert_close(*pair)


@pytest.mark.nightly
def test_circle_is_drawn_and_stays_after_two_hundred_cold_steps():
    """9."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    data, net = Points(), Walkback(DiagNormal, 2)
    options = TrainingOptions(
        batch_size=128, lr=1e-3, clip=1.0, lr_schedule="constant", validate_on=256
    )
    fit(net, data.split("train"), data.split("valid"), TraceWalkback(), None, options, 1500)
    s = net.generate(2000)[:, 0]
    for num in (20, 180):
        s = net.cooled(s, num)
        radius = s.norm(dim=-1)
        print(num, radius.mean().item(), radius.std().item())
        assert abs(radius.mean() - 1) < 0.02 and radius.std() < 0.05


# At the boundary


def test_walkback_refuses():
    net = walkback()
    for call, message in (
        (lambda: net.terms(torch.randn(2, 3, 3)), "'x' must have one step for Walkback.*got 3"),
        (lambda: net.generate(2, 3), "'num_steps' must be 1 for Walkback.*got 3"),
        (lambda: Walkback(Categorical, 3), "'emission' must be gaussian or bernoulli.*Categorical"),
        (lambda: walkback(Bernoulli, fixed_walk=True), "'fixed_walk' must be False for bits"),
        (lambda: walkback(alpha=1.0), r"'alpha' in \[0, 1\).*got 2.0, 1.0, 0.05 and 0.001"),
        (lambda: TraceFIVO(2).objective(net.given(points())), "To be filtered, a model must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(
        ValueError, match=r"'net' must have a latent for each step.*a walk from one"
    ):
        latent_codes(net, Sequences(list(torch.randn(4, 1, 3))))
    long = Sequences(list(torch.randn(4, 2, 3)))
    with pytest.raises(ValueError, match=r"data must be vectors.* --data points.*got 2 steps"):
        fit(net, long, long, max_updates=1)


def test_walkback_without_words_has_points_and_its_bound():
    from zforcing_pyro.app.experiment import describe

    experiment = describe(["--model", "walkback"])
    assert (experiment.data["name"], experiment.bound["name"]) == ("points", "walkback")
    assert describe(["--model", "walkback", "--bound", "elbo"]).bound["name"] == "elbo"


def test_images_are_vectors():
    data = corpus("digits", vectors=True)
    x = data.split("test")[0].x
    assert x.shape == (1, 64) and data.x_dim == 64 and data.step == "image"
    assert (
        data.image(x).tolist()
        == corpus("digits").image(corpus("digits").split("test")[0].x).tolist()
    )
