"""What every model must do. A model in MODELS is tested by being there."""

import copy
import math
import pickle
from functools import partial
from inspect import signature
from typing import Literal, get_args, get_origin, get_type_hints

import pyro
import pytest
import torch
from program_cases import program_loss
from pyro import poutine
from pyro.infer import SVI, Predictive, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from zforcing_pyro.data import Sequence, collate
from zforcing_pyro.emissions import EMISSIONS, Bernoulli, Categorical, DiagNormal
from zforcing_pyro.estimators import TraceELBO, TraceIWAE
from zforcing_pyro.estimators.programs import ProgramPair
from zforcing_pyro.estimators.terms import CostWeights
from zforcing_pyro.layers.blocks import length_mask
from zforcing_pyro.models import MODELS, StochasticRNN
from zforcing_pyro.models.steps import detached, steps
from zforcing_pyro.models.zforcing import OFFICIAL_CODE

X_DIM = 3
SIZES = {"z_dim": 2, "h_dim": 4, "hidden_dim": 3, "embed_dim": 3}
NETWORKS = {"aux_network": True, "reverse_network": True}
COSTS = {"aux_weight": 0.5, "reverse_weight": 0.3, **NETWORKS}
NO_COSTS = dict.fromkeys(COSTS, 0.0) | dict.fromkeys(NETWORKS, False)
KINDS = {"real": DiagNormal, "binary": Bernoulli, "symbols": Categorical}

OPTIONS = {
    "vrnn": [{"prior": "standard"}],
    "srnn": [{"posterior": "filtering"} | NO_COSTS, {"resq": False}, {"aux_kind": "l2"}],
    "dkf": [{"inference": "left"} | NO_COSTS, {"inference": "both"}],
    "zforcing": [
        {"injection": "layer_norm", "aux_kind": "l2", "aux_input": "h_z"},
        OFFICIAL_CODE,
        {"embed_dim": 0, "reverse_weight": 0.0, "reverse_network": False},
        NO_COSTS,
    ],
}
"""Option sets of each model that are tested beside its defaults, on real data."""

CASES = [(name, kind, {}) for name in MODELS for kind in KINDS]
CASES += [(name, "real", options) for name in MODELS for options in OPTIONS.get(name, [])]

LENGTHS = torch.tensor([4, 4, 2, 1])
STEP_LOGS = ("log_prior", "log_posterior", "log_emission", "auxiliary", "reverse")
LOGS = ("log_prior", "log_posterior", "log_emission", "costs")
NUM_SEQUENCES, NUM_STEPS = 4, 4


def case_name(case):
    name, kind, options = case
    return "-".join([name, kind, *(f"{k}={v}" for k, v in options.items())])


def make(name, kind="real", options=()):
    """A small net of a model in MODELS, with costs where it can have them."""
    known = signature(MODELS[name]).parameters
    defaults = {k: v for k, v in (SIZES | COSTS).items() if k in known}
    net = MODELS[name](KINDS[kind], X_DIM, **defaults | dict(options))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def backends(case):
    """Those that a case is held to the contract with: both where there are two."""
    name, _, options = case
    has_two = name in ("zforcing", "vrnn") and options.get("injection") != "layer_norm"
    return ["auto", "reference"] if has_two else ["auto"]


@pytest.fixture(
    params=[(case, backend) for case in CASES for backend in backends(case)],
    ids=lambda param: f"{case_name(param[0])}-{param[1]}",
)
def net(request):
    case, backend = request.param
    net = make(*case)
    net.backend = backend
    return net


@pytest.fixture(params=MODELS)
def real_net(request):
    return make(request.param)


@pytest.fixture(params=[case for case in CASES if not case[2]], ids=case_name)
def plain_net(request):
    return make(*request.param)


def batch(net, num_sequences=NUM_SEQUENCES, num_steps=NUM_STEPS):
    """Observations of the kind that the net's emission is of."""
    shape = num_sequences, num_steps
    if net.emission.symbols:
        return torch.randint(X_DIM, shape)
    if isinstance(net.emission, Bernoulli):
        return torch.randint(2, (*shape, X_DIM)).double()
    return torch.randn(*shape, X_DIM)


def draws(net, num_particles=3, seed=5):
    """Latents to score."""
    torch.manual_seed(seed)
    z_dim = net.terms(batch(net), LENGTHS).latents.shape[-1]
    return torch.randn(num_particles, NUM_SEQUENCES, NUM_STEPS, z_dim)


def gradients(net, loss):
    """By name; 0 where there is none."""
    grads = torch.autograd.grad(loss, net.parameters(), retain_graph=True, materialize_grads=True)
    return dict(zip((name for name, _ in net.named_parameters()), grads))


