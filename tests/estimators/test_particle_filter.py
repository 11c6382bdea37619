"""Particle filters against exact likelihoods, and against the IWAE where nothing resamples."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from family_cases import LENGTHS, batch, make
from program_cases import log_ratios
from pyro.infer.autoguide import AutoNormal
from torch.testing import assert_close

from zforcing_pyro.estimators import TraceFIVO, TraceIWAE
from zforcing_pyro.estimators.particle_filter import (
    ParticleFilter,
    effective_sample_size,
    multinomial,
    systematic,
)
from zforcing_pyro.estimators.programs import ProgramPair
from zforcing_pyro.models.lgssm import LGSSM

draws = pytest.mark.parametrize("draw", [systematic, multinomial])
CASES = ["vrnn", "dkf both with costs", "zforcing layer norm"]


@draws
def test_offspring_are_as_many_as_weights_say_on_average(draw):
    weight = torch.tensor([0.5, 0.0, 0.3, 0.2]).expand(20_000, 4).T
    ancestors = draw(weight)
    assert ancestors.shape == weight.shape
    counts = torch.stack([(ancestors == k).sum(0) for k in range(4)]).double()
    assert_close(counts.mean(1), 4 * weight[:, 0], rtol=0, atol=0.03)
    assert (counts[1] == 0).all()
    if draw is systematic:
        expected = 4 * weight
        assert (counts >= expected.floor()).all() and (counts <= expected.ceil()).all()


@draws
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_particle_of_weight_zero_has_offspring(draw, dtype, monkeypatch):
    weight = torch.rand(1000, 50, dtype=dtype)
    weight[:3] = weight[-3:] = 0
    if draw is systematic:  # what it draws, at its largest
        monkeypatch.setattr(torch, "rand", lambda *s, dtype, device: torch.ones(s, dtype=dtype))
    ancestors = draw(weight / weight.sum(0))
    assert ancestors.min() >= 3 and ancestors.max() <= 996


def test_effective_sample_size():
    log_weight = torch.tensor([[0.0, 0.0, 5.0], [0.0, -math.inf, 5.0 + math.log(3)]])
    assert_close(effective_sample_size(log_weight), torch.tensor([2.0, 1.0, 1.6]))


def test_sequences_resample_one_by_one_and_not_at_their_end():
    particles = ParticleFilter(0.5)
    even, uneven = torch.zeros(4), torch.tensor([0.0, 0.0, 0.0, 30.0])
    log_weight = torch.stack([even, uneven, uneven], 1)
    ancestors = particles(log_weight, torch.tensor([True, True, False]))
    assert ancestors[:, 0].tolist() == ancestors[:, 2].tolist() == [0, 1, 2, 3]
    assert ancestors[:, 1].tolist() == [3] * 4
    assert particles.num_resampled.tolist() == [0, 1, 0]
    mean = uneven.exp().mean().log()
    assert_close(particles.log_evidence(), torch.stack([0 * mean, mean, mean]))
    assert particles(log_weight[:, [0, 0, 0]], torch.tensor([True] * 3))[:, 2].tolist() == [3] * 4
    assert_close(particles.log_evidence(), torch.stack([0 * mean, mean, mean]))


def test_equal_weights_resample_at_a_threshold_of_one_only():
    for threshold, times in ((1.0, [1, 0]), (0.99, 0)):
        particles = ParticleFilter(threshold)
        particles(torch.zeros(7, 2), torch.tensor([True, False]))
        assert torch.as_tensor(particles.num_resampled).tolist() == times


@pytest.mark.parametrize("case", CASES)
def test_fivo_that_never_resamples_is_iwae(case):
    """Bound, costs and gradients, from the same noise; fast, and by programs."""
    net, x = make(case, "categorical"), batch("categorical")
    pair = ProgramPair(net.model, net.guide, x, LENGTHS)
    results = []
    for estimator, given in [
        (TraceIWAE(3), net.given(x, LENGTHS)),
        (TraceFIVO(3, threshold=0.0), net.given(x, LENGTHS)),
        (TraceFIVO(3, threshold=0.0), pair),
    ]:
        torch.manual_seed(1)
        value, bound, _ = estimator.objective(given)
        parameters = list(net.parameters())
        gradients = torch.autograd.grad(value.sum(), parameters, materialize_grads=True)
        results.append((value, bound, gradients))
    assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)
    assert_close(results[2], results[0], rtol=1e-9, atol=1e-9)


class Scripted:
    """Ancestors told in advance, and what was asked for them."""

    def __init__(self, ancestors):
        self.ancestors, self.log_weights, self.goes_on = ancestors, [], []

    def __call__(self, log_weight, goes_on):
        t = len(self.log_weights)
        self.log_weights.append(log_weight)
        self.goes_on.append(goes_on)
        return self.ancestors[t]


@pytest.mark.parametrize("path", ["steps", "programs"])
@pytest.mark.parametrize("case", CASES)
def test_a_particle_goes_on_from_its_ancestor(case, path):
    """Each step's weight is that of the latents of the ancestors, with one's own at last."""
    net, x, num_particles = make(case), batch(), 4
    ancestors = [torch.randint(num_particles, (num_particles, 3)) for _ in range(5)]
    ancestors[2] = None
    script = Scripted(ancestors)
    given = net.given(x, LENGTHS)
    if path == "programs":
        given = ProgramPair(net.model, net.guide, x, LENGTHS)
    terms = given.filtered(num_particles, script)
    z = terms.latents
    z = torch.stack(list(z.values()), -2) if isinstance(z, dict) else z
    lineage = torch.arange(num_particles)[:, None].expand(-1, 3)
    for t in range(5):
        history = z.clone()
        line = lineage
        for s in reversed(range(t)):
            if ancestors[s] is not None:
                line = ancestors[s].gather(0, line)
            history[:, :, s] = z[:, :, s].gather(0, line[..., None].expand_as(z[:, :, s]))
        whole = net.terms(x, LENGTHS, latents=history)
        log_weight = (whole.log_emission + whole.log_prior - whole.log_posterior)[..., t]
        assert_close(script.log_weights[t], log_weight, rtol=1e-9, atol=1e-9)
        assert_close(terms.log_emission[..., t], whole.log_emission[..., t])
        if "costs" in case:
            assert_close(terms.costs[..., t], whole.costs[..., t].expand(4, 3))
    assert torch.stack(script.goes_on, -1).tolist() == [
        [True] * 4 + [False],
        [False] * 5,
        [True] * 3 + [False] * 2,
    ]


def system(guide_sees="present", num_steps=6, spread=1.2, shift=0.2):
    net = LGSSM(2, 2, guide_sees, spread=spread, shift=shift)
    torch.nn.init.constant_(net.emission.log_scale, 0.2)
    return net, torch.randn(2, num_steps, 2), torch.tensor([num_steps, num_steps - 2])


FIVO = [
    partial(TraceFIVO, threshold=threshold, resampling=resampling)
    for threshold in (0.5, 1.0)
    for resampling in ("systematic", "multinomial")
]


CASES_OF_EVIDENCE = [(e, sees, False) for e in (TraceIWAE, *FIVO) for sees in ("present", "future")]
CASES_OF_EVIDENCE += [(estimator, "present", True) for estimator in FIVO[::3]]


@pytest.mark.parametrize(("estimator", "guide_sees", "by_programs"), CASES_OF_EVIDENCE)
def test_the_estimate_of_the_evidence_is_unbiased(estimator, guide_sees, by_programs):
    """The mean of many runs is 1 within 4 standard errors, each below 0.03."""
    num = 4_000 if by_programs else 8_000
    ratio = log_ratios(*system(guide_sees), estimator(5), num, by_programs).exp()
    error = ratio.std(0) / num**0.5
    assert (error < 0.03).all() and (error > 0).all()
    assert ((ratio.mean(0) - 1).abs() < 4 * error).all()


def test_resampling_beats_importance_sampling_over_many_steps():
    setting = system("nothing", 25, spread=1.0, shift=0.0)
    fivo, iwae = (log_ratios(*setting, e(16), 300) for e in (TraceFIVO, TraceIWAE))
    assert (fivo.std(0) < 0.6 * iwae.std(0)).all()
    assert (fivo.mean(0) > iwae.mean(0) + 0.5).all()


def test_the_gradient_is_pathwise():
    """Resampling at every step, with ancestors held, against finite differences of the bound."""
    net, x, lengths = system(num_steps=3)
    direction = [torch.randn_like(p) for p in net.parameters()]
    ancestors = [
        torch.tensor([[0, 2], [1, 1], [1, 0]]),
        torch.tensor([[1, 0], [1, 0], [2, 2]]),
        None,
    ]

    def log_evidence():
        torch.manual_seed(1)
        script = Scripted(ancestors)
        net.given(x, lengths).filtered(3, script)
        return sum(w.logsumexp(0).sum() for w in script.log_weights)

    gradients = torch.autograd.grad(log_evidence(), list(net.parameters()))
    expected = sum((g * d).sum() for g, d in zip(gradients, direction))
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for p, d in zip(net.parameters(), direction):
                p += step * d
            values.append(log_evidence())
    assert_close((values[0] - values[1]) / 2e-5, expected, rtol=1e-6, atol=1e-6)


def test_programs_run_once_more_for_each_step_that_resamples():
    net, x, lengths = system(num_steps=4)
    lengths[:] = 4
    runs = []
    pair = ProgramPair(lambda *a: runs.append(1) or net.model(*a), net.guide, x, lengths)
    for ancestors, expected in (([None] * 4, 1), ([None, torch.zeros(3, 2).long(), None, None], 2)):
        runs.clear()
        pair.filtered(3, Scripted(ancestors))
        assert len(runs) == expected


def test_other_programs_than_steps_are_refused():
    def model(x):
        with pyro.plate("sequences", 3, dim=-1):
            pyro.sample("z_0", dist.Normal(0.0, 1.0))
            z = pyro.sample("z_1", dist.Normal(0.0, 1.0))
            pyro.sample("x_0", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("sequences", 3, dim=-1):
            for t in range(2):
                pyro.sample(f"z_{t}", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match=r"one latent and one observation after the other, got \["):
        TraceFIVO(2).loss(model, guide, torch.randn(3))


def walk(x):
    z = 0.0
    with pyro.plate("sequences", len(x), dim=-1):
        for t in range(x.shape[1]):
            z = pyro.sample(f"z_{t}", dist.Normal(z, 1.0))
            pyro.sample(f"x_{t}", dist.Normal(z, 1.0), obs=x[:, t])


def test_a_guide_in_another_order_than_the_model_is_refused():
    def backwards(x):
        with pyro.plate("sequences", len(x), dim=-1):
            for t in reversed(range(x.shape[1])):
                pyro.sample(f"z_{t}", dist.Normal(x[:, t], 1.0))

    error = r"in the model's order \['z_0', 'z_1'\], got \['z_1', 'z_0'\]$"
    with pytest.raises(ValueError, match=error):
        TraceFIVO(2).loss(walk, backwards, torch.randn(3, 2))


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_no_cost_of_a_guide_is_lost(threshold):
    """Two before the first step, two at each, and one kind that only the last one has."""

    def costly(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.factor("aux", -x[:, 0], has_rsample=True)
            pyro.factor("aux_too", -x[:, 1], has_rsample=True)
            for t in range(3):
                pyro.sample(f"z_{t}", dist.Normal(x[:, t], 1.0))
                for n in range(2):
                    pyro.factor(f"aux_{t}_{n}", -(10.0**t) * x[:, t], has_rsample=True)
            pyro.factor("reverse", -x[:, 2], has_rsample=True)

    x = torch.randn(4, 3)
    terms = ProgramPair(walk, costly, x).filtered(5, ParticleFilter(threshold))
    expected = 2 * x * torch.tensor([1.0, 10.0, 100.0])
    expected[:, 0] += x[:, 0] + x[:, 1]
    assert_close(terms.auxiliary, expected.expand(5, 4, 3))
    last = torch.tensor([0.0, 0.0, 1.0])
    assert_close(terms.reverse, (x * last).expand(5, 4, 3))


def test_a_guide_of_pyro_can_be_filtered():
    x = torch.randn(3, 4)
    guide = AutoNormal(walk)
    guide(x)
    pair, particles = ProgramPair(walk, guide, x), ParticleFilter(1.0)
    terms = pair.filtered(6, particles)
    assert (particles.num_resampled == 3).all() and terms.log_posterior.isfinite().all()
    assert list(terms.latents) == [f"z_{t}" for t in range(4)]


def test_its_bound_is_no_function_of_a_draw():
    net = LGSSM(2)
    terms = net.terms(torch.randn(2, 3, 2), torch.tensor([3, 3]))
    with pytest.raises(NotImplementedError, match="use 'objective'"):
        TraceFIVO(2).bound(terms)
