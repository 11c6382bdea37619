"""State carried between chunks of a sequence, and from particles to their descendants."""

from functools import partial

import pytest
import torch
from family_cases import CASES, FILTERING, batch, latents_of, make
from torch.testing import assert_close

from zforcing_pyro.estimators import TraceIWAE
from zforcing_pyro.models import StochasticRNN
from zforcing_pyro.models.steps import detached, steps

exactly = partial(assert_close, rtol=1e-10, atol=1e-10)
kinds = pytest.mark.parametrize("kind", ["gaussian", "categorical"])
LOGS = ("log_prior", "log_posterior", "log_emission", "auxiliary", "reverse")
SIZES = (2, 1, 2)


def chunked(terms, x, latents=None):
    """Terms of chunks in order, each from the state before."""
    state, found, start = None, [], 0
    for size in SIZES:
        chunk, lengths = x[:, start : start + size], torch.full((len(x),), size)
        given = None if latents is None else latents[..., start : start + size, :]
        found.append(terms(chunk, lengths, 2, latents=given, state=state))
        state, start = detached(found[-1].state), start + size
    return found


@kinds
@pytest.mark.parametrize("case", FILTERING)
def test_chunks_are_the_whole_where_the_guide_filters(case, kind):
    net, x = make(case, kind), batch(kind)
    torch.manual_seed(1)
    whole = net.terms(x, torch.full((3,), 5), 2)
    torch.manual_seed(1)
    chunks = chunked(net.terms, x)
    for name in (*LOGS, "kl", "latents", "posterior_mean"):
        dim = -2 if name in ("latents", "posterior_mean") else -1
        exactly(torch.cat([getattr(terms, name) for terms in chunks], dim), getattr(whole, name))
    exactly(chunks[-1].state, whole.state)
    log_weight = sum(terms.log_weight for terms in chunks)
    exactly(log_weight.logsumexp(0) - torch.tensor(2.0).log(), TraceIWAE(2).bound(whole))


@pytest.mark.parametrize("case", [case for case in CASES if case not in FILTERING])
def test_chunks_have_the_model_but_not_the_posterior_of_the_whole_where_it_looks_back(case):
    net, x = make(case), batch()
    latents = latents_of(net, 2)
    whole = net.terms(x, torch.full((3,), 5), latents=latents)
    chunks = chunked(net.terms, x, latents)
    for name in ("log_prior", "log_emission"):
        exactly(torch.cat([getattr(terms, name) for terms in chunks], -1), getattr(whole, name))
    posterior = torch.cat([terms.log_posterior for terms in chunks], -1)
    exactly(posterior[..., 3:], whole.log_posterior[..., 3:])  # the last chunk sees what is left
    assert (posterior[..., :3] != whole.log_posterior[..., :3]).any(-1).all()


@pytest.mark.parametrize("case", CASES)
def test_programs_carry_the_state_as_the_fast_path_does(case):
    net, x = make(case), batch()
    latents = latents_of(net, 2)
    fast = chunked(net.terms, x, latents)
    programs = chunked(partial(StochasticRNN.terms, net), x, latents)
    for ours, theirs in zip(fast, programs):
        exactly(ours.log_weight, theirs.log_weight)
        exactly(ours.state, theirs.state)


@pytest.mark.parametrize("case", CASES)
def test_a_detached_state_has_no_history(case):
    net, x = make(case), batch()
    state = net.terms(x, torch.full((3,), 5), 2).state
    assert any(value.requires_grad for value in state.values())
    assert not any(value.requires_grad for value in detached(state).values())
    exactly(detached(state), {name: value.detach() for name, value in state.items()})


@pytest.mark.parametrize("case", CASES)
def test_resampled_particles_go_on_from_their_ancestors(case):
    net, x, lengths = make(case), batch(), torch.tensor([5, 5, 5])
    ancestors = torch.tensor([[2, 0, 1], [2, 2, 1], [0, 1, 1], [3, 0, 1]])
    context, _ = net.context(x, lengths)
    parts, latents = list(steps(context)), latents_of(net, 4)

    def chosen(value):
        return value.gather(0, ancestors[..., None].expand(value.shape))

    state = net.particles(x, 4)
    for t in range(3):
        state, _ = net.step(state, parts[t], latents[..., t, :])
    state = {name: chosen(value) for name, value in state.items()}
    found = []
    for t in range(3, 5):
        state, terms = net.step(state, parts[t], latents[..., t, :])
        found.append(terms.log_weight)

    past = torch.stack([chosen(z) for z in latents[..., :3, :].unbind(-2)], dim=-2)
    whole = net.terms(x, lengths, latents=torch.cat([past, latents[..., 3:, :]], dim=-2))
    expected = whole.log_emission + whole.log_prior - whole.log_posterior
    exactly(torch.stack(found, -1), expected[..., 3:])


def test_a_model_without_steps_says_so():
    class Programs(StochasticRNN):
        model = guide = None

    for use in (lambda net: net.context(None, None), lambda net: net.step(None, None)):
        with pytest.raises(NotImplementedError, match="Programs has no steps, only programs"):
            use(Programs())
