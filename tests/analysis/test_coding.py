"""Bits-back coding: exact round trips, and sizes that are the negative bound."""

import sys
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import norm

import zforcing_pyro as zf
from zforcing_pyro.analysis.coded_steps import Guide
from zforcing_pyro.analysis.coding import Coder
from zforcing_pyro.analysis.stack import Stack, initial_words, rings
from zforcing_pyro.emissions import NADE, Bernoulli, Categorical, DiagNormal, LogisticMixture
from zforcing_pyro.models import DKF, RNN, SAB, SRNN, STORN, VRNN, ZForcing

pytest.importorskip("constriction")
BITS = np.log(2)
SIZES = {"z_dim": 3, "h_dim": 6, "hidden_dim": 6, "embed_dim": 4}
NETS = {"vrnn": VRNN, "storn": STORN, "zforcing": ZForcing, "dkf": DKF, "srnn": SRNN}
NETS |= {"dkf_left": partial(DKF, inference="left")}
NETS |= {"srnn_filters": partial(SRNN, posterior="filtering")}
EMISSIONS = {
    "bernoulli": (Bernoulli, 5),
    "nade": (NADE, 4),
    "categorical": (Categorical, 7),
    "logistics": (partial(LogisticMixture, bits=8, num_components=2), 3),
}


def drawn(net, num, most=9):
    """Sequences of the model itself, of several lengths."""
    return [net.generate(1, int(n))[0] for n in torch.randint(1, most, (num,))]


def equal(xs, others):
    pairs = list(zip(xs, others, strict=True))
    return all(x.shape == y.shape and torch.equal(x.double(), y.double()) for x, y in pairs)


def excess(coder, xs):
    """Size over minus the bound at the coded latents, minus 1, of an exact round trip; and nats."""
    coded = coder.encode(xs)
    assert equal(xs, coder.decode(coded.words, [len(x) for x in xs]))
    nats = coded.bits * BITS
    return nats / -coder.bound(xs, coded.latents).sum().item() - 1, nats


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_sequences_come_back_and_cost_their_bound(name, batch_size):
    net = NETS[name](Bernoulli, 5, **SIZES)
    xs = drawn(net, 10)
    coder = Coder(net, batch_size)
    coded = coder.encode(xs)
    assert equal(xs, coder.decode(coded.words, [len(x) for x in xs]))
    bound = -coder.bound(xs, coded.latents).sum().item() / BITS
    assert coded.bits == pytest.approx(bound, rel=0.01, abs=30)


@pytest.mark.parametrize("kind", EMISSIONS)
def test_every_discrete_emission_is_coded(kind):
    emission, x_dim = EMISSIONS[kind]
    net = ZForcing(emission, x_dim, **SIZES)
    xs, coder = drawn(net, 8), Coder(net, 3)
    coded = coder.encode(xs)
    assert equal(xs, coder.decode(coded.words, [len(x) for x in xs]))
    bound = -coder.bound(xs, coded.latents).sum().item() / BITS
    assert coded.bits == pytest.approx(bound, rel=0.01, abs=30)


def test_a_model_without_latents_needs_no_bits_back():
    net = RNN(Bernoulli, 5, h_dim=6, embed_dim=4)
    xs, coder = drawn(net, 10), Coder(net)
    coded = coder.encode(xs)
    assert equal(xs, coder.decode(coded.words, [len(x) for x in xs])) and coded.initial == 2
    exact = -sum(net.terms(x[None]).log_weight.sum().item() for x in xs)
    assert coded.bits == pytest.approx(exact / BITS, abs=4)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_stop_symbol_takes_the_place_of_lengths(batch_size):
    net = VRNN(Categorical, 4, **SIZES)
    xs = [torch.tensor(x) for x in ([0, 1, 3], [3], [2, 2, 0, 1, 3], [1, 3], [0, 3])]
    coder = Coder(net, batch_size)
    assert equal(xs, coder.decode(coder.encode(xs).words, [9] * 5, stop=3))


@pytest.fixture(scope="module")
def digits():
    corpus = zf.data.corpus("digits", rows=True)
    return corpus.split("train"), [s.x.double() for s in corpus.split("test")][:200]


def trained(name, train):
    torch.manual_seed(0)
    net = NETS[name](Bernoulli, 8, z_dim=4, h_dim=16, hidden_dim=16, embed_dim=0)
    annealed = {"kl_start": 0.1, "kl_updates": 2000}  # so that latents are in use
    options = zf.TrainingOptions(batch_size=32, lr=1e-2, precision="64-true", **annealed)
    zf.fit(net, train, train.subset(range(32)), options=options, max_updates=120)
    return net


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vrnn", "zforcing", "srnn_filters"])
def test_200_sequences_of_a_trained_net_cost_their_elbo(digits, name):
    train, test = digits
    coder = Coder(trained(name, train), 4)
    share, nats = excess(coder, test)
    assert abs(share) < 0.01
    terms = coder.net.terms(torch.stack(test), num_particles=16)  # fresh draws
    log_weight = terms.log_weight.sum(-1)
    error = (17 / 16 * log_weight.var(0).sum().sqrt()).item()
    assert nats + log_weight.mean(0).sum().item() == pytest.approx(0, abs=4 * error)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda mean, scale: (mean, 1.3 * scale),
        lambda mean, scale: (mean, scale / 1.3),
        lambda mean, scale: (mean + 0.4 * scale, scale),
        lambda mean, scale: (0 * mean, 0 * scale + 32),
    ],
    ids=["wide", "narrow", "shifted", "prior"],
)
def test_a_wrong_posterior_is_exact_but_costs_more(digits, change, monkeypatch):
    """An error in log q shows in the size, although every sequence comes back."""
    train, test = digits
    coder, right = Coder(trained("zforcing", train), 4), Guide.relative
    monkeypatch.setattr(Guide, "relative", lambda *args: change(*right(*args)))
    assert excess(coder, test[:40])[0] > 0.01


