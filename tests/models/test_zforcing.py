"""Z-Forcing against an oracle, and what the paper asks of its parts."""

from functools import partial

import pytest
import torch
from family_cases import LENGTHS, SIZES, batch, perturbed
from program_cases import program_loss
from torch.testing import assert_close
from zforcing_oracle import Oracle

from zforcing_pyro.emissions import Bernoulli, Categorical, DiagNormal
from zforcing_pyro.estimators import TraceELBO, TraceIWAE
from zforcing_pyro.models import ZForcing
from zforcing_pyro.models.zforcing import OFFICIAL_CODE
from zforcing_pyro.training.targets import TargetFit

COSTS = {"aux_weight": 0.7, "reverse_weight": 0.4}
NUM_PARTICLES = 3
EMISSIONS = {
    "gaussian": partial(DiagNormal, hidden_dims=[3], min_scale=0.1),
    "bernoulli": Bernoulli,
    "categorical": Categorical,
}
ORACLE = {"gaussian": {"min_scale": 0.1}}

CASES = {
    "defaults": {},
    "no costs": {"aux_weight": 0.0, "reverse_weight": 0.0},
    "no auxiliary cost": {"aux_weight": 0.0},
    "no reverse cost": {"reverse_weight": 0.0},
    "reverse waits for auxiliary": {"aux_weight": 0.0, "reverse_needs_aux": True},
    "reverse beside auxiliary": {"reverse_needs_aux": True},
    "layer norm": {"injection": "layer_norm"},
    "l2": {"aux_kind": "l2"},
    "l2 without tanh": {"aux_kind": "l2", "aux_tanh": False, "aux_input": "h_z"},
    "auxiliary reads h and z": {"aux_input": "h_z"},
    "auxiliary without tanh": {"aux_tanh": False},
    "log-variance": {"scale": "log_variance"},
    "no clamp": {"clamp": 0.0},
    "clamp bites": {"clamp": 0.05},
    "clamp bites log-variance": {"clamp": 0.05, "scale": "log_variance"},
    "official code": OFFICIAL_CODE,
    "all": {
        "injection": "layer_norm", "aux_input": "h_z", "clamp": 0.3, "scale": "log_variance",
        "reverse_needs_aux": True,
    },
}  # fmt: skip


def make(kind="gaussian", **options):
    """A net whose parameters are all of a size to matter, and options for its oracle."""
    options = COSTS | options
    net = perturbed(ZForcing(EMISSIONS[kind], 3, **SIZES | options))
    for option in ("embed_dim", "aux_network", "reverse_network"):
        options.pop(option, None)
    return net, {"emission": kind, **options, **ORACLE.get(kind, {})}


def draw_noise(num_particles=NUM_PARTICLES, num_sequences=3, num_steps=5):
    """Returns the draws of the net after the same seed: one ``rsample`` a step."""
    noise = [torch.randn(num_particles, num_sequences, SIZES["z_dim"]) for _ in range(num_steps)]
    return torch.stack(noise, -2)


ESTIMATORS = {
    "analytic": partial(TraceELBO, NUM_PARTICLES),
    "sampled": partial(TraceELBO, NUM_PARTICLES, analytic_kl=False),
    "iwae": partial(TraceIWAE, NUM_PARTICLES),
}


def agree(net, options, x, bound, kl_weight=1.0, x_prev=None, inputs=None):
    """Value and bound of each sequence and every gradient, to 1e-10, on both of the net's paths."""
    weight = {} if bound == "iwae" else {"kl_weight": kl_weight}
    estimator = ESTIMATORS[bound](**weight)
    given = {"inputs": inputs}
    if x_prev is not None:
        given["state"] = net.initial_state(len(x), x_prev)
    torch.manual_seed(1)
    noise = draw_noise()

    leaves = {n: p.detach().clone().requires_grad_() for n, p in net.state_dict().items()}
    oracle, values, bounds = Oracle(leaves, **options), [], []
    for i, n in enumerate(LENGTHS):
        value, own_bound = oracle.objective(
            x[i, :n],
            noise[:, i, :n],
            bound,
            kl_weight,
            None if x_prev is None else x_prev[i],
            None if inputs is None else inputs[i, :n],
        )
        values.append(value)
        bounds.append(own_bound)
    expected = torch.autograd.grad(sum(values), leaves.values(), materialize_grads=True)
    expected = dict(zip(leaves, expected))

    torch.manual_seed(1)
    objective = estimator.objective(net.given(x, LENGTHS, **given))
    assert_close(objective.value, torch.stack(values), rtol=1e-10, atol=1e-10)
    assert_close(objective.bound, torch.stack(bounds), rtol=1e-10, atol=1e-10)
    torch.manual_seed(1)
    loss = program_loss(estimator, net.model, net.guide, x, LENGTHS, **given)
    for total in (objective.value.sum(), -loss):
        parameters = dict(net.named_parameters())
        gradients = torch.autograd.grad(total, parameters.values(), materialize_grads=True)
        gradients = dict(zip(parameters, gradients))
        assert_close(total, sum(values), rtol=1e-10, atol=1e-10)
        assert_close(gradients, expected, rtol=1e-10, atol=1e-10)
    return expected


