"""Z-Forcing against an oracle, and what the paper asks of its parts."""

from functools import partial

import pytest
import torch
from program_cases import program_loss
from torch.testing import assert_close
from zforcing_oracle import Oracle

from zforcing_pyro.emissions import Bernoulli, Categorical, DiagNormal
from zforcing_pyro.estimators import TraceELBO, TraceIWAE
from zforcing_pyro.layers.blocks import concat
from zforcing_pyro.models import ZForcing
from zforcing_pyro.models.zforcing import OFFICIAL_CODE

SIZES = {"z_dim": 2, "h_dim": 4, "hidden_dim": 3, "embed_dim": 3}
COSTS = {"aux_weight": 0.7, "reverse_weight": 0.4}
LENGTHS = torch.tensor([5, 1, 4])
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
    net = ZForcing(EMISSIONS[kind], 3, **SIZES | options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    for option in ("embed_dim", "aux_network", "reverse_network"):
        options.pop(option, None)
    return net, {"emission": kind, **options, **ORACLE.get(kind, {})}


def batch(kind="gaussian", num_sequences=3, num_steps=5):
    shape = num_sequences, num_steps
    if kind == "categorical":
        return torch.randint(3, shape)
    if kind == "bernoulli":
        return torch.randint(2, (*shape, 3)).double()
    return torch.randn(*shape, 3)


def draw_noise(num_particles=NUM_PARTICLES, num_sequences=3, num_steps=5):
    """What the net draws after the same seed: one ``rsample`` a step."""
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


def test_every_parameter_has_a_gradient_to_agree_on():
    net, options = make(injection="layer_norm")
    gradients = agree(net, options, batch(), "analytic")
    assert all((gradient != 0).any() for gradient in gradients.values())


def changes(values, x, perturb, step_dim=-1):
    """Whether value t changes when observation k is perturbed, ``[k][t]``, of one sequence."""
    before = values(x)
    found = []
    for k in range(x.shape[1]):
        other = x.clone()
        other[:, k] = perturb(other[:, k])
        changed = (values(other) != before).movedim(step_dim, 0).flatten(1).any(-1)
        found.append(changed.tolist())
    return found


def pattern(depends, num_steps=5):
    return [[depends(k, t) for t in range(num_steps)] for k in range(num_steps)]


PERTURB = {
    "gaussian": lambda frame: frame + 1,
    "bernoulli": lambda frame: 1 - frame,
    "categorical": lambda symbol: (symbol + 1) % 3,
}


@pytest.mark.parametrize("kind", EMISSIONS)
def test_backward_state_has_read_its_step_and_all_later_ones(kind):
    net, _ = make(kind)
    x, lengths = batch(kind, 1), torch.tensor([4])

    def b(x):
        return net.backward_rnn(net.embed(x), lengths)[:, :4]

    expected = pattern(lambda k, t: t <= k < 4)
    expected = [row[:4] for row in expected]
    assert changes(b, x, PERTURB[kind], step_dim=1) == expected


@pytest.mark.parametrize("kind", EMISSIONS)
@pytest.mark.parametrize("injection", ["concat", "layer_norm"])
def test_each_term_sees_what_the_equations_say(kind, injection):
    net, _ = make(kind, injection=injection, aux_input="h_z")
    x, lengths = batch(kind, 1), torch.tensor([5])
    latents = torch.randn(1, 1, 5, 2)

    def term(name):
        return lambda x: getattr(net.terms(x, lengths, latents=latents), name)

    # The input of step t is observation t - 1: neither prior nor posterior has seen it.
    seen = {
        "log_prior": lambda k, t: k <= t - 2,
        "log_posterior": lambda k, t: k != t - 1,
        "posterior_mean": lambda k, t: k != t - 1,
        "log_emission": lambda k, t: k <= t,
        "auxiliary": lambda k, t: k != t - 1,
        "reverse": lambda k, t: t > 0 and k >= t - 1,
    }
    for name, depends in seen.items():
        step_dim = -2 if name == "posterior_mean" else -1
        assert changes(term(name), x, PERTURB[kind], step_dim) == pattern(depends), name


def test_emission_reads_the_latent_through_the_recurrence_only():
    net, _ = make()
    with torch.no_grad():
        net.cell.weight_z.zero_()
    x, latents = batch(), torch.randn(2, 3, 5, 2)
    first, second = net.terms(x, LENGTHS, 2, latents).log_emission
    assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["gaussian", "l2"])