def seeded(function):
    torch.manual_seed(1)
    return function()


def close(actual, expected):
    assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def agree(net, loss, other):
    """Equal losses and gradients, to 1e-10, from the same seed."""
    loss, other = seeded(loss), seeded(other)
    close(loss, other)
    close(gradients(net, loss), gradients(net, other))


# The fast path and the programs


ESTIMATORS = [TraceELBO(2), TraceELBO(2, analytic_kl=False, kl_weight=0.3), TraceIWAE(3)]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=["analytic", "sampled", "iwae"])
def test_fast_terms_give_the_loss_and_gradients_of_the_programs(net, estimator):
    x = batch(net)

    def fast():
        return -estimator.objective(net.given(x, LENGTHS)).value.sum()

    def programs():
        return program_loss(estimator, net.model, net.guide, x, LENGTHS)

    agree(net, fast, programs)


def arguments(net, given):
    """Arguments of ``terms`` beside the data."""
    first = batch(net)
    known = {
        "particles": {"num_particles": 3},
        "latents": {"latents": draws(net)},
        "first frame": {"state": net.initial_state(NUM_SEQUENCES, first[:, 0])},
        "state": {"state": detached(net.terms(first, LENGTHS).state)},
        "inputs": {"inputs": first},
    }
    known["all"] = {
        "num_particles": 3,
        "latents": draws(net),
        "state": detached(net.terms(first, LENGTHS, num_particles=3).state),
        "inputs": first,
    }
    return known[given]


def test_one_step_is_a_sequence(net):
    x, lengths = batch(net, num_steps=1), torch.ones(NUM_SEQUENCES, dtype=torch.long)
    found = seeded(lambda: net.terms(x, lengths, num_particles=2))
    expected = seeded(lambda: StochasticRNN.terms(net, x, lengths, num_particles=2))
    for name in LOGS:
        close(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("given", ["particles", "latents", "first frame", "state", "inputs", "all"])
def test_fast_terms_are_those_of_the_trace_one_by_one(net, given):
    x, options = batch(net), arguments(net, given)
    terms = seeded(lambda: net.terms(x, LENGTHS, **options))
    traced = seeded(lambda: StochasticRNN.terms(net, x, LENGTHS, **options))
    num_particles = len(options.get("latents", range(options.get("num_particles", 1))))
    shape = num_particles, NUM_SEQUENCES, NUM_STEPS
    total, traced_total = 0.0, 0.0
    for name in (*LOGS, "kl"):
        term, other = getattr(terms, name), getattr(traced, name)
        assert term.shape == other.shape == shape, name
        close(term, other)
        weight = torch.randn(shape)
        total, traced_total = total + (weight * term).sum(), traced_total + (weight * other).sum()
    close(terms.kl_per_latent, traced.kl_per_latent)
    close(terms.posterior_mean, traced.posterior_mean)
    close(terms.latents, traced.latents)
    assert terms.latents.shape[:3] == terms.kl_per_latent.shape[:3] == shape
    close(terms.state, {n: v.view_as(terms.state[n]) for n, v in traced.state.items()})
    assert terms.scale == traced.scale == 1
    close(gradients(net, total), gradients(net, traced_total))


@pytest.mark.parametrize("given", ["particles", "all"])
def test_steps_one_by_one_give_the_terms(net, given):
    x, options = batch(net), arguments(net, given)
    terms = seeded(lambda: net.terms(x, LENGTHS, **options))
    torch.manual_seed(1)
    known = {name: options.get(name) for name in ("state", "inputs")}
    context, last = net.context(x, LENGTHS, **known)
    state = net.particles(x, 3, known["state"])
    latents = [None] * NUM_STEPS
    if "latents" in options:
        latents = options["latents"].unbind(-2)
    found = []
    for step_context, z in zip(steps(context), latents):
        state, step_terms = net.step(state, step_context, z)
        found.append(step_terms)
    for name in STEP_LOGS:
        close(torch.stack([getattr(f, name) for f in found], -1), getattr(terms, name))
    close(torch.stack([f.latents for f in found], -2), terms.latents)
    close(torch.stack([f.log_weight for f in found], -1).sum(-1), terms.log_weight)
    assert (last | state).keys() == terms.state.keys()
    for name, entry in (last | state).items():
        close(entry, terms.state[name].expand_as(entry))


@pytest.mark.parametrize("emission", EMISSIONS)
def test_any_emission_serves_any_model(emission):
    """Costs included: a reverse network is of the emission's family."""
    for name in MODELS:
        known = signature(MODELS[name]).parameters
        options = {k: v for k, v in (SIZES | COSTS).items() if k in known}
        net = MODELS[name](EMISSIONS[emission], X_DIM, **options)
        x = net.generate(NUM_SEQUENCES, NUM_STEPS)
        template = net.emission.template(NUM_SEQUENCES, NUM_STEPS, torch.zeros(()))
        assert x.shape == template.shape and x.dtype == template.dtype
        traced = seeded(lambda net=net, x=x: StochasticRNN.terms(net, x, LENGTHS, 2))
        fast = seeded(lambda net=net, x=x: net.terms(x, LENGTHS, 2))
        for term in ("log_weight", "costs"):
            close(getattr(fast, term), getattr(traced, term))


# Pyro's own objectives


@pytest.mark.parametrize("num_particles", [1, 3])
def test_elbo_is_that_of_pyro(net, num_particles):
    pyros = Trace_ELBO(num_particles, vectorize_particles=True, max_plate_nesting=1)
    ours, x = TraceELBO(num_particles, analytic_kl=False), batch(net)
    programs = net.model, net.guide, x, LENGTHS
    agree(
        net,
        lambda: program_loss(ours, *programs),
        lambda: pyros.differentiable_loss(*programs),
    )


@pytest.mark.parametrize("num_particles", [1, 3])
def test_analytic_elbo_is_that_of_pyro(net, num_particles):
    pyros = TraceMeanField_ELBO(num_particles, vectorize_particles=True, max_plate_nesting=1)
    ours, x = TraceELBO(num_particles), batch(net)
    programs = net.model, net.guide, x, LENGTHS
    agree(
        net,
        lambda: program_loss(ours, *programs),
        lambda: pyros.differentiable_loss(*programs),
    )


@pytest.mark.parametrize("num_particles", [2, 5])
def test_iwae_is_that_of_pyro_without_costs(plain_net, num_particles):
    net, x = without_costs(plain_net), batch(plain_net)
    pyros = RenyiELBO(
        alpha=0, num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1
    )
    found = []
    for elbo in (TraceIWAE(num_particles), pyros):
        net.zero_grad()
        loss = seeded(lambda elbo=elbo: elbo.loss_and_grads(net.model, net.guide, x, LENGTHS))
        grads = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone()
                 for n, p in net.named_parameters()}  # fmt: skip
        found.append((torch.tensor(loss), grads))
    close(*found)


