"""Properties of each model beside the contract that all share; missing values."""

from functools import partial
from inspect import signature

import pytest
import torch
from family_cases import CASES, COSTS, LENGTHS, batch, latents_of, make
from pyro import poutine
from torch.distributions import Normal
from torch.testing import assert_close

from zforcing_pyro.app.experiment import describe
from zforcing_pyro.emissions import EMISSIONS, Bernoulli, DiagNormal
from zforcing_pyro.estimators import TraceELBO, TraceIWAE
from zforcing_pyro.layers.blocks import concat
from zforcing_pyro.models.lgssm import LGSSM

exactly = partial(assert_close, rtol=1e-10, atol=1e-10)
FULL = torch.full((3,), 5)


def sees(net, name, x=None):
    """Returns whether a term of step t changes with observation k, ``[k][t]``."""
    x, latents = batch(), latents_of(net)
    before = getattr(net.terms(x, FULL, latents=latents), name)
    found = []
    for k in range(5):
        moved = x.clone()
        moved[:, k] += 1
        after = getattr(net.terms(moved, FULL, latents=latents), name)
        found.append((after != before).flatten(0, 1).any(0).tolist())
    return found


def pattern(depends):
    return [[depends(k, t) for t in range(5)] for k in range(5)]


# RNN


def test_rnn_has_an_exact_likelihood():
    net, x = make("rnn"), batch()
    past = torch.cat([torch.zeros(3, 1, 3), x[:, :-1]], dim=1)
    h, _ = net.rnn.lstm(net.embed(past))
    log_probs = net.emission(h).log_prob(x)
    expected = torch.stack([log_probs[i, :n].sum() for i, n in enumerate(LENGTHS)])
    for estimator in (TraceELBO(1), TraceELBO(3), TraceIWAE(1), TraceIWAE(5)):
        exactly(estimator.bound(net.terms(x, LENGTHS, estimator.num_particles)), expected)
    assert net.terms(x, LENGTHS, 2).latents.shape == (2, 3, 5, 0)


# STORN


def test_storn_has_a_standard_normal_prior_at_every_step():
    net = make("storn")
    latents = latents_of(net, 2)
    terms = net.terms(batch(), FULL, latents=latents)
    exactly(terms.log_prior, Normal(0.0, 1.0).log_prob(latents).sum(-1))


# VRNN


def test_vrnn_i_without_recurrence_is_a_vae_of_each_step():
    net, x = make("vrnn-i"), batch()
    with torch.no_grad():
        for parameter in net.cell.parameters():
            parameter.zero_()
    terms = net.terms(x, FULL, 3)
    h = torch.zeros(3, 5, 4)
    q = net.posterior(concat(h, net.embed(x)))
    mean, std = q.mean, q.stddev
    kl = (mean**2 + std**2 - 1 - 2 * std.log()).sum(-1) / 2
    exactly(terms.kl, kl.expand(3, -1, -1))
    exactly(terms.posterior_mean, mean.expand(3, -1, -1, -1))
    exactly(terms.log_emission, net.emission(concat(h, terms.latents)).log_prob(x))
    order = torch.randperm(5)
    permuted = net.terms(x[:, order], FULL, latents=terms.latents[:, :, order])
    exactly(permuted.log_emission, terms.log_emission[..., order])
    exactly(permuted.log_posterior, terms.log_posterior[..., order])


def test_vrnn_reads_its_past_as_the_paper_does():
    """h of step t is the paper's h_{t-1}: an LSTM over what came before, at zero before all."""
    net, x = make("vrnn"), batch()
    terms = net.terms(x, FULL, latents=latents_of(net))
    h = c = torch.zeros(3, 4)
    x_prev, z_prev = torch.zeros(3, 3), torch.zeros(3, 2)
    for t in range(5):
        h, c = net.cell(net.embed(x_prev), z_prev, (h, c))
        x_prev, z_prev = x[:, t], terms.latents[0, :, t]
        exactly(terms.log_prior[0, :, t], net.prior(h).log_prob(z_prev))
        exactly(terms.log_emission[0, :, t], net.emission(concat(h, z_prev)).log_prob(x_prev))


# SRNN