def test_only_the_target_of_the_auxiliary_cost_is_detached(kind):
    net, _ = make(aux_kind=kind)
    x, lengths = batch(), torch.full((3,), 5)
    torch.manual_seed(1)
    (eps,) = draw_noise(1)

    def auxiliary(target_of):
        """By hand; ``target_of`` says what of b flows back."""
        b = net.backward_rnn(net.embed(x), lengths)
        h = c = torch.zeros(3, 4)
        total, x_prev = 0.0, torch.zeros(3, 3)
        for t in range(5):
            posterior = net.posterior(concat(h, b[:, t])).base_dist
            z, target = posterior.loc + posterior.scale * eps[:, t], target_of(b[:, t])
            if kind == "l2":
                log_density = -(target - net.costs.auxiliary(z).tanh()).square().sum(-1)
            else:
                log_density = net.costs.auxiliary(z).log_prob(target)
            total = total + log_density.sum()
            h, c = net.cell(net.embed(x_prev), z, (h, c))
            x_prev = x[:, t]
        return total

    def gradients(loss):
        grads = torch.autograd.grad(loss, net.parameters(), materialize_grads=True)
        return dict(zip((n for n, _ in net.named_parameters()), grads))

    torch.manual_seed(1)
    terms = net.terms(x, lengths)
    found = gradients(terms.auxiliary.sum())
    assert_close(found, gradients(auxiliary(lambda b: b.detach())), rtol=1e-10, atol=1e-10)
    through_target = gradients(auxiliary(lambda b: b))
    reached = {name.split(".")[0] for name, grad in found.items() if (grad != 0).any()}
    assert reached == {"embed", "cell", "backward_rnn", "posterior", "costs"}
    assert (found["backward_rnn.lstm.weight_hh_l0"] != 0).any()
    assert not torch.allclose(
        found["backward_rnn.lstm.weight_hh_l0"], through_target["backward_rnn.lstm.weight_hh_l0"]
    )
    # With the latents given, nothing but the target depends on the backward LSTM.
    latents = terms.latents.detach()
    scored = gradients(net.terms(x, lengths, latents=latents).auxiliary.sum())
    reached = {name.split(".")[0] for name, grad in scored.items() if (grad != 0).any()}
    assert reached == {"costs"}


def test_reverse_cost_trains_the_backward_lstm_and_no_other():
    net, _ = make()
    loss = net.terms(batch(), LENGTHS).reverse.sum()
    gradients = torch.autograd.grad(loss, net.parameters(), materialize_grads=True)
    names = [name for name, _ in net.named_parameters()]
    reached = {name for name, grad in zip(names, gradients) if (grad != 0).any()}
    assert {name.split(".")[0] for name in reached} == {"embed", "backward_rnn", "costs"}
    assert not any("auxiliary" in name for name in reached)
    assert "backward_rnn.lstm.weight_hh_l0" in reached


def test_a_weight_may_be_scheduled_through_zero():
    net, options = make()
    net.weights.aux = options["aux_weight"] = 0.0
    terms = net.terms(batch(), LENGTHS)
    assert (terms.auxiliary != 0).any() and (terms.costs == 0.4 * terms.reverse).all()
    agree(net, options, batch(), "analytic")
    net.weights.aux = options["aux_weight"] = 0.2
    net.weights.reverse = options["reverse_weight"] = 0.1
    agree(net, options, batch(), "analytic")


def test_a_network_is_an_option_whatever_its_weight():
    assert list(make(aux_weight=0.0)[0].costs.auxiliary.parameters())
    weights = {"aux_weight": 0.0, "reverse_weight": 0.0}
    net, _ = make(**weights, aux_network=False, reverse_network=False)
    assert not list(net.costs.parameters())
    terms = net.terms(batch(), LENGTHS, 2)
    assert (terms.auxiliary == 0).all() and (terms.reverse == 0).all()
    assert terms.auxiliary.shape == terms.reverse.shape == (2, 3, 5)


def test_official_code_departs_from_the_paper_in_three_switches():
    paper, official = make()[0], make(**OFFICIAL_CODE)[0]
    assert not paper.costs.reads_h and official.costs.reads_h
    assert not paper.costs.reverse_needs_aux and official.costs.reverse_needs_aux
    assert paper.prior.half == paper.posterior.half == paper.costs.auxiliary.half == 1
    assert official.prior.half == official.posterior.half == official.costs.auxiliary.half == 0.5
    for net in (paper, official):
        assert net.prior.clamp == net.posterior.clamp == net.costs.auxiliary.clamp == 8
        assert net.costs.auxiliary.tanh_mean and not net.prior.tanh_mean


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"x_dim": 0}, "'x_dim' must be positive, got 0"),
        ({"z_dim": 0}, "'z_dim' must be positive, got 0"),
        ({"h_dim": -1}, "'h_dim' must be positive, got -1"),
        ({"hidden_dim": 0}, "'hidden_dim' must be positive, got 0"),
        ({"embed_dim": -1}, "'embed_dim' must not be negative, got -1"),
        ({"aux_weight": -0.1}, "'aux_weight' must not be negative, got -0.1"),
        ({"reverse_weight": -0.1}, "'reverse_weight' must not be negative, got -0.1"),
        ({"clamp": -1.0}, "'clamp' must not be negative, got -1.0"),
        ({"injection": "add"}, "'injection' must be one of ['concat', 'layer_norm'], got 'add'"),
        ({"aux_kind": "L2"}, "'aux_kind' must be one of ['gaussian', 'l2'], got 'L2'"),
        ({"aux_input": "h"}, "'aux_input' must be one of ['z', 'h_z'], got 'h'"),
        ({"scale": "std"}, "'scale' must be one of ['log_scale', 'log_variance'], got 'std'"),
    ],
)
def test_bad_options_are_named(options, error):
    with pytest.raises(ValueError) as caught:
        ZForcing(DiagNormal, **{"x_dim": 3} | SIZES | options)
    assert str(caught.value) == error