def without_costs(net):
    net.costs = None if net.costs is None else set_weights(net, 0.0, 0.0).costs
    return net


def set_weights(net, aux_weight, reverse_weight):
    net.weights.aux, net.weights.reverse = aux_weight, reverse_weight
    return net


def test_predictive_draws_from_the_guide(real_net):
    x = batch(real_net)
    predictive = Predictive(real_net.guide, num_samples=5, parallel=True, return_sites=["z_0"])
    assert predictive(x, LENGTHS)["z_0"].shape[:2] == (5, NUM_SEQUENCES)


# Costs


HAS_COSTS = [c for c in CASES if make(*c).costs is not None and list(make(*c).costs.parameters())]


@pytest.mark.parametrize("case", HAS_COSTS, ids=case_name)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=["analytic", "sampled", "iwae"])
def test_costs_change_the_objective_and_no_bound(case, estimator):
    net = make(*case)
    x = batch(net)

    def objective(scale):
        weights = scale * COSTS["aux_weight"], scale * COSTS["reverse_weight"]
        given = set_weights(net, *weights).given(x, LENGTHS)
        return seeded(lambda: estimator.objective(given))

    none, once, twice = objective(0), objective(1), objective(2)
    close(none.value, none.bound)
    close(once.bound, none.bound)
    close(twice.bound, none.bound)
    close(twice.value - twice.bound, 2 * (once.value - once.bound))
    # A sequence of one step has nothing to reverse, and may have no more than that cost.
    assert ((once.value - once.bound)[:3] != 0).all()


@pytest.mark.parametrize("case", HAS_COSTS, ids=case_name)
def test_no_gradient_flows_into_the_target_of_the_auxiliary_cost(case):
    net = make(*case)
    latents = draws(net)
    terms = net.terms(batch(net), LENGTHS, latents=latents)
    reached = {n.split(".")[0] for n, g in gradients(net, terms.auxiliary.sum()).items() if g.any()}
    assert "backward_rnn" not in reached
    if net.costs.reverse is not None:
        trained = {n for n, g in gradients(net, terms.reverse.sum()).items() if g.any()}
        assert "backward_rnn.lstm.weight_hh_l0" in trained


# What may depend on what


def perturbed(net, x, k):
    x = x.clone()
    if net.emission.symbols:
        x[:, k] = (x[:, k] + 1) % X_DIM
    elif isinstance(net.emission, Bernoulli):
        x[:, k] = 1 - x[:, k]
    else:
        x[:, k] += 1
    return x


