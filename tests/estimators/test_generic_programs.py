"""Any Pyro program with a batch plate trains with every estimator."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from torch.testing import assert_close

from zforcing_pyro.estimators import ESTIMATORS, TraceDReG, TraceFIVO, TraceRWS
from zforcing_pyro.estimators.programs import ProgramPair

estimators = pytest.mark.parametrize("name", ESTIMATORS)


@pytest.fixture(autouse=True)
def clean_store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def model(x):
    loc = pyro.param("loc", torch.tensor(3.0))
    with pyro.plate("sequences", len(x), subsample_size=50, dim=-1) as index:
        z = pyro.sample("z", dist.Normal(loc, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])


def guide(x):
    loc = pyro.param("loc", torch.tensor(3.0))  # shared with the model
    slope, shift, log_scale = (pyro.param(n, torch.tensor(0.0)) for n in ("slope", "shift", "s"))
    with pyro.plate("sequences", len(x), subsample_size=50, dim=-1) as index:
        pyro.sample("z", dist.Normal(loc + shift + slope * (x[index] - loc), log_scale.exp()))


@estimators
def test_a_plain_model_trains_on_mini_batches(name):
    """To the posterior N(loc + (x - loc) / 2, 1/2), at the mean of the data."""
    torch.manual_seed(2)
    x = 1 + 2**0.5 * torch.randn(400)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.03}), loss=ESTIMATORS[name](8))
    for _ in range(400):
        svi.step(x)
    found = {n: value.item() for n, value in pyro.get_param_store().items()}
    assert found["loc"] == pytest.approx(x.mean().item(), abs=0.15)
    assert found["slope"] == pytest.approx(0.5, abs=0.12)
    assert found["shift"] == pytest.approx(0.0, abs=0.12)
    assert math.exp(found["s"]) == pytest.approx(0.5**0.5, abs=0.12)
    evidence = (-((x - found["loc"]) ** 2) / 4 - math.log(4 * math.pi) / 2).sum().item()
    losses = [svi.evaluate_loss(x) for _ in range(200)]
    assert sum(losses) / 200 == pytest.approx(-evidence, rel=0.03)


@estimators
def test_under_subsampling_bounds_are_per_sequence_then_scaled(name):
    """At the exact posterior the loss is the data's evidence, times how many there are."""

    def exact(x):
        with pyro.plate("sequences", len(x), subsample_size=50, dim=-1) as index:
            pyro.sample("z", dist.Normal(1.5 + x[index] / 2, 0.5**0.5))

    options = {"analytic_kl": False} if name == "elbo" else {}
    x = torch.full((150,), 1.7)
    loss = ESTIMATORS[name](3, **options).loss(model, exact, x)
    evidence = -((1.7 - 3) ** 2) / 4 - math.log(4 * math.pi) / 2
    assert loss == pytest.approx(-150 * evidence)


def discrete_model(x):
    """A coin of two sides that shows itself with noise."""
    logit = pyro.param("logit", torch.tensor(0.0))
    with pyro.plate("sequences", len(x), dim=-1):
        z = pyro.sample("z", dist.Bernoulli(logits=logit))
        pyro.sample("x", dist.Normal(2 * z, 1.0), obs=x)


def discrete_guide(x):
    slope, offset = (pyro.param(name, torch.tensor(0.0)) for name in ("slope", "offset"))
    with pyro.plate("sequences", len(x), dim=-1):
        pyro.sample("z", dist.Bernoulli(logits=slope * x + offset))


def test_reweighted_wake_sleep_trains_discrete_latents():
    """The posterior's logits are 2 x - 2 + logit, known exactly."""
    x = 2 * (torch.rand(2_000) < 0.7).double() + torch.randn(2_000)
    svi = SVI(discrete_model, discrete_guide, pyro.optim.Adam({"lr": 0.05}), loss=TraceRWS(10))
    for _ in range(250):
        svi.step(x)
    found = {name: value.item() for name, value in pyro.get_param_store().items()}
    assert found["logit"] == pytest.approx(math.log(0.7 / 0.3), abs=0.25)
    assert found["slope"] == pytest.approx(2.0, abs=0.2)
    assert found["offset"] == pytest.approx(found["logit"] - 2, abs=0.2)


