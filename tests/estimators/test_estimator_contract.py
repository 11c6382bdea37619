"""Contract of estimators, driven by the registry alone: a new bound needs no edit here."""

import inspect
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from family_cases import batch
from family_cases import make as family
from program_cases import LENGTHS, gaps, linear_gaussian, program_loss, random_terms
from program_cases import make_estimator as make
from pyro.infer import SVI
from torch.testing import assert_close

from zforcing_pyro.estimators import ESTIMATORS, SequenceELBO

bounds = pytest.mark.parametrize("name", ESTIMATORS)


@bounds
@pytest.mark.parametrize("by_programs", [False, True])
def test_bound_of_one_step_is_the_likelihood_at_the_exact_posterior(name, by_programs):
    """One step, since a filter that resamples has a gap over more."""
    net, x = linear_gaussian()
    gap, error = gaps(net, x[:, :1], torch.ones(3).long(), make(name), 2_000, by_programs)
    assert (error < 0.05).all() and (gap.abs() <= 4 * error + 1e-9).all()


@bounds
@pytest.mark.parametrize("guide_sees", ["future", "nothing"])
def test_bound_is_below_the_likelihood(name, guide_sees):
    """By more than 4 standard errors, with a guide that is moved and widened."""
    gap, error = gaps(*linear_gaussian(guide_sees, 0.4, 1.3), LENGTHS, make(name))
    assert (error < 0.15).all() and (gap > 4 * error).all()


@bounds
def test_costs_are_in_no_bound_and_once_in_every_objective(name):
    estimator, x, objectives = make(name), batch("bernoulli"), []
    net = family("zforcing layer norm", "bernoulli")
    for weight in (0.0, 0.7, 1.4):
        net.weights.aux, net.weights.reverse = weight, weight
        torch.manual_seed(1)
        objectives.append(estimator.objective(net.given(x, LENGTHS)))
    assert_close(objectives[1].bound, objectives[0].bound)
    assert_close(objectives[0].value, objectives[0].bound)
    extra = [objective.value - objective.bound for objective in objectives]
    assert (extra[1] != 0).all()
    assert_close(extra[2], 2 * extra[1])
    assert_close(extra[1], objectives[1].terms.costs.sum(-1).mean(0))


@bounds
def test_padding_and_neighbours_change_no_bound(name):
    net, x = linear_gaussian("present", 0.4, 1.3)
    dirty, results = x.clone(), []
    dirty[1, 1:], dirty[2, 4:] = torch.nan, torch.inf
    for data in (x, dirty):
        torch.manual_seed(1)
        results.append(make(name).objective(net.given(data, LENGTHS)).bound)
    assert_close(results[0], results[1], rtol=0, atol=0)


@bounds
def test_declarations_hold(name):
    """Each is read by evaluation: what may be summed, chunked, which numbers of particles."""
    kind, estimator = ESTIMATORS[name], make(name)
    terms = random_terms(estimator.num_particles)
    if estimator.linear_in_time:
        assert_close(estimator.bound(terms.summed()), estimator.bound(terms))
    if estimator.chunked:
        assert estimator.bound(terms).shape == (3,)
    for num in (-1, 0):
        with pytest.raises(ValueError, match=f"^'num_particles' must be .*, got {num}$"):
            kind(num)
    arguments = inspect.signature(kind).parameters
    assert {*estimator.evaluate_options, *estimator.training_options} <= {*arguments}
    assert vars(estimator.unweighted()) == vars(estimator) | dict(estimator.training_options)
    assert type(estimator.unweighted()) is kind


OUT_OF_RANGE = [
    ("elbo", {"free_bits": math.nan}, "'free_bits' must be 0 or more and finite, got nan"),
    ("elbo", {"free_bits": 0.1, "analytic_kl": False}, "'free_bits' must be 0 with a drawn KL.*"),
    ("elbo", {"free_bits_per": "x"}, "'free_bits_per' must be 'step' or 'latent', got 'x'"),
    ("renyi", {"alpha": -0.1}, "'alpha' must be 0 or more.*no lower bound.*got -0.1"),
    ("renyi", {"alpha": math.nan}, "'alpha' must be 0 or more.*no lower bound.*got nan"),
    ("rws", {"sleep_phi": 1.1}, "'sleep_phi' must be in 0..1, got 1.1"),
    ("fivo", {"threshold": -0.1}, "'threshold' must be in 0..1, got -0.1"),
    ("fivo", {"threshold": 1.1}, "'threshold' must be in 0..1, got 1.1"),
    ("fivo", {"resampling": "best"}, "'resampling' must be one of .*'systematic'.*, got 'best'"),
]