@pytest.mark.parametrize("bound", ESTIMATORS)
@pytest.mark.parametrize("case", CASES)
def test_net_agrees_with_the_oracle(case, bound):
    net, options = make(**CASES[case])
    agree(net, options, batch(), bound, kl_weight=0.3)


@pytest.mark.parametrize("injection", ["concat", "layer_norm"])
@pytest.mark.parametrize(
    ("kind", "embed_dim"), [("bernoulli", 0), ("bernoulli", 3), ("categorical", 3)]
)
def test_net_agrees_with_the_oracle_on_other_data(kind, injection, embed_dim):
    net, options = make(kind, injection=injection, embed_dim=embed_dim)
    agree(net, options, batch(kind), "analytic")


@pytest.mark.parametrize("kind", EMISSIONS)
@pytest.mark.parametrize("given", ["x_prev", "inputs", "both"])
def test_net_agrees_with_the_oracle_given_a_first_frame_or_inputs(kind, given):
    net, options = make(kind)
    x_prev = None if given == "inputs" else batch(kind)[:, 0]
    inputs = None if given == "x_prev" else batch(kind)
    agree(net, options, batch(kind), "iwae", x_prev=x_prev, inputs=inputs)


def test_a_weight_may_be_scheduled_through_zero():
    net, options = make()
    net.weights.aux = options["aux_weight"] = 0.0
    terms = net.terms(batch(), LENGTHS)
    assert (terms.auxiliary != 0).any() and (terms.costs == 0.4 * terms.reverse).all()
    agree(net, options, batch(), "analytic")
    net.weights.aux = options["aux_weight"] = 0.2
    net.weights.reverse = options["reverse_weight"] = 0.1
    agree(net, options, batch(), "analytic")


def test_committed_rate_is_a_floor_of_the_kl():
    rate = 0.6
    net = ZForcing(DiagNormal, 3, **SIZES, committed_rate=rate)
    x = 9 * torch.randn(3, 5, 3)
    terms = net.terms(x, LENGTHS, 2)
    assert terms.kl_per_latent[:, 0].min() > rate / 2  # two latents share it
    assert_close(net.program_terms(x, LENGTHS, latents=terms.latents).log_weight, terms.log_weight)
    with (
        torch.no_grad()
    ):  # all weights 0, biases to the corner: equal means, scales at their bounds
        for network, sign in ((net.prior, -1), (net.posterior, 1)):
            for parameter in network.parameters():
                parameter.zero_()
            network.clamp = 0.0
            network.mlp.layers[-1].bias[2:] = 40.0 * sign
    assert_close(net.terms(x).kl, torch.full((1, 3, 5), rate))


@pytest.mark.parametrize("emission", [DiagNormal, Categorical])
def test_last_frames_are_all_that_the_emission_sees(emission):
    net = ZForcing(emission, 3, **SIZES, **COSTS, last_frames=2)
    symbols = emission is Categorical
    x = torch.randint(3, (3, 6)) if symbols else torch.randn(3, 6, 3)
    lengths = torch.tensor([6, 1, 4])
    terms = net.terms(x, lengths, 2)
    slow = net.program_terms(x, lengths, latents=terms.latents)
    for name in ("log_prior", "log_posterior", "log_emission", "kl_per_latent"):
        assert_close(getattr(slow, name), getattr(terms, name))
    assert_close(slow.costs, terms.costs)
    other = x.clone()
    other[:, 2] = (x[:, 2] + 1) % 3 if symbols else x[:, 2] + 1
    change = (
        net.terms(other, latents=terms.latents).log_emission
        - net.terms(x, latents=terms.latents).log_emission
    )
    assert (change[..., [0, 1, 5]] == 0).all() and (change[..., [2, 3, 4]] != 0).all()
    first = net.terms(x[:, :3], latents=terms.latents[:, :, :3])
    second = net.terms(x[:, 3:], latents=terms.latents[:, :, 3:], state=first.state)
    chunks = torch.cat([first.log_emission, second.log_emission], -1)
    assert_close(chunks, net.terms(x, latents=terms.latents).log_emission)
    assert net.generate(3, 5, prefix=x[:, :2]).shape[:2] == (3, 5)


def test_bag_of_the_future_is_the_auxiliary_target():
    net = ZForcing(DiagNormal, 3, **SIZES | {"embed_dim": 0}, **COSTS, aux_target="bag")
    x = torch.randn(3, 5, 3)
    terms = net.terms(x, LENGTHS, 2)
    expected = torch.zeros(2, 3, 5)
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            output = net.costs.auxiliary(terms.latents[:, i, t])
            expected[:, i, t] = output.log_prob(x[i, t:length].mean(0))
    assert_close(terms.auxiliary, expected)
    assert_close(net.program_terms(x, LENGTHS, latents=terms.latents).costs, terms.costs)
    with TargetFit(net) as fit:
        net.terms(x, LENGTHS)
    assert fit.sums == {}
