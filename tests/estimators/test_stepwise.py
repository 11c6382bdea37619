"""Programs written as a step: a filter runs each step once, with the numbers of a whole run."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from program_cases import linear_gaussian
from pyro import poutine
from torch.testing import assert_close

from zforcing_pyro.estimators import ESTIMATORS, Steps, TraceFIVO, TraceIWAE
from zforcing_pyro.estimators.programs import ProgramPair

LENGTHS = torch.tensor([5, 3, 4])


def steps_of(net, lengths=LENGTHS, count=lambda: None):
    """Model and guide of a linear-Gaussian net as steps."""

    def init(x):
        return {"z": torch.zeros(len(x), 2)}

    def init_guide(x):
        mask = torch.arange(x.shape[1]) < lengths[:, None]
        affine = net.affine(torch.where(mask[..., None], x, 0.0), mask, net.guide_sees)
        return init(x) | dict(zip(("slope", "offset", "scale_tril"), affine))

    def step(state, t, x):
        count()
        with poutine.mask(mask=t < lengths):
            z = pyro.sample(f"z_{t}", net.prior(state["z"]))
            pyro.sample(f"x_{t}", net.emission(z), obs=x[:, t])
        return {"z": z}

    def guide_step(state, t, x):
        affine = (state[name][:, t] for name in ("slope", "offset", "scale_tril"))
        with poutine.mask(mask=t < lengths):
            return {"z": pyro.sample(f"z_{t}", net.approximation(state["z"], *affine))}

    return Steps(init, step), Steps(init_guide, guide_step)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_steps_are_programs_to_every_estimator(name):
    net, x = linear_gaussian("present", 0.4, 1.3)
    results = []
    options = {"threshold": 0.0} if name in ("fivo", "twisted") else {}
    for pair in (steps_of(net), (net.model, net.guide)):
        torch.manual_seed(1)
        args = (x,) if len(results) == 0 else (x, LENGTHS)
        loss = ESTIMATORS[name](3, **options).differentiable_loss(*pair, *args)
        grads = torch.autograd.grad(loss, net.parameters(), materialize_grads=True)
        results.append((loss, *grads))
    assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
def test_filter_of_steps_has_the_numbers_of_the_net_filter(threshold, resampling):
    """At one seed, in value and in every gradient, where sequences are of one length."""
    net, x = linear_gaussian("present", 0.4, 1.3)
    results, full = [], torch.full((3,), 5)
    for given in (ProgramPair(*steps_of(net, full), x), net.given(x)):
        torch.manual_seed(1)
        value = TraceFIVO(6, threshold, resampling).objective(given).value
        grads = torch.autograd.grad(value.sum(), net.parameters(), materialize_grads=True)
        results.append((value, *grads))
    assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)


def test_filter_of_steps_is_unbiased_with_padding():
    net, x = linear_gaussian("nothing", 0.2, 1.2)
    exact, num = net.log_likelihood(x, LENGTHS), 3_000
    pair = ProgramPair(*steps_of(net, LENGTHS.repeat(num)), x.repeat(num, 1, 1))
    with torch.no_grad():
        bound = TraceFIVO(8, 1.0).objective(pair).bound.view(num, 3)
    ratio = (bound - exact).exp()
    assert ((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / num**0.5).all()


def test_filter_of_steps_runs_each_step_once_and_says_the_cost_of_programs():
    net, x = linear_gaussian("nothing", 0.2, 1.2)
    x, calls = torch.randn(3, 20, 3), []
    full = torch.full((3,), 20)
    model, guide = steps_of(net, full, lambda: calls.append(1))
    TraceFIVO(4, 1.0).loss(model, guide, x)
    assert len(calls) == 20
    calls.clear()
    with pytest.warns(UserWarning, match=r"^The programs ran 20 times, .* of 20 steps .*Steps"):
        TraceFIVO(4, 1.0).loss(lambda x: model(x), lambda x: guide(x), x)
    assert len(calls) == 20 * 20


def test_step_may_have_several_latents_costs_and_no_latent_at_all():
    """Against the importance-weighted bound of the whole programs, which never resample."""

    def step(state, t, x):
        z = state["z"]
        for n in range(t):
            z = pyro.sample(f"z_{t}_{n}", dist.Normal(z, 1.0))
        pyro.sample(f"x_{t}", dist.Normal(z, 1.0), obs=x[:, t])
        return {"z": z}

    def guide_step(state, t, x):
        for n in range(t):
            pyro.sample(f"z_{t}_{n}", dist.Normal(x[:, t], 1.0))
        pyro.factor(f"aux_{t}", -x[:, t], has_rsample=True)
        return {}

    pair, x, losses = (Steps(lambda x: {"z": 0 * x[:, 0]}, s) for s in (step, guide_step)), None, []
    pair, x = tuple(pair), torch.randn(3, 4)
    for estimator in (TraceFIVO(5, 0.0), TraceIWAE(5)):
        torch.manual_seed(1)
        losses.append(estimator.loss(*pair, x))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_misuse_of_steps_is_named():
    def draws(x):
        return {"z": pyro.sample("z_0", dist.Normal(0.0, 1.0).expand([len(x)]))}

    def step(state, t, x):
        z = pyro.sample(f"z_{t}", dist.Normal(state["z"], 1.0))
        pyro.sample(f"x_{t}", dist.Normal(z, 1.0), obs=x[:, t])
        return {"z": z, "shared": x[:, t]}

    def guide_step(state, t, x):
        return {"z": pyro.sample(f"z_{t}", dist.Normal(0.0, 1.0))}

    def zeros(x):
        return {"z": torch.zeros(len(x))}

    x, guide = torch.randn(3, 4), Steps(zeros, guide_step)
    with pytest.raises(ValueError, match=r"^'init' must draw nothing, got sites \['z_0'\]"):
        TraceFIVO(4).loss(Steps(draws, step), guide, x)
    with pytest.raises(ValueError, match=r"^'shared' of a step's state must have shape \(4, 3\)"):
        TraceFIVO(4, 1.0).loss(Steps(zeros, step), guide, x)