def test_the_model_is_causal(net):
    """p(z_t | past) has not seen x_t, and p(x_t | z, past) nothing later than x_t."""
    x, latents, lengths = batch(net), draws(net), torch.full((NUM_SEQUENCES,), NUM_STEPS)
    before = net.terms(x, lengths, latents=latents)
    for k in range(NUM_STEPS):
        after = net.terms(perturbed(net, x, k), lengths, latents=latents)
        assert (after.log_prior == before.log_prior)[..., : k + 1].all()
        assert (after.log_emission == before.log_emission)[..., :k].all()
        assert (after.log_emission != before.log_emission)[..., k].all()


def test_inputs_replace_what_the_generative_recurrence_reads(net):
    """Emissions of step t read input t - 1 in place of observation t - 1."""
    x, latents, lengths = batch(net), draws(net), torch.full((NUM_SEQUENCES,), NUM_STEPS)
    same = net.terms(x, lengths, latents=latents, inputs=x)
    close(same.log_emission, net.terms(x, lengths, latents=latents).log_emission)
    for k in range(NUM_STEPS):
        other = net.terms(x, lengths, latents=latents, inputs=perturbed(net, x, k))
        assert (other.log_emission == same.log_emission)[..., : k + 1].all()
        assert (other.log_prior == same.log_prior)[..., : k + 1].all()
    moved = net.terms(perturbed(net, x, 1), lengths, latents=latents, inputs=x)
    changed = (moved.log_emission != same.log_emission).flatten(0, 1).any(0)
    assert changed.tolist() == [False, True, False, False]


def test_a_model_says_whether_it_reads_inputs(net):
    x, latents = batch(net), draws(net)
    dropped = net.drop_frames(x, torch.ones(NUM_SEQUENCES, NUM_STEPS, dtype=torch.bool))
    found = [net.terms(x, LENGTHS, latents=latents, inputs=v) for v in (x, dropped)]
    changed = [(getattr(found[0], f) != getattr(found[1], f)).any() for f in LOGS]
    assert any(changed) == net.reads_inputs


def test_dropped_frames_are_start_frames(net):
    x, dropped = batch(net), torch.zeros(NUM_SEQUENCES, NUM_STEPS, dtype=torch.bool)
    dropped[1:3, 2] = True
    inputs = net.drop_frames(x, dropped)
    close(inputs[dropped], net.embed.start(x)[1:3])
    close(inputs[~dropped], x[~dropped])
    assert net.terms(x, LENGTHS, inputs=inputs).log_emission.isfinite().all()


# Padding, batches and particles


def padding_of(net):
    """Values that may stand past a length, whatever they are."""
    return [-7, 10**6] if net.emission.symbols else [math.nan, math.inf, 7.0]


@pytest.mark.parametrize("estimator", [TraceELBO(2), TraceIWAE(2)], ids=["elbo", "iwae"])
def test_what_stands_at_the_padding_changes_no_loss_and_no_gradient(net, estimator):
    x, inputs = batch(net), batch(net)
    mask = length_mask(LENGTHS, NUM_STEPS)

    def fast(x, inputs):
        return lambda: estimator.objective(net.given(x, LENGTHS, inputs=inputs)).value.sum()

    def programs(x, inputs):
        programs = net.model, net.guide, x, LENGTHS
        return lambda: program_loss(estimator, *programs, inputs=inputs)

    for value in padding_of(net):
        dirty, dirty_inputs = x.clone(), inputs.clone()
        dirty[~mask] = dirty_inputs[~mask] = value
        for loss in (fast, programs):
            agree(net, loss(dirty, dirty_inputs), loss(x, inputs))


def test_appended_padding_changes_no_loss_and_no_gradient(net):
    x = batch(net)
    longer = torch.cat([x, batch(net, num_steps=3)], dim=1)

    def loss(x):
        return lambda: TraceIWAE(2).objective(net.given(x, LENGTHS)).value.sum()

    agree(net, loss(longer), loss(x))


def test_a_sequence_has_the_same_terms_alone(net):
    x, latents = batch(net), draws(net)
    together = net.terms(x, LENGTHS, latents=latents)
    for i, n in enumerate(LENGTHS):
        alone = net.terms(x[i : i + 1, :n], LENGTHS[i : i + 1], latents=latents[:, i : i + 1, :n])
        for name in (*LOGS, "kl"):
            close(getattr(alone, name), getattr(together, name)[:, i : i + 1, :n])
            assert (getattr(together, name)[:, i, n:] == 0).all()


