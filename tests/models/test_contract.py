"""The contract of a model: every entry of the registry, and the README's own, keeps to it."""

import copy
import math
import pickle
import types
from functools import partial

import pyro
import pytest
import torch
from family_cases import (
    LENGTHS,
    batch,
    build,
    case_name,
    contract_cases,
    latents_of,
    models,
    options_of,
    vector_cases,
)
from program_cases import program_loss
from pyro import poutine
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch.testing import assert_close

from zforcing_pyro.data import Sequence, collate
from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.estimators import TraceELBO, TraceIWAE, TraceWalkback
from zforcing_pyro.estimators.programs import ProgramPair
from zforcing_pyro.layers.blocks import length_mask
from zforcing_pyro.models import StochasticRNN
from zforcing_pyro.models.free_running import free_run
from zforcing_pyro.models.steps import detached, scored, steps

CASES = contract_cases()
FULL = torch.tensor([5, 5, 5])
LOGS = ("log_prior", "log_posterior", "log_emission", "costs")
ESTIMATORS = {
    "analytic": TraceELBO(2),
    "sampled": TraceELBO(2, analytic_kl=False, kl_weight=0.3),
    "iwae": TraceIWAE(3),
}


@pytest.fixture(params=CASES, ids=case_name)
def net(request):
    """Each model with each kind of data, and each of its variants."""
    return build(*request.param)


@pytest.fixture(params=[c for c in CASES if not c[2]], ids=case_name)
def plain_net(request):
    """Each model with each kind of data."""
    return build(*request.param)


@pytest.fixture(params=models())
def real_net(request):
    return build(request.param)


def data(net, num_sequences=3, num_steps=5):
    """Observations of the kind that the net's emission is of."""
    kind = "categorical" if net.emission.symbols else "gaussian"
    kind = "bernoulli" if type(net.emission).__name__ == "Bernoulli" else kind
    return batch(kind, num_sequences, num_steps)


def gradients(net, loss):
    """By name; 0 where there is none."""
    grads = torch.autograd.grad(loss, net.parameters(), retain_graph=True, materialize_grads=True)
    return dict(zip((name for name, _ in net.named_parameters()), grads))


def seeded(function):
    torch.manual_seed(1)
    return function()


close = partial(assert_close, rtol=1e-10, atol=1e-10)


def agree(net, loss, other):
    """Equal losses and gradients, to 1e-10, from the same seed."""
    loss, other = seeded(loss), seeded(other)
    close(loss, other)
    close(gradients(net, loss), gradients(net, other))


def objective(estimator, net, *args, **options):
    return lambda: -estimator.objective(net.given(*args, **options)).value.sum()


def loss_of_programs(estimator, net, *args, **options):
    return lambda: program_loss(estimator, net.model, net.guide, *args, **options)


# The fast path and the programs


@pytest.mark.parametrize("name", ESTIMATORS)
def test_objective_and_gradients_are_those_of_the_programs(net, name):
    args = ESTIMATORS[name], net, data(net), LENGTHS
    agree(net, objective(*args), loss_of_programs(*args))


def arguments(net, kind):
    """Arguments of ``terms`` beside the data."""
    state = net.initial_state(3, data(net)[:, 0])
    drawn = {n: v if n == "x_prev" else torch.randn_like(v) for n, v in state.items()}
    return {
        "particles": {"num_particles": 3},
        "first frame": {"state": state, "latents": latents_of(net, 2)},
        "all": {"state": drawn, "inputs": data(net), "num_particles": 2},
    }[kind]


@pytest.mark.parametrize("kind", ["particles", "first frame", "all"])
def test_fast_terms_are_those_of_the_programs_one_by_one(net, kind):
    x, options = data(net), arguments(net, kind)
    found = []
    for terms in (net.terms, net.program_terms):
        terms = seeded(partial(terms, x, LENGTHS, **options))
        shape = len(terms.latents), 3, 5
        logs = [getattr(terms, name) for name in (*LOGS, "kl")]
        assert all(log.shape == shape for log in logs)
        assert terms.states.shape[:-1] == shape
        values = *logs, terms.states
        total = sum((torch.linspace(-1, 2, v.numel()).view_as(v) * v).sum() for v in values)
        means = terms.posterior_mean, terms.prior_mean, terms.states
        others = terms.kl_per_latent, *means, terms.latents, terms.state, terms.scale
        found.append((logs, others, gradients(net, total)))
    close(*found)


