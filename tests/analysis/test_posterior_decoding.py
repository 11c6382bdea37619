"""Decoding latents: the mode of each emission, greedy paths, interpolation, swaps, traversals."""

import math

import numpy as np
import pytest
import torch
from family_cases import make
from posterior_cases import STOCHASTIC, data_of

from zforcing_pyro import emissions
from zforcing_pyro.analysis.posterior import decode, interpolation, posterior_path, swap, traversal
from zforcing_pyro.analysis.posterior.decoding import generated, mode
from zforcing_pyro.data import Sequences
from zforcing_pyro.models.lgssm import LGSSM

BITS = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)


@pytest.mark.parametrize(
    "emission",
    [
        emissions.Bernoulli(4, 3, missing=True),
        emissions.Categorical(4, 3),
        emissions.DiagNormal(4, 3),
        emissions.GaussianMixture(4, 3, num_components=1),
        emissions.LogisticMixture(4, 3, num_components=1, bits=3),
    ],
    ids=lambda emission: type(emission).__name__,
)
def test_mode_is_at_least_as_probable_as_any_draw(emission):
    distribution = emission.to(torch.get_default_dtype())(2 * torch.randn(2, 5, 4))
    best = mode(distribution)
    assert best.shape == distribution.sample().shape
    assert distribution.support.check(best).all()
    draws = torch.stack([distribution.log_prob(distribution.sample()) for _ in range(300)])
    assert (draws <= distribution.log_prob(best) + 1e-9).all()
    assert draws.max(0).values.sub(distribution.log_prob(best)).abs().max() < 3  # and it is near


@pytest.mark.parametrize("emission", [emissions.GaussianMixture, emissions.LogisticMixture])
def test_mode_of_a_mixture_is_the_mode_of_its_likeliest_component(emission):
    distribution = emission(4, 3, num_components=6)(torch.randn(2, 5, 4))
    mixture = getattr(distribution, "base_dist", distribution)
    likeliest = mixture.mixture_distribution.logits.argmax(-1)
    of_components, best = mode(mixture.component_distribution), mode(distribution)
    for place in np.ndindex(likeliest.shape):
        assert torch.equal(best[place], of_components[place][likeliest[place]])


def test_mode_of_nade_is_taken_key_by_key_and_of_even_bits_is_zero():
    distribution = emissions.NADE(4, 6, nade_dim=5).double()(3 * torch.randn(7, 4))
    best = mode(distribution)
    logits = distribution.conditional_logits(best)
    assert torch.equal(best, (logits > 0).double()) and 0 < best.mean() < 1
    assert mode(torch.distributions.Bernoulli(torch.full((3,), 0.5))).tolist() == [0] * 3


def greedy_by_hand(net, z, choices, start):
    """The best observation of each step given the best ones before, by trying all of them."""
    result = []
    for t in range(len(z)):
        tried = torch.stack([torch.stack([*result, choice]) for choice in choices])
        num = len(tried)
        state = None if start is None else net.initial_state(num, start.expand(num, *start.shape))
        latents = z[: t + 1].expand(1, num, -1, -1)
        terms = net.terms(tried, latents=latents, state=state)
        result.append(choices[terms.log_emission[0, :, t].argmax()])
    return torch.stack(result)


@pytest.mark.parametrize(
    ("model", "kind", "start"),
    [
        ("zforcing", "bernoulli", torch.tensor([1.0, 0, 1])),
        ("vrnn", "categorical", torch.tensor(2)),
        ("srnn", "bernoulli", None),
        ("storn", "categorical", None),
        ("dkf", "bernoulli", torch.tensor([0.0, 1, 1])),
    ],
)
def test_greedy_decoding_takes_the_best_of_each_step(model, kind, start):
    net, z = make(model, kind), 2 * torch.randn(4, 6, 2)
    start = None if start is None else start.to(BITS if kind == "bernoulli" else torch.long)
    choices = BITS if kind == "bernoulli" else torch.arange(3)
    x = decode(net, z, None if start is None else start.expand(4, *start.shape))
    for row, path in zip(x, z):
        assert torch.equal(row, greedy_by_hand(net, path, choices.to(row), start))