def steps_of(net, x, lengths, latents, state):
    """Terms of :meth:`step`, all steps together."""
    context, _ = net.context(x, lengths, state)
    particles, found = net.particles(x, len(latents), state), []
    for context_t, z in zip(steps(context), latents.unbind(-2)):
        particles, terms = net.step(particles, context_t, z)
        found.append(terms)
    logs = {f: torch.stack([getattr(terms, f) for terms in found], -1) for f in STEP_LOGS}
    weights = CostWeights() if net.costs is None else net.costs.active(net.weights)
    costs = weights.aux * logs["auxiliary"] + weights.reverse * logs["reverse"]
    return logs | {"costs": costs}


def test_a_sequence_has_the_same_terms_where_only_others_have_a_frame_before(net):
    """As among windows of sequences, by :func:`collate`."""
    x, latents = batch(net), draws(net)
    starts = [None if i % 2 else start for i, start in enumerate(batch(net, num_steps=1)[:, 0])]
    items = [Sequence(v[:n], start) for v, n, start in zip(x, LENGTHS, starts)]
    x, lengths, start = collate(items)
    state = net.initial_state(len(x), start)
    fast = net.terms(x, lengths, latents=latents, state=state)
    slow = StochasticRNN.terms(net, x, lengths, latents=latents, state=state)
    by_steps = steps_of(net, x, lengths, latents, state)
    for i, (n, start) in enumerate(zip(LENGTHS, starts)):
        own = None if start is None else net.initial_state(1, start[None])
        one = slice(i, i + 1)
        alone = net.terms(x[one, :n], LENGTHS[one], latents=latents[:, one, :n], state=own)
        for name in LOGS:
            expected = getattr(alone, name)[:, 0]
            for found in (getattr(fast, name), getattr(slow, name), by_steps[name]):
                close(found[:, i, :n], expected)
    loss = -sum(getattr(fast, name).sum() for name in LOGS)
    assert all(gradient.isfinite().all() for gradient in gradients(net, loss).values())


def test_particles_are_separate_runs(net):
    x, latents = batch(net), draws(net)
    together = net.terms(x, LENGTHS, latents=latents)
    for k in range(3):
        alone = net.terms(x, LENGTHS, latents=latents[k : k + 1])
        for name in (*LOGS, "kl"):
            close(getattr(alone, name)[0], getattr(together, name)[k])
    mean = torch.stack(
        [TraceELBO().bound(net.terms(x, LENGTHS, latents=z[None])) for z in latents]
    ).mean(0)
    close(TraceELBO(3).bound(together), mean)


def test_particles_are_independent_draws(net):
    z = net.terms(batch(net), LENGTHS, num_particles=2).latents
    assert (z[0] != z[1]).all()


# Generation


def log_densities(trace, probe):
    """Of fixed observations, at every step: what the emission's parameters are."""
    steps = range(probe.shape[1])
    return torch.stack([trace.nodes[f"x_{t}"]["fn"].log_prob(probe[:, t]) for t in steps])


def values(trace, name, num_steps=NUM_STEPS):
    return [trace.nodes[f"{name}_{t}"]["value"] for t in range(num_steps)]


def test_the_unconditioned_program_feeds_on_its_own_samples(net):
    x, probe = batch(net), batch(net)
    lengths = torch.full((NUM_SEQUENCES,), NUM_STEPS)
    free = poutine.trace(poutine.uncondition(net.model)).get_trace(x, lengths)
    drawn = torch.stack(values(free, "x"), 1)
    assert drawn.shape == x.shape and drawn.dtype == x.dtype and (drawn != x).any()
    given = {f"z_{t}": z for t, z in enumerate(values(free, "z"))}
    forced = poutine.trace(poutine.condition(net.model, given)).get_trace(drawn, lengths)
    close(log_densities(forced, probe), log_densities(free, probe))


def test_generation_draws_from_the_unconditioned_program(net):
    lengths, empty = torch.full((5,), NUM_STEPS), torch.zeros_like(batch(net, 5))
    drawn = seeded(lambda: net.generate(5, NUM_STEPS))
    program = poutine.trace(poutine.uncondition(net.model))
    free = seeded(lambda: program.get_trace(empty, lengths))
    assert_close(drawn, torch.stack(values(free, "x"), 1), rtol=0, atol=0)
    assert not drawn.requires_grad
    assert (net.generate(5, NUM_STEPS) != drawn).any()