@pytest.mark.parametrize(("name", "options", "error"), OUT_OF_RANGE)
def test_options_out_of_range_are_refused(name, options, error):
    with pytest.raises(ValueError, match=f"^{error}$"):
        ESTIMATORS[name](2, **options)


@bounds
def test_negative_weights_are_refused(name):
    """W19."""
    for option in ESTIMATORS[name].training_options:
        with pytest.raises(ValueError, match=f"^'{option}' must be 0 or more and finite, got -1"):
            make(name, **{option: -1})


def plain_model(x, **subsample):
    loc = pyro.param("loc", torch.tensor(3.0))
    with pyro.plate("sequences", len(x), dim=-1, **subsample) as index:
        z = pyro.sample("z", dist.Normal(loc, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])


def plain_guide(x, **subsample):
    loc = pyro.param("loc", torch.tensor(3.0))  # shared with the model
    slope, shift, log_scale = (pyro.param(n, torch.tensor(0.0)) for n in ("slope", "shift", "s"))
    with pyro.plate("sequences", len(x), dim=-1, **subsample) as index:
        pyro.sample("z", dist.Normal(loc + shift + slope * (x[index] - loc), log_scale.exp()))


@bounds
def test_scale_of_a_subsample_multiplies_the_bound_and_no_weight(name):
    x, losses = torch.randn(12), []
    for data, options in ((x[:4], {}), (x, {"subsample": torch.arange(4)})):
        torch.manual_seed(1)
        losses.append(make(name).loss(plain_model, plain_guide, data, **options))
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-12)


@bounds
def test_svi_trains_a_plain_model_on_mini_batches(name):
    """To the posterior N(loc + (x - loc) / 2, 1/2), at the mean of the data."""
    torch.manual_seed(2)
    x = 1 + 2**0.5 * torch.randn(400)
    svi = SVI(plain_model, plain_guide, pyro.optim.Adam({"lr": 0.03}), loss=make(name, 8))
    for _ in range(300):
        svi.step(x, subsample_size=50)
    params = {n: value.item() for n, value in pyro.get_param_store().items()}
    if not ESTIMATORS[name].trains_guide:
        return
    assert params["loc"] == pytest.approx(x.mean().item(), abs=0.15)
    assert params["slope"] == pytest.approx(0.5, abs=0.15)
    assert params["shift"] == pytest.approx(0.0, abs=0.15)
    assert math.exp(params["s"]) == pytest.approx(0.5**0.5, abs=0.15)
    evidence = (-((x - params["loc"]) ** 2) / 4 - math.log(4 * math.pi) / 2).sum().item()
    losses = [svi.evaluate_loss(x, subsample_size=50) for _ in range(200)]
    assert sum(losses) / 200 == pytest.approx(-evidence, rel=0.03)


@bounds
def test_losses_of_pyro_are_one_number(name):
    x, losses = torch.randn(4), []
    estimator = make(name, max_plate_nesting=math.inf, retain_graph=True)
    for loss in (estimator.loss, estimator.loss_and_grads, estimator.differentiable_loss):
        torch.manual_seed(1)
        losses.append(loss(plain_model, plain_guide, x))
    torch.manual_seed(1)
    losses.append(program_loss(estimator, plain_model, plain_guide, x))
    values = [torch.as_tensor(loss).item() for loss in losses]
    assert values == pytest.approx(values[:1] * 4, rel=1e-12)
    slope = pyro.get_param_store()["slope" if estimator.trains_guide else "loc"].unconstrained()
    assert_close(slope.grad, *torch.autograd.grad(losses[2], slope))


def test_a_loss_that_is_nan_warns():
    class Broken(SequenceELBO):
        def bound(self, terms):
            return terms.log_weight.mean(0) * math.nan

    with pytest.warns(UserWarning, match="loss"):
        Broken().loss(plain_model, plain_guide, torch.zeros(3))