def test_sampled_decoding_draws_from_the_emission():
    net, z = make("zforcing", "bernoulli"), torch.randn(2, 2)
    x, again, other = (
        decode(net, z.expand(4_000, -1, -1), sample=True, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(x, again) and not torch.equal(x, other)
    first = BITS.double()
    terms = net.terms(first[:, None], latents=z[:1].expand(1, 8, -1, -1))
    share = (x[:, None, 0] == first).all(-1).double().mean(0)
    expected = terms.log_emission[0, :, 0].exp()
    assert torch.allclose(share, expected, atol=4 * 0.5 / math.sqrt(4_000))


def test_latents_are_set_where_they_are_not_nan():
    net, z = make("vrnn"), torch.randn(3, 4, 2)
    partly = z.clone()
    partly[1, 2:] = torch.nan
    _, result = generated(net, torch.full((3,), 6), None, partly)
    same = (result[:, :4] == z).all(-1)
    assert same.tolist() == [[True] * 4, [True, True, False, False], [True] * 4]
    assert result.shape == (3, 6, 2) and not result.isnan().any()


def test_posterior_path_is_the_mean_at_every_step():
    lgssm, data = LGSSM(3, 2), data_of("gaussian")
    for sequence in data:
        mean, _ = lgssm.smoother(sequence.x[None], torch.tensor([len(sequence.x)]))
        assert torch.allclose(posterior_path(lgssm, sequence), mean[0], atol=1e-9)
    for model in STOCHASTIC:
        net, sequence = make(model), data[0]
        path = posterior_path(net, sequence)
        terms = net.terms(sequence.x[None], latents=path[None, None])
        assert torch.allclose(terms.posterior_mean[0, 0], path, atol=1e-9)


def greedy(net, sequence):
    """The greedy decoding of a sequence from its own start."""
    start = None if sequence.start is None else sequence.start[None]
    return decode(net, posterior_path(net, sequence)[None], start)[0]


def test_interpolation_mixes_paths_of_two_lengths_between_their_starts():
    net = LGSSM(3, 2)
    first, second = data_of("gaussian", [3, 5])
    result = interpolation(net, first, second, num_points=3, num_samples=2)
    a, b = (posterior_path(net, s) @ net.emission.weight.T for s in (first, second))
    expected = [a, torch.cat([(a + b[:3]) / 2, b[3:4]]), b]
    assert result.weights.tolist() == [0, 0.5, 1]
    for row, draws, x in zip(result.greedy, result.sampled, expected):
        assert torch.allclose(row, x) and [d.shape for d in draws] == [x.shape] * 2
    assert not torch.equal(*result.sampled[0])
    net, x = make("vrnn"), torch.randn(2, 5, 3)
    ends = Sequences(list(x[:, 1:]), starts=list(5 * x[:, 0]))
    result = interpolation(net, *ends, num_points=4)
    for row, sequence in zip((result.greedy[0], result.greedy[-1]), ends):
        assert torch.equal(row, greedy(net, sequence))
        assert not torch.equal(row, greedy(net, sequence._replace(start=None)))


def test_swap_exchanges_the_chosen_steps_and_traversal_moves_one_latent():
    net = LGSSM(3, 2)
    first, second = data_of("gaussian", [3, 5])
    a, b = (posterior_path(net, s) @ net.emission.weight.T for s in (first, second))
    x, y = swap(net, first, second)
    assert torch.allclose(x, b[:3]) and torch.allclose(y, torch.cat([a, b[3:]]))
    x, y = swap(net, first, second, begin=1, end=2)
    assert torch.allclose(x, torch.stack([a[0], b[1], a[2]]))
    assert torch.allclose(y, torch.cat([b[:1], a[1:2], b[2:]]))
    offsets = [-1.5, 0, 2]
    for x, offset in zip(traversal(net, first, latent=1, offsets=offsets), offsets):
        assert torch.allclose(x, a + offset * net.emission.weight[:, 1])