def test_steps_one_by_one_give_the_terms(net):
    if not net.has_steps:
        if type(net).context is StochasticRNN.context:
            with pytest.raises(NotImplementedError, match="has no fast path, only programs"):
                net.context(None)
        return
    x, options = data(net), arguments(net, "all")
    terms = seeded(lambda: net.terms(x, LENGTHS, **options))
    torch.manual_seed(1)
    options.pop("num_particles")
    net_batch = net.batch(x, LENGTHS, **options)
    context, last = net.full_context(net_batch)
    state, logs = net.particles(net_batch, 2), []
    for context_t in steps(context):
        path = net.path(context_t, state, None)
        state = path.state
        logs.append(scored(path, context_t, closed_form=False))
    for name in ("log_prior", "log_posterior", "log_emission", "auxiliary", "reverse", "latents"):
        close(torch.cat([getattr(log, name) for log in logs], 2), getattr(terms, name))
    assert (last | state).keys() == terms.state.keys()
    for name, entry in (last | state).items():
        close(entry, terms.state[name].expand_as(entry))


@pytest.mark.parametrize("program", ["model", "guide"])
@pytest.mark.parametrize("where", ["subclass", "instance"])
def test_an_overridden_program_is_what_runs(real_net, program, where):
    """W1: terms, steps and every bound are those of the program, not of the parent's fast path."""
    net, x, parent = real_net, data(real_net), type(real_net)

    def swapped(self, x, lengths=None, state=None, inputs=None):
        other = None if inputs is None else inputs.flip(0)
        return getattr(parent, program)(self, 1 + x, lengths, state, other)

    if where == "subclass":
        net.__class__ = type("Sub", (parent,), {program: swapped})
    else:
        setattr(net, program, types.MethodType(swapped, net))
    assert not net.has_fast and not net.has_steps and not net.draws_by_steps
    for estimator in (TraceELBO(2), TraceIWAE(2)):
        args = estimator, net, x, LENGTHS
        agree(net, objective(*args), loss_of_programs(*args))
    latents = latents_of(net, 2)
    expected = net.program_terms(x, LENGTHS, latents=latents).log_weight
    close(net.terms(x, LENGTHS, latents=latents).log_weight, expected)
    filtered = seeded(lambda: net.given(x, LENGTHS).filtered(2, lambda *_: None))
    expected = seeded(lambda: net.program_terms(x, LENGTHS, 2))
    close(filtered.log_weight, expected.log_weight)
    if where == "subclass" and parent.context is not StochasticRNN.context:
        net.__class__ = type("Own", (parent,), {program: swapped, "path": parent.path})
        assert net.has_fast and net.has_steps  # a fast path beside the program counts
        assert net.draws_by_steps == (program == "guide")  # draws are of the program's model


@pytest.mark.parametrize("emission", EMISSIONS)
def test_any_emission_serves_any_model(emission):
    """Costs included: a reverse network is of the emission's family."""
    for name in models():
        net = build(name, EMISSIONS[emission])
        x = net.emission.template(3, 5, next(net.parameters()))
        args = TraceELBO(2), net, x, LENGTHS
        agree(net, objective(*args), loss_of_programs(*args))


# Pyro's own estimators


PAIRS = [
    (TraceELBO(analytic_kl=False), Trace_ELBO(max_plate_nesting=1)),
    (TraceELBO(), TraceMeanField_ELBO(max_plate_nesting=1)),
    (TraceELBO(3, analytic_kl=False), Trace_ELBO(3, max_plate_nesting=1, vectorize_particles=True)),
]