@pytest.mark.parametrize("estimator", [TraceDReG(2), TraceFIVO(2)])
def test_other_estimators_need_reparameterised_draws(estimator):
    with pytest.raises(NotImplementedError, match="'z' must be reparameterised"):
        estimator.loss_and_grads(discrete_model, discrete_guide, torch.zeros(3))
    assert math.isfinite(estimator.loss(discrete_model, discrete_guide, torch.zeros(3)))


def test_dreams_need_programs_that_take_observations():
    with pytest.raises(ValueError, match="must take a keyword 'observations'"):
        TraceRWS(2, sleep_phi=0.5).loss_and_grads(discrete_model, discrete_guide, torch.zeros(3))


def walk(x):
    """A random walk seen with noise, in plain Pyro."""
    log_scale, z = pyro.param("log_scale", torch.tensor(1.0)), 0.0
    with pyro.plate("sequences", len(x), dim=-1):
        for t in pyro.markov(range(x.shape[1])):
            z = pyro.sample(f"z_{t}", dist.Normal(z, log_scale.exp()))
            pyro.sample(f"x_{t}", dist.Normal(z, 1.0), obs=x[:, t])


def filtering_guide(x):
    gain, log_spread, z = (
        *(pyro.param(n, torch.tensor(v)) for n, v in (("k", 0.1), ("s", 0.0))),
        0.0,
    )
    with pyro.plate("sequences", len(x), dim=-1):
        for t in pyro.markov(range(x.shape[1])):
            z = pyro.sample(f"z_{t}", dist.Normal(z + gain * (x[:, t] - z), log_spread.exp()))


@pytest.mark.parametrize("name", ["elbo", "iwae", "dreg", "fivo"])
def test_a_state_space_model_in_plain_pyro_trains(name):
    """With x_t = z_t + noise and steps of scale 1/2, from 2.7: bounds have biases of their own."""
    x = (0.5 * torch.randn(100, 6)).cumsum(1) + torch.randn(100, 6)
    estimator = ESTIMATORS[name](4)
    svi = SVI(walk, filtering_guide, pyro.optim.Adam({"lr": 0.05}), loss=estimator)
    for _ in range(100):
        svi.step(x)
    assert 0.3 < pyro.param("log_scale").exp().item() < 0.85
    assert 0.05 < pyro.param("k").item() < 0.6


@estimators
def test_plates_nested_in_that_of_the_batch(name):
    """Three views of one latent, in a plate of their own: they add up, within each sequence."""

    def nested(x):
        with pyro.plate("sequences", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1), 1.0))
            with pyro.plate("views", 3, dim=-1):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def exact(x):
        with pyro.plate("sequences", len(x), dim=-2):
            pyro.sample("z", dist.Normal(x.sum(1, keepdim=True) / 4, 0.5))

    x = torch.randn(4, 3)
    covariance = torch.eye(3) + 1
    evidence = dist.MultivariateNormal(torch.zeros(3), covariance).log_prob(x)
    options = {"analytic_kl": False} if name == "elbo" else {}
    estimator = ESTIMATORS[name](5, **options, max_plate_nesting=2)
    assert estimator.loss(nested, exact, x) == pytest.approx(-evidence.sum().item())
    given = ProgramPair(nested, exact, x, max_plate_nesting=2)
    assert_close(estimator.objective(given).bound, evidence)


@pytest.mark.parametrize("name", ["stl", "dreg"])
def test_gradients_with_nested_plates_are_those_without(name):
    shift = torch.tensor(0.3).requires_grad_()

    def programs(dim):
        def model(x):
            with pyro.plate("sequences", len(x), dim=dim):
                z = pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(x):
            with pyro.plate("sequences", len(x), dim=dim):
                pyro.sample("z", dist.Normal(x / 2 + shift, 1.0))

        return model, guide

    x, found = torch.randn(4), []
    for dim, data in ((-1, x), (-2, x[:, None])):
        torch.manual_seed(1)
        estimator = ESTIMATORS[name](5, max_plate_nesting=-dim)
        value = estimator.objective(ProgramPair(*programs(dim), data, max_plate_nesting=-dim)).value
        found.append((value, *torch.autograd.grad(value.sum(), shift)))
    assert_close(found[0], found[1])