@pytest.mark.parametrize("case", ["srnn", "srnn filtering"])
def test_srnn_has_latents_outside_its_deterministic_state(case):
    net, x = make(case), batch()
    states = []
    for _ in range(2):
        latents = {f"z_{t}": torch.randn(3, 2) for t in range(5)}
        trace = poutine.trace(poutine.condition(net.model, latents)).get_trace(x, FULL)
        states.append(trace.nodes["_RETURN"]["value"])
    exactly(states[0]["d"], states[1]["d"])
    exactly(states[0]["c"], states[1]["c"])
    assert (states[0]["z"] != states[1]["z"]).all()
    first, second = net.terms(x, FULL, latents=latents_of(net, 2)).log_emission
    assert (first != second).all()


@pytest.mark.parametrize("posterior", ["smoothing", "filtering"])
def test_resq_adds_the_mean_of_the_prior(posterior):
    net, x = make("srnn", posterior=posterior), batch()
    latents = latents_of(net, 2)
    residual = net.terms(x, FULL, latents=latents)
    net.resq = False
    plain = net.terms(x, FULL, latents=latents)
    z_past = torch.cat([torch.zeros(2, 3, 1, 2), latents[..., :-1, :]], dim=-2)
    prior = net.prior(concat(z_past, net.context(net.batch(x))[0]["d"]))
    exactly(residual.posterior_mean, plain.posterior_mean + prior.mean)
    exactly(residual.log_prior, plain.log_prior)


@pytest.mark.parametrize(
    ("case", "depends"),
    [
        ("storn", lambda k, t: k <= t),
        ("srnn", lambda k, t: True),
        ("srnn without resq", lambda k, t: True),
        ("srnn filtering", lambda k, t: k <= t),
        ("dkf", lambda k, t: k >= t),
        ("dkf left", lambda k, t: k <= t),
        ("dkf both", lambda k, t: True),
    ],
)
def test_posteriors_see_what_they_are_said_to(case, depends):
    assert sees(make(case), "log_posterior") == pattern(depends)


# DKF


def linear_gaussian_pair():
    """A DKF whose networks are the matrices of an LGSSM, its gate shut."""
    oracle = LGSSM(3, 2)
    torch.nn.init.constant_(oracle.emission.log_scale, 1.0)
    net = make("dkf without clamp", DiagNormal)
    transition, emission = net.transition, net.emission.mlp.layers[0]
    C, log_scale = oracle.emission.weight, oracle.emission.log_scale
    with torch.no_grad():
        transition.gate.layers[-1].weight.zero_()
        transition.gate.layers[-1].bias.fill_(-1e4)
        transition.linear.weight.copy_(oracle.transition)
        transition.linear.bias.zero_()
        transition.log_scale.weight.zero_()
        transition.log_scale.bias.copy_(oracle.log_scale)
        emission.weight.copy_(torch.cat([C, torch.zeros_like(C)]))
        emission.bias.copy_(torch.cat([torch.zeros_like(log_scale), log_scale]))
    return net, oracle


def test_dkf_with_the_matrices_of_a_linear_gaussian_model_has_its_likelihood():
    net, oracle = linear_gaussian_pair()
    x = batch()
    exact = oracle.log_likelihood(x, LENGTHS)
    loss = TraceIWAE(1).loss(net.model, oracle.guide, x, LENGTHS)
    assert loss == pytest.approx(-exact.sum().item(), abs=1e-9)  # the exact posterior, one draw


def test_the_gate_of_a_transition_goes_from_linear_to_nonlinear():
    transition = make("dkf").transition
    z, gate = torch.randn(4, 2), transition.gate.layers[-1]
    with torch.no_grad():
        gate.weight.zero_()
        for bias, mean in ((-1e4, transition.linear(z)), (1e4, transition.proposal(z))):
            gate.bias.fill_(bias)
            exactly(transition(z).mean, mean)
        gate.bias.zero_()
        exactly(transition(z).mean, (transition.linear(z) + transition.proposal(z)) / 2)


# Costs


@pytest.mark.parametrize("case", ["srnn", "dkf", "dkf both"])
def test_costs_on_a_backward_state_are_those_of_zforcing(case):
    net, x = make(case, **COSTS), batch()
    latents = latents_of(net, 2)
    terms, context = net.terms(x, FULL, latents=latents), net.context(net.batch(x))[0]
    b = context["a"] if case == "srnn" else context["b"]
    auxiliary = net.costs.auxiliary(latents).log_prob(b)
    reverse = net.costs.reverse(b[:, 1:]).log_prob(x[:, :-1])
    exactly(terms.auxiliary, auxiliary)
    exactly(terms.reverse[..., 1:], reverse.expand(2, -1, -1))
    assert (terms.reverse[..., 0] == 0).all()


# Missing values


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