@pytest.mark.parametrize("pair", PAIRS, ids=["sampled", "analytic", "particles"])
def test_loss_is_pyros(plain_net, pair):
    """Costs included: in Pyro's ELBO, too, a factor of the guide is weighted."""
    x = data(plain_net)
    programs = plain_net.model, plain_net.guide, x, LENGTHS
    ours, pyros = pair
    agree(
        plain_net,
        lambda: program_loss(ours, *programs),
        lambda: pyros.differentiable_loss(*programs),
    )


def test_iwae_is_pyros_without_costs(plain_net):
    net, x, found = plain_net, data(plain_net), []
    net.weights.aux = net.weights.reverse = 0.0
    pyros = RenyiELBO(alpha=0, num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    for elbo in (TraceIWAE(3), pyros):
        net.zero_grad()
        loss = seeded(lambda elbo=elbo: elbo.loss_and_grads(net.model, net.guide, x, LENGTHS))
        slopes = [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]
        found.append((torch.tensor(loss), [slope.clone() for slope in slopes]))
    close(*found)


# What may depend on what


def changed_at(net, x, k):
    """The data with observation k changed in every sequence."""
    other = x.clone()
    other[:, k] = (x[:, k] + 1) % 3 if net.emission.symbols else 1 - x[:, k]
    return other


def test_the_model_is_causal_and_says_whether_it_reads_inputs(net):
    """p(z_t | past) has not seen x_t; with inputs, p(x_t | .) reads those before t instead of x."""
    x, latents = data(net), latents_of(net)
    before = net.terms(x, FULL, latents=latents)
    reads = False
    for k in range(5):
        after = net.terms(changed_at(net, x, k), FULL, latents=latents)
        assert (after.log_prior == before.log_prior)[..., : k + 1].all()
        assert (after.log_emission == before.log_emission)[..., :k].all()
        assert (after.log_emission != before.log_emission)[..., k].all()
        after = net.terms(x, FULL, latents=latents, inputs=changed_at(net, x, k))
        for name in ("log_prior", "log_emission"):
            same = getattr(after, name) == getattr(before, name)
            assert same[..., : k + 1].all()
            reads |= not bool(same.all())
    assert reads == net.reads_inputs
    moved = net.terms(changed_at(net, x, 1), FULL, latents=latents, inputs=x)
    changed = (moved.log_emission != before.log_emission).flatten(0, 1).any(0)
    assert changed.tolist() == [False, True, False, False, False]


# Padding, batches, particles, chunks


def test_padding_is_never_read(net):
    x, inputs, mask = data(net), data(net), length_mask(LENGTHS, 5)
    dirt = [-7, 10**6] if net.emission.symbols else [math.nan, math.inf]
    for value in dirt:
        dirty, dirty_inputs = x.clone(), inputs.clone()
        dirty[~mask] = dirty_inputs[~mask] = value
        for loss in (objective, loss_of_programs):
            args = TraceIWAE(2), net
            clean = loss(*args, x, LENGTHS, inputs=inputs)
            agree(net, loss(*args, dirty, LENGTHS, inputs=dirty_inputs), clean)
    longer = torch.cat([x, data(net, num_steps=3)], dim=1)
    args = TraceIWAE(2), net
    agree(net, objective(*args, longer, LENGTHS), objective(*args, x, LENGTHS))


def test_a_sequence_has_the_same_terms_alone_with_and_without_a_frame_before(net):
    """Only some sequences have a frame before, as among windows, by ``collate``."""
    latents = latents_of(net, 2)
    starts = [start if i != 1 else None for i, start in enumerate(data(net)[:, 0])]
    items = [Sequence(v[:n], start) for v, n, start in zip(data(net), LENGTHS, starts)]
    given = net.given_batch(collate(items))
    fast = given.terms(latents=latents)
    slow = net.program_terms(*given.args[:2], latents=latents, state=given.state)
    for i, (n, start) in enumerate(zip(LENGTHS, starts)):
        state = None if start is None else net.initial_state(1, start[None])
        one = slice(i, i + 1)
        alone = net.terms(given.x[one, :n], LENGTHS[one], 1, latents[:, one, :n], state)
        for name in LOGS:
            for terms in (fast, slow):
                close(getattr(terms, name)[:, i, :n], getattr(alone, name)[:, 0])
    loss = -sum(getattr(fast, name).sum() for name in LOGS)
    assert all(gradient.isfinite().all() for gradient in gradients(net, loss).values())


def test_particles_are_separate_runs_and_independent_draws(plain_net):
    net, x, latents = plain_net, data(plain_net), latents_of(plain_net, 2)
    together = net.terms(x, LENGTHS, latents=latents)
    for k in range(2):
        alone = net.terms(x, LENGTHS, latents=latents[k : k + 1])
        for name in (*LOGS, "kl"):
            close(getattr(alone, name)[0], getattr(together, name)[k])
    z = net.terms(x, LENGTHS, num_particles=2).latents
    assert (z[0] != z[1]).all()


def test_chunks_have_the_model_of_their_sequence(net):
    """The last chunk has its posterior too; nothing lies behind it."""
    x, latents, sizes, start = data(net), latents_of(net, 2), (2, 1, 2), 0
    whole, state, chunks = net.terms(x, FULL, latents=latents), None, []
    for size in sizes:
        steps_of = slice(start, start + size)
        args = x[:, steps_of], None, 2, latents[:, :, steps_of], state
        chunks.append(net.terms(*args))
        by_programs = net.program_terms(*args)
        close(by_programs.log_weight, chunks[-1].log_weight)
        close(by_programs.state, chunks[-1].state)
        state, start = detached(chunks[-1].state), start + size
        assert not any(value.requires_grad for value in state.values())
    for name in ("log_prior", "log_emission"):
        close(torch.cat([getattr(c, name) for c in chunks], -1), getattr(whole, name))
    close(chunks[-1].log_posterior, whole.log_posterior[..., 3:])


# Generation


def values(trace, name, num_steps=5):
    return [trace.nodes[f"{name}_{t}"]["value"] for t in range(num_steps)]


def test_generation_feeds_on_its_own_samples(plain_net):
    """A draw is one of the unconditioned program, whose densities are those of teacher forcing."""
    net, probe, empty = plain_net, data(plain_net), torch.zeros_like(data(plain_net))
    drawn = seeded(lambda: net.generate(3, 5))
    program = poutine.trace(poutine.uncondition(net.model))
    free = seeded(lambda: program.get_trace(empty, FULL))
    assert_close(drawn, torch.stack(values(free, "x"), 1), rtol=0, atol=0)
    assert not drawn.requires_grad and (net.generate(3, 5) != drawn).any()
    latents = {f"z_{t}": z for t, z in enumerate(values(free, "z"))}
    forced = poutine.trace(poutine.condition(net.model, latents)).get_trace(drawn, FULL)
    for t in range(5):
        ours, theirs = (trace.nodes[f"x_{t}"]["fn"] for trace in (forced, free))
        close(ours.log_prob(probe[:, t]), theirs.log_prob(probe[:, t]))


def test_states_of_a_free_run_are_those_of_its_sequences_fed_as_data(net):
    """Professor Forcing, test 3; by programs a run keeps no states."""
    x, state = data(net), net.initial_state(3, data(net)[:, 0])
    run = seeded(lambda: free_run(net, x, state))
    program = poutine.trace(poutine.uncondition(net.model))
    traced = seeded(lambda: program.get_trace(x, FULL, state))
    assert_close(run.x, torch.stack(values(traced, "x"), 1), rtol=0, atol=0)
    assert_close(run.z, torch.stack(values(traced, "z"), 1), rtol=0, atol=0)
    given, z = seeded(net.given(x, LENGTHS, state).dream)
    assert_close((given.x, z), (run.x, run.z[None]), rtol=0, atol=0)
    terms = given.terms(latents=z)
    assert not given.x.requires_grad
    # Where the state is the latent, draws have none.
    assert terms.states.requires_grad == (type(net).__name__ not in ("DKF", "LocalLevel"))
    if net.draws_by_steps:
        mask = length_mask(LENGTHS, 5)
        assert_close(terms.states[0][mask], run.states[mask], rtol=0, atol=1e-12)
    assert net.draws_by_steps == (type(net).__name__ != "LocalLevel")


def test_a_free_run_reads_data_where_steps_are_not_its_own(plain_net):
    net, x = plain_net, data(plain_net)
    own = torch.rand(3, 5) < 0.5
    if not net.draws_by_steps:
        with pytest.raises(ValueError, match="'scheduled_sampling' must be 0 for a LocalLevel"):
            free_run(net, x, own=own)
        return
    assert_close(free_run(net, x, own=torch.zeros_like(own)).x, x, rtol=0, atol=0)
    run = free_run(net, x, own=own)
    changed = run.x != x if net.emission.symbols else (run.x != x).any(-1)
    assert not (changed & ~own).any() and changed[own].any()
    terms = net.terms(run.x, FULL, latents=run.z[None])
    assert_close(terms.states[0], run.states, rtol=0, atol=1e-12)


def test_a_continuation_goes_on_from_the_state_after_its_prefix(plain_net):
    net, prefix = plain_net, data(plain_net, num_steps=3)
    drawn = seeded(lambda: net.generate(3, 5, prefix))
    assert_close(drawn[:, :3], prefix, rtol=0, atol=0)
    assert_close(net.generate(3, 3, prefix), prefix, rtol=0, atol=0)
    torch.manual_seed(1)
    guide = poutine.trace(net.guide).get_trace(prefix, torch.full((3,), 3))
    latents = {f"z_{t}": z for t, z in enumerate(values(guide, "z", 3))}
    state = poutine.condition(net.model, latents)(prefix, torch.full((3,), 3))
    program = poutine.trace(poutine.uncondition(net.model))
    free = program.get_trace(torch.zeros_like(drawn[:, 3:]), torch.full((3,), 2), state)
    assert_close(drawn[:, 3:], torch.stack(values(free, "x", 2), 1))


# Parameters


def parameters_of(net):
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def moved(net, before):
    return {name for name, p in parameters_of(net).items() if (p != before[name]).any()}


@pytest.mark.parametrize(
    "loss", [TraceIWAE(2), Trace_ELBO(max_plate_nesting=1)], ids=["iwae", "pyro"]
)
@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_svi_moves_every_parameter_of_its_own_net(case, loss):
    pyro.clear_param_store()
    name, kind, options = case
    # More latents, so that a network of them with a ReLU is not all dead.
    z_dim = {"z_dim": 6} if "z_dim" in options_of(models()[name]) else {}
    net = build(name, kind, options | z_dim)
    twin = copy.deepcopy(net)
    before, x = parameters_of(net), data(net, 8)
    svi = SVI(net.model, net.guide, pyro.optim.Adam({"lr": 0.01}), loss=loss)
    assert math.isfinite(svi.step(x, torch.tensor([5, 4, 4, 4, 4, 3, 2, 1])))
    off = {n for n in before if "reverse" in n and net.active_weights.reverse == 0}
    assert moved(net, before) == before.keys() - off
    assert not moved(twin, before)


def test_a_run_leaves_nothing_on_a_net_that_can_be_copied_and_pickled(real_net):
    net, x = real_net, data(real_net)
    attributes, state = set(vars(net)), copy.deepcopy(net.state_dict())
    loss = seeded(lambda: TraceELBO().loss_and_grads(net.model, net.guide, x, LENGTHS))
    net.generate(2, 3)
    assert set(vars(net)) == attributes
    assert_close(dict(net.state_dict()), dict(state), rtol=0, atol=0)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert seeded(partial(TraceELBO().loss, twin.model, twin.guide, x, LENGTHS)) == loss


# Devices and dtypes


def everything(net, x, lengths):
    """Runs all that a net can do."""
    state, found = net.initial_state(len(x), x[:, 0]), []
    args = x, lengths, state, x
    for given in (net.given(*args), ProgramPair(net.model, net.guide, *args)):
        value = TraceIWAE(2).objective(given).value
        value.sum().backward()
        found.append(value)
    net.terms(x, lengths, latents=net.terms(x, lengths, 2).latents.detach())
    net.given(*args).filtered(2, lambda *_: None)
    net.drop_frames(x, torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device))
    return [*found, net.generate(len(x), 3), net.generate(len(x), 5, x)]