@pytest.mark.parametrize("prefix_steps", [1, 3, NUM_STEPS])
def test_a_continuation_goes_on_from_the_state_after_the_prefix(net, prefix_steps):
    prefix = batch(net, num_steps=prefix_steps)
    lengths = torch.full((NUM_SEQUENCES,), prefix_steps)
    drawn = seeded(lambda: net.generate(NUM_SEQUENCES, NUM_STEPS, prefix))
    assert_close(drawn[:, :prefix_steps], prefix, rtol=0, atol=0)
    if prefix_steps == NUM_STEPS:
        return
    torch.manual_seed(1)
    guide = poutine.trace(net.guide).get_trace(prefix, lengths)
    latents = {f"z_{t}": z for t, z in enumerate(values(guide, "z", prefix_steps))}
    state = poutine.condition(net.model, latents)(prefix, lengths)
    rest = torch.full((NUM_SEQUENCES,), NUM_STEPS - prefix_steps)
    program = poutine.trace(poutine.uncondition(net.model))
    free = program.get_trace(torch.zeros_like(drawn[:, prefix_steps:]), rest, state)
    expected = torch.stack(values(free, "x", NUM_STEPS - prefix_steps), 1)
    assert_close(drawn[:, prefix_steps:], expected)


# Parameters


LOSSES = {
    "elbo": partial(TraceELBO, 2),
    "iwae": partial(TraceIWAE, 2),
    "pyro": partial(Trace_ELBO, max_plate_nesting=1),
}


def parameters_of(net):
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_svi_moves_every_parameter_of_its_own_net(case, loss):
    pyro.clear_param_store()
    name, kind, options = case
    # More latents, so that a network of them with a ReLU is not all dead.
    options = options | {"z_dim": 6} if name != "rnn" else options
    nets = make(name, kind, options), make(name, kind, options)
    x = batch(nets[0], 8)
    lengths = torch.tensor([4, 4, 4, 4, 4, 3, 2, 1])
    for net, other in (nets, nets[::-1]):
        before, before_other = parameters_of(net), parameters_of(other)
        svi = SVI(net.model, net.guide, pyro.optim.Adam({"lr": 0.01}), loss=LOSSES[loss]())
        assert math.isfinite(svi.step(x, lengths))
        moved = {name for name, p in parameters_of(net).items() if (p != before[name]).any()}
        assert moved == before.keys()
        assert_close(parameters_of(other), before_other, rtol=0, atol=0)
    assert not list(pyro.get_param_store().keys())


def test_svi_trains_two_nets_with_one_loss(real_net):
    """Even if one is a copy of the other."""
    x, nets = batch(real_net), (real_net, copy.deepcopy(real_net), make("zforcing"))

    def loss(model, guide, *args):
        elbo = TraceELBO(5)
        return sum(elbo.differentiable_loss(net.model, net.guide, *args) for net in nets)

    before = [parameters_of(net) for net in nets]
    svi = SVI(real_net.model, real_net.guide, pyro.optim.Adam({"lr": 0.01}), loss=loss)
    svi.step(x, LENGTHS)
    for net, was in zip(nets, before):
        moved = {name for name, p in parameters_of(net).items() if (p != was[name]).any()}
        assert moved == was.keys()


def test_svi_goes_where_a_torch_optimiser_goes(real_net):
    x, twin = batch(real_net), copy.deepcopy(real_net)
    svi = SVI(real_net.model, real_net.guide, pyro.optim.Adam({"lr": 0.01}), loss=TraceIWAE(2))
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    for seed in range(3):
        torch.manual_seed(seed)
        svi.step(x, LENGTHS)
        torch.manual_seed(seed)
        optimizer.zero_grad()
        (-TraceIWAE(2).objective(twin.given(x, LENGTHS)).value.sum()).backward()
        optimizer.step()
    assert_close(parameters_of(real_net), parameters_of(twin), rtol=0, atol=1e-8)


def test_a_run_leaves_nothing_on_the_module(real_net):
    attributes, state = set(vars(real_net)), copy.deepcopy(real_net.state_dict())
    TraceELBO().loss_and_grads(real_net.model, real_net.guide, batch(real_net), LENGTHS)
    real_net.generate(2, 3)
    assert set(vars(real_net)) == attributes
    assert_close(dict(real_net.state_dict()), dict(state), rtol=0, atol=0)


def test_a_net_can_be_copied_and_pickled_after_a_run(real_net):
    x = batch(real_net)
    loss = seeded(lambda: TraceELBO().loss(real_net.model, real_net.guide, x, LENGTHS))
    for twin in (copy.deepcopy(real_net), pickle.loads(pickle.dumps(real_net))):
        assert (
            seeded(lambda twin=twin: TraceELBO().loss(twin.model, twin.guide, x, LENGTHS)) == loss
        )


# Devices and dtypes


