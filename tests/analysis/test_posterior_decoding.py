"""Decoding latents: the mode of each emission, greedy paths, interpolation, swaps, traversals."""

import math

import numpy as np
import pytest
import torch
from family_cases import make
from posterior_cases import STOCHASTIC, data_of

from zforcing_pyro.analysis.posterior import decode, interpolation, posterior_path, swap, traversal
from zforcing_pyro.analysis.posterior.decoding import generated, mode
from zforcing_pyro.data import Sequence, Sequences
from zforcing_pyro.emissions import (
    NADE,
    Bernoulli,
    Categorical,
    DiagNormal,
    GaussianMixture,
    LogisticMixture,
)
from zforcing_pyro.models import RNN
from zforcing_pyro.models.lgssm import LGSSM


@pytest.mark.parametrize(
    "emission",
    [
        Bernoulli(4, 3),
        Bernoulli(4, 3, missing=True),
        Categorical(4, 3),
        DiagNormal(4, 3),
        DiagNormal(4, 3, missing=True),
        GaussianMixture(4, 3, num_components=1),
        LogisticMixture(4, 3, num_components=1, bits=3),
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


@pytest.mark.parametrize("emission", [GaussianMixture, LogisticMixture])
def test_mode_of_a_mixture_is_the_mode_of_its_likeliest_component(emission):
    distribution = emission(4, 3, num_components=6)(torch.randn(2, 5, 4))
    mixture = getattr(distribution, "base_dist", distribution)
    likeliest = mixture.mixture_distribution.logits.argmax(-1)
    of_components, best = mode(mixture.component_distribution), mode(distribution)
    for place in torch.cartesian_prod(*map(torch.arange, likeliest.shape)).tolist():
        place = tuple(place)
        assert torch.equal(best[place], of_components[place][likeliest[place]])


def test_mode_of_nade_is_taken_key_by_key():
    distribution = NADE(4, 6, nade_dim=5).double()(3 * torch.randn(7, 4))
    best = mode(distribution)
    logits = distribution.conditional_logits(best)
    assert torch.equal(best, (logits > 0).double()) and 0 < best.mean() < 1


def test_mode_of_even_bits_is_zero():
    emission = Bernoulli(1, 2)
    for p in emission.parameters():
        p.data.zero_()
    assert mode(emission(torch.zeros(3, 1))).tolist() == [[0, 0]] * 3


def greedy_by_hand(net, z, symbols, start=None):
    """The best observation of each step given the best ones before, by trying all of them."""
    if symbols:
        choices = torch.arange(3)
    else:
        choices = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    result = []
    for t in range(len(z)):
        tried = torch.stack([torch.stack([*result, choice]) for choice in choices])
        num = len(tried)
        state = None if start is None else net.initial_state(num, start.expand(num, *start.shape))
        lengths = torch.full((num,), t + 1)
        latents = z[: t + 1].expand(1, num, -1, -1)
        terms = net.terms(tried, lengths, latents=latents, state=state)
        result.append(choices[terms.log_emission[0, :, t].argmax()])
    return torch.stack(result)


@pytest.mark.parametrize(
    ("model", "kind", "has_start"),
    [
        ("zforcing", "bernoulli", True),
        ("vrnn", "categorical", True),
        ("srnn", "bernoulli", False),
        ("storn", "categorical", False),
        ("dkf", "bernoulli", True),
    ],
)
def test_greedy_decoding_takes_the_best_of_each_step(model, kind, has_start):
    net = make(model, kind)
    symbols = kind == "categorical"
    z = 2 * torch.randn(4, 6, 2)
    start = None
    if has_start:
        start = torch.randint(3, (4,)) if symbols else torch.randint(2, (4, 3)).double()
    x = decode(net, z, start)
    for i in range(4):
        row_start = None if start is None else start[i]
        assert torch.equal(x[i], greedy_by_hand(net, z[i], symbols, row_start))


@pytest.mark.parametrize("model", ["zforcing", "dkf"])
def test_sampled_decoding_draws_from_the_emission(model):
    net, z = make(model, "bernoulli"), torch.randn(2, 2)
    x = decode(net, z.expand(4_000, -1, -1), sample=True, seed=1)
    assert torch.equal(x, decode(net, z.expand(4_000, -1, -1), sample=True, seed=1))
    assert not torch.equal(x, decode(net, z.expand(4_000, -1, -1), sample=True, seed=2))
    first = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    latents = z[:1].expand(1, 8, -1, -1)
    log_p = net.terms(first[:, None], torch.ones(8).long(), latents=latents).log_emission[0, :, 0]
    share = (x[:, None, 0] == first).all(-1).double().mean(0)
    assert torch.allclose(share, log_p.exp(), atol=4 * 0.5 / math.sqrt(4_000))


def test_latents_are_set_up_to_each_rows_end():
    net, z = make("vrnn"), torch.randn(3, 4, 2)
    _, result = generated(net, torch.full((3,), 6), None, z=z, ends=torch.tensor([4, 2, 0]))
    same = (result[:, :4] == z).all(-1)
    assert same.tolist() == [[True] * 4, [True, True, False, False], [False] * 4]
    _, result = generated(net, torch.full((3,), 6), None, z=z)
    assert torch.equal(result[:, :4], z) and result.shape == (3, 6, 2)


def test_posterior_path_is_the_smoothers_mean():
    net, data = LGSSM(3, 2), data_of("gaussian")
    for sequence in data:
        mean, _ = net.smoother(sequence.x[None], torch.tensor([len(sequence.x)]))
        assert torch.allclose(posterior_path(net, sequence), mean[0], atol=1e-9)


@pytest.mark.parametrize("model", STOCHASTIC)
def test_posterior_path_is_the_mean_at_every_step(model):
    net = make(model)
    for sequence in data_of("gaussian"):
        path = posterior_path(net, sequence)
        x, lengths = sequence.x[None], torch.tensor([len(sequence.x)])
        terms = net.terms(x, lengths, latents=path[None, None])
        assert torch.allclose(terms.posterior_mean[0, 0], path, atol=1e-9)


@pytest.mark.parametrize(("model", "kind"), [("zforcing", "bernoulli"), ("dkf", "categorical")])
def test_interpolation_begins_and_ends_with_the_greedy_decodings(model, kind):
    net, data = make(model, kind), data_of(kind)
    for first, second in ((data[0], data[4]), (data[1], data[2])):
        result = interpolation(net, first, second, num_points=3, num_samples=1)
        for x, end in ((result.greedy[0], first), (result.greedy[-1], second)):
            assert torch.equal(x, decode(net, posterior_path(net, end)[None])[0])
        assert result.weights.tolist() == [0, 0.5, 1]
        sizes = np.linspace(len(first.x), len(second.x), 3)
        assert [len(x) for x in result.greedy] == [round(size) for size in sizes]
        assert [[len(x) for x in row] for row in result.sampled] == [[round(s)] for s in sizes]


def test_interpolation_mixes_latents_and_ends_with_the_longer_sequence():
    """Of a linear-Gaussian model the greedy decoding is linear in the latents."""
    net = LGSSM(3, 2)
    first, second = data_of("gaussian", [2, 6])
    z, y = posterior_path(net, first), posterior_path(net, second)
    result = interpolation(net, first, second, num_points=3, num_samples=0)
    mixed = torch.cat([(z + y[:2]) / 2, y[2:4]])
    assert torch.allclose(result.greedy[1], mixed @ net.emission.weight.T)
    assert result.sampled == [[], [], []]


def test_interpolation_samples_repeat_with_their_seed():
    net, (first, second, *_) = make("zforcing"), data_of("gaussian")
    one, again, other = (
        interpolation(net, first, second, num_samples=2, seed=seed).sampled for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for xs, ys in zip(one, again) for a, b in zip(xs, ys))
    assert not torch.equal(one[0][0], other[0][0]) and not torch.equal(one[0][0], one[0][1])


def test_ends_of_an_interpolation_have_their_sequences_starts():
    net, x = make("zforcing"), torch.randn(2, 5, 3)
    first, second = Sequences(list(x[:, 1:]), starts=list(5 * x[:, 0]))
    result = interpolation(net, first, second, num_points=4)
    for i, sequence in ((0, first), (-1, second)):
        path = posterior_path(net, sequence)[None]
        assert torch.equal(result.greedy[i], decode(net, path, sequence.start[None])[0])
        assert not torch.equal(result.greedy[i], decode(net, path)[0])


@pytest.mark.parametrize(("model", "kind"), [("srnn", "gaussian"), ("storn", "categorical")])
def test_swap_with_itself_changes_nothing(model, kind):
    net, data = make(model, kind), data_of(kind, [4, 1])
    for sequence in data:
        expected = decode(net, posterior_path(net, sequence)[None])[0]
        assert all(torch.equal(x, expected) for x in swap(net, sequence, sequence))


def test_swap_exchanges_the_chosen_steps():
    net = LGSSM(3, 2)
    first, second = data_of("gaussian", [3, 5])
    greedy = [posterior_path(net, s) @ net.emission.weight.T for s in (first, second)]
    x, y = swap(net, first, second)
    assert torch.allclose(x, greedy[1][:3])
    assert torch.allclose(y, torch.cat([greedy[0], greedy[1][3:]]))
    x, y = swap(net, first, second, begin=1, end=2)
    assert torch.allclose(x, torch.stack([greedy[0][0], greedy[1][1], greedy[0][2]]))
    assert torch.allclose(y, torch.cat([greedy[1][:1], greedy[0][1:2], greedy[1][2:]]))


def test_traversal_moves_one_latent():
    net, sequence = make("zforcing"), data_of("gaussian")[0]
    path = posterior_path(net, sequence)
    result = traversal(net, sequence, latent=1, offsets=[-1.5, 0, 2])
    assert torch.allclose(result[1], decode(net, path[None])[0])
    for x, offset in zip(result, [-1.5, 0, 2]):
        moved = path + torch.tensor([0, offset])
        assert torch.allclose(x, decode(net, moved[None])[0])


def test_decoding_names_wrong_options():
    net, sequence = make("vrnn"), data_of("gaussian")[0]
    with pytest.raises(ValueError, match=r"'z' must have shape \(rows, time, 2\), got \(3, 2\)"):
        decode(net, torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"'num_points' must be 2 or more .* got 1 and 1"):
        interpolation(net, sequence, sequence, num_points=1)
    with pytest.raises(ValueError, match=r"'begin' must be in 0\.\.1 and before 'end', got 2"):
        swap(net, sequence, sequence, begin=2, end=2)
    with pytest.raises(ValueError, match=r"'latent' must be in 0\.\.1 .* got 2 and \[0\]"):
        traversal(net, sequence, 2, [0])
    rnn = RNN(Bernoulli, 3, h_dim=4)
    with pytest.raises(ValueError, match="'net' must have latents, got RNN"):
        posterior_path(rnn, Sequence(torch.zeros(2, 3), None))