def test_the_prior_on_the_grid_is_a_gaussian():
    """Cost of single points against the exact mass, up to 15 deviations out."""
    points = np.array([0, 3, -40, 100, 130, -170, 200, 300, -480])
    stack = Stack(32, initial_words(200))
    before, words = stack.bits(), stack.words()
    for num, point in enumerate(points):
        stack.push_prior(points[num : num + 1])
        u = abs(point) / 32
        mass = norm.logsf(u - 1 / 64) + np.log1p(-norm.sf(u + 1 / 64) / norm.sf(u - 1 / 64))
        assert (stack.bits() - before) * BITS == pytest.approx(-mass, abs=1.0)
        assert stack.pop_prior(1) == point
    stack.push_prior(points)
    np.testing.assert_array_equal(stack.pop_prior(len(points)), points)
    np.testing.assert_array_equal(stack.words(), words)
    masses, outside = [], 1.0
    for _, table in rings(32):
        masses.append(outside * table[:-1].sum())
        outside *= table[-1]
    assert sum(masses) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("scale", [0.0, 1e-4, 0.3, 5.0, 1e5])
@pytest.mark.parametrize("mean", [0.0, -3.7, 511.9, 1e9])
def test_any_gaussian_is_popped_and_pushed_back(mean, scale):
    stack = Stack()
    points = stack.pop_gaussians(np.full(20, mean), np.full(20, scale))
    assert (abs(points) <= 512).all()
    stack.push_gaussians(points, np.full(20, mean), np.full(20, scale))
    np.testing.assert_array_equal(stack.words(), initial_words(stack.initial))


def test_tables_need_not_be_contiguous():
    tables = torch.rand(5, 40).softmax(0).T
    symbols = torch.multinomial(tables, 1)[:, 0]
    sizes = []
    for rows in (tables, tables.contiguous()):
        stack = Stack()
        for _ in range(20):
            stack.push(symbols.numpy(), rows)
        sizes.append(stack.bits())
        np.testing.assert_array_equal(stack.pop(rows), symbols)
    exact = -20 * tables.gather(1, symbols[:, None]).log().sum().item() / BITS
    assert sizes[0] == sizes[1] == pytest.approx(exact, abs=4)


def test_initial_bits_of_more_words_end_with_those_of_fewer():
    np.testing.assert_array_equal(initial_words(50)[-7:], initial_words(7))


def test_changed_bits_are_seen():
    net = VRNN(Bernoulli, 5, **SIZES)
    xs, coder = drawn(net, 6), Coder(net)
    words = coder.encode(xs).words
    words[len(words) // 2] ^= 1
    with pytest.raises(ValueError, match="bits must end at the initial ones"):
        coder.decode(words, [len(x) for x in xs])


def test_what_cannot_be_coded_is_refused():
    with pytest.raises(ValueError, match=r"'emission' must be bernoulli, .*DiagNormal of real"):
        Coder(VRNN(DiagNormal, 5, **SIZES))
    with pytest.raises(ValueError, match="65536 values"):
        Coder(VRNN(partial(LogisticMixture, bits=16), 5, **SIZES))
    with pytest.raises(ValueError, match="'net' must have a fast path"):
        Coder(SAB(Bernoulli, 5, h_dim=6, embed_dim=4))
    net = VRNN(Bernoulli, 2, **SIZES)
    with pytest.raises(ValueError, match=r"'x' must be one of the 2 values 0, 1, .*, got 0.5"):
        Coder(net).encode([torch.tensor([[0.0, 0.5]])])
    with torch.no_grad():
        next(net.posterior.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="'net' must give finite latents"):
        Coder(net).encode([torch.zeros(2, 2)])


def test_a_missing_coder_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ValueError, match=r"needs constriction: pip install 'zforcing_pyro\[compre"):
        Coder(RNN(Bernoulli, 5, h_dim=6)).encode([torch.zeros(2, 5)])


def test_coding_leaves_net_threads_and_noise_as_they_were():
    net = VRNN(Bernoulli, 5, **SIZES).float().train()
    xs = drawn(net, 3)
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    Coder(net).encode(xs)
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == 2
    assert net.training and next(net.parameters()).dtype == torch.float32
    torch.set_num_threads(1)