def test_everything_runs_on_the_device_of_the_net(real_net):
    net, x = real_net, data(real_net).to("meta")
    with pyro.validation_enabled(False):  # whose checks read values, and "meta" has none
        found = everything(net.to("meta"), x, LENGTHS.to("meta"))
    assert all(value.is_meta for value in found)


def test_densities_are_of_full_precision_under_autocast(plain_net):
    net = plain_net.float()
    x = data(net)
    with torch.autocast("cpu", torch.bfloat16):
        fast = net.terms(x, LENGTHS, 2)
        slow = net.program_terms(x, LENGTHS, latents=fast.latents.detach())
    exact = net.terms(x, LENGTHS, latents=fast.latents.detach())
    for name in LOGS:
        for terms in (fast, slow):
            assert getattr(terms, name).dtype == torch.float32
            assert_close(getattr(terms, name), getattr(exact, name), rtol=0.03, atol=0.1)
    loss = -sum(getattr(fast, name).sum() for name in LOGS)
    assert all(gradient.isfinite().all() for gradient in gradients(net, loss).values())


# Models of vectors


@pytest.fixture(params=vector_cases(), ids=case_name)
def vector_net(request):
    """Each model whose sequences are vectors, with each kind of data, and its variants."""
    return build(*request.param)


def vectors(net, num=5):
    bits = net.emission.support.is_discrete
    return torch.randint(2, (num, 1, 3)).double() if bits else torch.randn(num, 1, 3)


