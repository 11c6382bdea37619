"""Values that are missing: out of the likelihood, and out of the networks' sight."""

from functools import partial
from inspect import signature

import pytest
import torch
from family_cases import CASES, LENGTHS, batch, make
from torch.testing import assert_close

from zforcing_pyro.app.experiment import describe
from zforcing_pyro.emissions import EMISSIONS, Bernoulli, DiagNormal

PARTLY = {
    "gaussian": partial(DiagNormal, hidden_dims=[3], missing=True),
    "bernoulli": partial(Bernoulli, missing=True),
}
HOLES = [(0, 0, 1), (0, 2, 0), (0, 2, 1), (0, 2, 2), (2, 3, 2)]


def with_holes(kind):
    x = batch(kind)
    for hole in HOLES:
        x[hole] = torch.nan
    return x


@pytest.mark.parametrize("kind", PARTLY)
@pytest.mark.parametrize("case", CASES)
def test_fast_terms_are_those_of_the_programs(case, kind):
    net, x = make(case, PARTLY[kind]), with_holes(kind)
    found = []
    for terms in (net.terms, net.program_terms):
        torch.manual_seed(1)
        found.append(terms(x, LENGTHS, num_particles=2))
    for name in ("log_prior", "log_posterior", "log_emission", "costs"):
        values = [getattr(terms, name) for terms in found]
        assert values[0].isfinite().all()
        assert_close(*values, rtol=1e-10, atol=1e-10)
    gradients = []
    for terms in found:
        loss = terms.log_weight.sum() + terms.costs.sum()
        gradients.append(torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True))
    assert_close(*gradients, rtol=1e-9, atol=1e-9)
    assert all(g.isfinite().all() for g in gradients[0])


def test_a_net_that_was_not_told_refuses_them_and_infinity_is_refused_by_all():
    with pytest.raises(ValueError, match="'x' must be finite in valid steps, got NaN"):
        make("vrnn").terms(with_holes("gaussian"), LENGTHS)
    x = batch()
    x[0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match="'x' must be finite or NaN in valid steps, got infinity"):
        make("vrnn", PARTLY["gaussian"]).terms(x, LENGTHS)


def test_an_experiment_tells_its_emission_or_says_which_can():
    experiment = describe(["--emission", "gaussian"])
    assert not experiment.net(x_dim=2).emission.missing
    for name, emission in EMISSIONS.items():
        if "missing" not in signature(emission).parameters:
            with pytest.raises(ValueError, match=r"must be one of \['gau.*where .* got") as error:
                describe(["--emission", name]).net(x_dim=2, missing=True)
            assert f"got '{name}'" in str(error.value)
        else:
            assert describe(["--emission", name]).net(x_dim=2, missing=True).emission.missing