def everything(net, x, lengths):
    """Runs all that a net can do."""
    state = net.initial_state(len(x), x[:, 0])
    for estimator in (TraceELBO(2), TraceIWAE(2)):
        args = x, lengths, state, x
        for given in (net.given(*args), ProgramPair(net.model, net.guide, *args)):
            objective = estimator.objective(given)
            objective.value.sum().backward()
    latents = net.terms(x, lengths, 2).latents
    net.terms(x, lengths, latents=latents.detach())
    context, _ = net.context(x, lengths, state)
    particles = net.particles(x, 2, state)
    for step_context in steps(context):
        particles, _ = net.step(particles, step_context)
    net.drop_frames(x, torch.zeros_like(x[..., 0] if x.dim() == 3 else x, dtype=torch.bool))
    return [objective.value, net.generate(len(x), 3), net.generate(len(x), 5, x)]


FACTORIES = (
    torch.arange, torch.as_tensor, torch.empty, torch.eye, torch.full, torch.linspace, torch.normal,
    torch.ones, torch.rand, torch.randint, torch.randn, torch.randperm, torch.tensor, torch.zeros,
)  # fmt: skip


class OtherDefaultDevice(TorchFunctionMode):
    """Makes tensors of no given device on "meta", which mixes with no other and has no values.

    As ``torch.device("meta")``, but for ``as_tensor``, by which that moves tensors that exist.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        is_given = any(isinstance(arg, torch.Tensor) for arg in (*args, *kwargs.values()))
        if function in FACTORIES and not is_given and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return function(*args, **kwargs)


def test_no_tensor_is_made_on_a_default_device(net):
    x, lengths = batch(net), LENGTHS.clone()
    with OtherDefaultDevice():
        assert torch.zeros(3).is_meta and torch.tensor(1.0).is_meta
        with pytest.raises(RuntimeError):
            torch.zeros(4, 4, 3) + torch.ones(4, 4, 3, device="cpu")
        found = everything(net, x, lengths)
        TraceIWAE(2).loss_and_grads(net.model, net.guide, x, lengths)
        Trace_ELBO(max_plate_nesting=1).loss_and_grads(net.model, net.guide, x, lengths)
    assert all(value.device.type == "cpu" for value in found)
    assert all(parameter.grad.device.type == "cpu" for parameter in net.parameters())


def test_everything_runs_on_the_device_of_the_module(real_net):
    net, x, lengths = real_net, batch(real_net).to("meta"), LENGTHS.to("meta")
    with pyro.validation_enabled(False):  # whose checks read values, and "meta" has none
        found = everything(net.to("meta"), x, lengths)
    assert all(value.is_meta for value in found)


def test_terms_have_the_dtype_of_the_module(plain_net):
    net = plain_net.float()
    x = batch(net)
    x = x if net.emission.symbols else x.float()
    for terms in (net.terms(x, LENGTHS, 2), StochasticRNN.terms(net, x, LENGTHS, 2)):
        for term in terms[:6]:
            assert term.dtype == torch.float32
    assert net.generate(2, 3).dtype == x.dtype


def test_densities_are_of_full_precision_under_autocast(net):
    net, x = net.float(), batch(net)
    x = x if net.emission.symbols else x.float()
    with torch.autocast("cpu", torch.bfloat16):
        fast = net.terms(x, LENGTHS, 2)
        latents = fast.latents.detach()
        slow = StochasticRNN.terms(net, x, LENGTHS, latents=latents)
        by_steps = steps_of(net, x, LENGTHS, latents, None)
    exact = net.terms(x, LENGTHS, latents=latents)
    for name in LOGS:
        for found in (getattr(fast, name), getattr(slow, name), by_steps[name]):
            assert found.dtype == torch.float32
            assert_close(found, getattr(exact, name), rtol=0.03, atol=0.1)
    loss = -sum(getattr(fast, name).sum() for name in LOGS)
    assert all(gradient.isfinite().all() for gradient in gradients(net, loss).values())


# Bad input


def error_of(function, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def both_paths(net, x, lengths):
    error = error_of(net.terms, x, lengths)
    assert error_of(net.model, x, lengths) == error
    with pytest.raises(ValueError) as caught:
        TraceELBO().loss(net.model, net.guide, x, lengths)
    # Pyro's trace appends its shapes to what goes wrong in a program.
    assert str(caught.value).splitlines()[0] == error
    return error


NAN = torch.zeros(2, 5, 3, dtype=torch.float64).index_put_(
    (torch.tensor(1), torch.tensor(2)), torch.tensor(math.nan, dtype=torch.float64)
)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (
            torch.zeros(2, 5),
            "'x' must have shape (batch, time, x_dim) and not be empty, got (2, 5)",
        ),
        (
            torch.zeros(0, 5, 3),
            "'x' must have shape (batch, time, x_dim) and not be empty, got (0, 5, 3)",
        ),
        (
            torch.zeros(2, 0, 3),
            "'x' must have shape (batch, time, x_dim) and not be empty, got (2, 0, 3)",
        ),
        (torch.zeros(2, 5, 4), "'x' must have x_dim 3, got 4"),
        (torch.zeros(2, 5, 3).long(), "'x' must be of a floating dtype, got torch.int64"),
        (NAN, "'x' must be finite in valid steps, got NaN or infinity"),
        (NAN / 0, "'x' must be finite in valid steps, got NaN or infinity"),
    ],
)
def test_bad_vectors_are_named(real_net, x, error):
    assert both_paths(real_net, x, torch.tensor([5, 3])) == error


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (
            torch.zeros(2, 5, 3).long(),
            "'x' must have shape (batch, time) and not be empty, got (2, 5, 3)",
        ),
        (
            torch.zeros(2, 5).int(),
            "'x' must hold symbols of dtype torch.int64, got torch.int32",
        ),
        (torch.zeros(2, 5), "'x' must hold symbols of dtype torch.int64, got torch.float"),
        (torch.tensor([[0, 3, 2]] * 2), "'x' must hold symbols in 0..2, got 0..3"),
        (torch.tensor([[0, 1, -1]] * 2), "'x' must hold symbols in 0..2, got -1..1"),
    ],
)
@pytest.mark.parametrize("name", MODELS)
def test_bad_symbols_are_named(name, x, error):
    assert both_paths(make(name, "symbols"), x, torch.tensor([3, 3])).startswith(error)


@pytest.mark.parametrize(
    ("lengths", "error"),
    [
        (torch.tensor([5, 0]), "'lengths' must be in 1..5, got [5, 0]"),
        (torch.tensor([6, 1]), "'lengths' must be in 1..5, got [6, 1]"),
        (torch.tensor([5]), "'lengths' must be 2 integers, got torch.int64 of shape (1,)"),
        (torch.tensor([[5, 5]]), "'lengths' must be 2 integers, got torch.int64 of shape (1, 2)"),
        (
            torch.tensor([5.0, 5.0], dtype=torch.float32),
            "'lengths' must be 2 integers, got torch.float32 of shape (2,)",
        ),
    ],
)
def test_bad_lengths_are_named(real_net, lengths, error):
    assert both_paths(real_net, torch.zeros(2, 5, 3), lengths) == error


def test_values_are_not_checked_if_validation_is_off(real_net):
    with pyro.validation_enabled(False):
        assert real_net.terms(NAN, torch.tensor([5, 3])).log_emission.isnan().any()


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ((3, 2, 3), "'prefix' must be of 2 sequences of 1..5 steps, got shape (3, 2, 3)"),
        ((2, 6, 3), "'prefix' must be of 2 sequences of 1..5 steps, got shape (2, 6, 3)"),
        ((2, 0, 3), "'prefix' must be of 2 sequences of 1..5 steps, got shape (2, 0, 3)"),
        ((2,), "'prefix' must be of 2 sequences of 1..5 steps, got shape (2,)"),
        ((2, 3, 4), "'prefix' must have x_dim 3, got 4"),
    ],
)
def test_bad_prefixes_are_named(real_net, shape, error):
    assert error_of(real_net.generate, 2, 5, torch.zeros(shape)) == error


def test_numbers_to_generate_must_be_positive(real_net):
    assert error_of(real_net.generate, 0, 5) == "'num_sequences' must be positive, got 0"
    assert error_of(real_net.generate, 2, 0) == "'num_steps' must be positive, got 0"


@pytest.mark.parametrize("name", MODELS)
def test_unknown_options_are_named(name):
    hints = get_type_hints(MODELS[name].__init__)
    for option, hint in hints.items():
        if get_origin(hint) is Literal:
            error = error_of(MODELS[name], DiagNormal, 3, **{option: "none"})
            assert error == f"'{option}' must be one of {list(get_args(hint))}, got 'none'"


@pytest.mark.parametrize("name", MODELS)
def test_bad_sizes_and_weights_are_named(name):
    known = signature(MODELS[name]).parameters
    sizes = [size for size in ("x_dim", "z_dim", "h_dim", "hidden_dim") if size in known]
    for size in sizes:
        options = {"x_dim": 3} | {size: 0}
        assert error_of(MODELS[name], DiagNormal, **options) == f"'{size}' must be positive, got 0"
    for number in ("embed_dim", "aux_weight", "reverse_weight", "clamp"):
        if number in known:
            error = error_of(MODELS[name], DiagNormal, 3, **{number: -1})
            assert error == f"'{number}' must not be negative, got -1"
    error = error_of(MODELS[name], Categorical, 3, embed_dim=0)
    assert error == "'embed_dim' must be positive for symbols, got 0"