def test_objective_of_vectors_and_gradients_are_those_of_the_programs_and_pyros(vector_net):
    x = vectors(vector_net)
    for estimator in (*ESTIMATORS.values(), TraceWalkback(2)):
        if estimator is not ESTIMATORS["sampled"]:
            args = estimator, vector_net, x
            agree(vector_net, objective(*args), loss_of_programs(*args))
    programs = vector_net.model, vector_net.guide, x
    pyros = Trace_ELBO(max_plate_nesting=1)
    ours = seeded(partial(program_loss, TraceELBO(analytic_kl=False), *programs))
    close(ours, seeded(partial(pyros.differentiable_loss, *programs)))


def test_svi_trains_a_model_of_vectors_which_can_be_copied_and_runs_anywhere(vector_net):
    net, x = vector_net, vectors(vector_net)
    before, twin = parameters_of(net), copy.deepcopy(net)
    elbo = TraceWalkback()
    svi = SVI(net.model, net.guide, pyro.optim.Adam({"lr": 0.01}), loss=elbo)
    assert math.isfinite(svi.step(x)) and moved(net, before) == before.keys()
    assert not moved(twin, before)
    loss = seeded(partial(elbo.loss, net.model, net.guide, x))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert seeded(partial(elbo.loss, other.model, other.guide, x)) == loss
    drawn = net.generate(4)
    assert drawn.shape == (4, 1, 3) and net.emission.support.check(drawn).all()
    with pyro.validation_enabled(False):
        assert net.to("meta").terms(x.to("meta"), num_particles=2).log_weight.is_meta


@pytest.mark.parametrize("program", ["model", "guide"])
def test_an_overridden_program_of_vectors_is_what_runs(vector_net, program):
    """W1."""
    net, x, parent = vector_net, vectors(vector_net), type(vector_net)

    def swapped(self, x, *args):
        return getattr(parent, program)(self, x.flip(0), *args)

    net.__class__ = type("Sub", (parent,), {program: swapped})
    assert not net.has_fast
    agree(net, objective(TraceIWAE(2), net, x), loss_of_programs(TraceIWAE(2), net, x))
