"""Twisted particle filters: numbers are those of the tests that the specification asks for."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from family_cases import LENGTHS, batch, make, perturbed
from program_cases import linear_gaussian
from pyro.infer import SVI
from torch.testing import assert_close

from zforcing_pyro.estimators import Steps, TraceFIVO, TraceIWAE, TraceTwisted
from zforcing_pyro.estimators.particle_filter import ParticleFilter
from zforcing_pyro.estimators.programs import ProgramPair
from zforcing_pyro.models.lgssm import LGSSM
from zforcing_pyro.models.twist import another
from zforcing_pyro.training.twists import fit_twist

CASES = ["vrnn", "srnn with costs", "dkf both", "zforcing", "zforcing layer norm"]
cases = pytest.mark.parametrize("case", CASES)


def twisted(case, form="mlp", kind="gaussian"):
    """A net whose twist is of a size to matter."""
    net = make(case, kind)
    net.add_twist(form, 5)
    perturbed(net.twist)
    return net


def gradients(net, value):
    names = dict(net.named_parameters())
    names = {n: p for n, p in names.items() if not n.startswith("twist.")}
    return torch.autograd.grad(value.sum(), list(names.values()), materialize_grads=True)


@cases
@pytest.mark.parametrize("new", [False, True])
def test_zero_twist_is_fivo_bit_for_bit(case, new):
    """1. Without a twist, and with a new one, whose output is 0."""
    net, results = make(case), []
    for kind in (TraceFIVO, TraceTwisted):
        torch.manual_seed(1)
        value, bound, terms = kind(4, 0.8).objective(net.given(batch(), LENGTHS))
        results.append((value, bound, terms.log_weight, *gradients(net, value)))
        if new:
            net.add_twist()
    assert_close(results[1], results[0], rtol=0, atol=0)


@cases
@pytest.mark.parametrize("form", ["mlp", "quadratic"])
def test_without_resampling_it_is_iwae_whatever_the_twist(case, form):
    """2. The factors telescope."""
    net, results = twisted(case, form), []
    for estimator in (TraceIWAE(6), TraceTwisted(6, threshold=0.0)):
        torch.manual_seed(1)
        _, bound, terms = estimator.objective(net.given(batch(), LENGTHS))
        results.append((bound, *gradients(net, bound)))
    assert terms.twist.abs().max() > 0.1
    assert_close(results[1], results[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("form", "threshold", "sees"),
    [("mlp", 0.5, "future"), ("quadratic", 1.0, "present")],
)
def test_estimate_of_the_evidence_is_unbiased_for_any_twist(form, threshold, sees):
    """3. The mean of 8,000 runs is 1 within 5 standard errors."""
    net, x = linear_gaussian(sees, 0.2, 1.2)
    net.add_twist(form, 4)
    perturbed(net.twist)
    num, exact = 8_000, net.log_likelihood(x, LENGTHS)
    with torch.no_grad():
        given = net.given(x.repeat(num, 1, 1), LENGTHS.repeat(num))
        bound = TraceTwisted(5, threshold).objective(given).bound.view(num, 3)
    ratio = (bound - exact).exp()
    error = ratio.std(0) / num**0.5
    assert (error < 0.05).all() and ((ratio.mean(0) - 1).abs() < 5 * error).all()


class Exact(torch.nn.Module):
    """log p(x_{t+1:T} | z_t) of a linear-Gaussian model, by its backward information filter."""

    def __init__(self, net):
        super().__init__()
        self.net = [net]  # no submodule

    def future(self, batch, b):
        joints, _ = self.net[0].messages(batch.x, batch.mask, "future")
        size = len(self.net[0].transition)
        messages = [joint.marginalize(right=size) for joint in joints]
        rows = [
            torch.cat([m.precision.flatten(1), m.info_vec, m.log_normalizer[:, None]], 1)
            for m in messages
        ]
        return torch.stack([*rows[1:], torch.zeros_like(rows[0])], 1)

    def forward(self, z, future):
        size = z.shape[-1]
        precision, info, constant = future.split([size * size, size, 1], -1)
        product = (precision.unflatten(-1, (size, size)) @ z[..., None])[..., 0]
        return (info * z).sum(-1) - (z * product).sum(-1) / 2 + constant[..., 0]


@pytest.mark.parametrize("num_particles", [1, 2, 7])
@pytest.mark.parametrize("num_steps", [1, 2, 30])
def test_exact_twist_with_the_smoothing_proposal_has_no_gap(num_particles, num_steps):
    """4. With every particle's weight p(x) at each step, whatever it resamples."""
    net = LGSSM(3, 2, "future")
    net.twist = Exact(net)
    x, lengths = torch.randn(4, num_steps, 3), torch.randint(1, num_steps + 1, (4,))
    for threshold in (0.5, 1.0):
        estimator = TraceTwisted(num_particles, threshold, "multinomial", "bound")
        bound = estimator.objective(net.given(x, lengths)).bound
        exact = net.log_likelihood(x, lengths)
        assert_close(bound, exact, rtol=0, atol=1e-10)
    log_weights, ancestors = [], torch.randint(num_particles, (num_particles, 4))
    resample = lambda log_weight, ahead: log_weights.append(log_weight) or ancestors  # noqa: E731
    net.given(x, lengths).filtered(num_particles, resample, twisted=True)
    assert_close(log_weights[0], exact.expand(num_particles, 4), rtol=0, atol=1e-10)
    for log_weight in log_weights[1:]:
        assert_close(log_weight, torch.zeros_like(log_weight), rtol=0, atol=1e-10)


def test_exact_twist_has_no_squared_error():
    """Every draw of the exact posterior gathers what the exact twist foretells."""
    net = LGSSM(3, 2, "future")
    x, lengths = torch.randn(4, 9, 3), torch.tensor([9, 1, 5, 8])
    errors, estimator = [], TraceTwisted(3, learn="value")
    for twist in (Exact(net), net.add_twist() or net.twist):
        net.twist = twist
        errors.append(estimator.squared_error(net.given(x, lengths)))
    assert_close(errors[0], torch.zeros(4), rtol=0, atol=1e-18)
    assert (errors[1] > 0.01).tolist() == [True, False, True, True]


@pytest.mark.slow
@pytest.mark.parametrize("learn", ["ratio", "value"])
def test_learned_twist_closes_most_of_the_gap(learn):
    """5. With the smoothing proposal, against FIVO with that one and the best that filters."""
    from zforcing_pyro.data import Sequences

    torch.manual_seed(0)
    nets = {sees: LGSSM(2, 2, sees) for sees in ("future", "present")}
    for net in nets.values():
        net.load_state_dict(nets["future"].state_dict())
        torch.nn.init.constant_(net.emission.log_scale, 0.7)
    net = nets["future"]
    sequences = Sequences(list(net.given(torch.zeros(2000, 15, 2)).dream()[0].x))
    estimator = TraceTwisted(learn=learn, form="quadratic", hidden_dim=32)
    fit_twist(net, sequences, estimator, 250, seed=1, lr=1e-2)
    given, _ = net.given(torch.zeros(300, 15, 2)).dream()
    exact = net.log_likelihood(given.x)
    for num_particles in (4, 16):
        gap = {}
        for name, sees, kind in (
            ("fivo", "present", TraceFIVO),
            ("fivo, smoothing", "future", TraceFIVO),
            ("both", "future", TraceTwisted),
        ):
            with torch.no_grad():
                bound = kind(num_particles).objective(nets[sees].given(given.x)).bound
            gap[name] = (bound - exact).mean().item()
        assert gap["both"] > 0.5 * gap["fivo"] and gap["both"] > 0.5 * gap["fivo, smoothing"]
        assert gap["both"] > -0.5


@cases
def test_padding_and_neighbours_change_no_term(case):
    """6. Appended padding, and a sequence alone, with ancestors told in advance."""
    net, x = twisted(case), batch()
    ancestors = torch.randint(4, (5, 4, 3))

    def terms(x, lengths, ancestors):
        """The terms of latents that do not depend on the batch's sizes."""
        weights = []

        def resample(log_weight, ahead):
            weights.append(log_weight)
            return ancestors[len(weights) - 1] if len(weights) <= len(ancestors) else None

        made = net.given(x, lengths).filtered(4, resample, twisted=True)
        return made, torch.stack(weights, -1)

    torch.manual_seed(1)
    zero = torch.zeros_like  # the same noise for each sequence, whatever stands beside it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "normal", lambda mean, *a, **k: zero(mean))
        patch.setattr(torch.Tensor, "normal_", lambda self, *a, **k: self.zero_())
        whole, weights = terms(x, LENGTHS, ancestors)
        longer, more = terms(torch.cat([x, torch.full((3, 2, 3), 7.0)], 1), LENGTHS, ancestors)
        assert_close(longer.twist[..., :5], whole.twist)
        assert_close(more[..., :5], weights)
        assert (longer.twist[..., 5:] == 0).all() and (more[..., 5:] == 0).all()
        for n, length in enumerate(LENGTHS):
            only = slice(n, n + 1)
            alone, weight = terms(x[only, :length], LENGTHS[only], ancestors[..., only])
            assert_close(alone.twist, whole.twist[:, only, :length])
            assert_close(weight, weights[:, only, :length])


@cases
def test_twist_goes_on_from_a_carried_state(case):
    """6. The second chunk's terms are those of the state that the first has left."""
    net, x = twisted(case), torch.randn(3, 6, 3)
    state = {k: v[0] if v.dim() == 3 else v for k, v in net.terms(x[:, :3]).state.items()}
    results = []
    for start in (state, None):
        torch.manual_seed(1)
        given = net.given(x[:, 3:], state=start)
        terms = given.filtered(4, lambda *args: None, twisted=True)
        results.append(terms.twist)
        torch.manual_seed(1)
        pair = ProgramPair(net.model, net.guide, *given.args)
        pair.log_twist = given.log_twist
        assert_close(pair.filtered(4, lambda *args: None, twisted=True).twist, terms.twist)
    assert not torch.allclose(*results)


@cases
def test_twist_is_zero_at_every_last_step(case):
    """7. And not before."""
    net, num_steps = twisted(case), 6
    lengths = torch.arange(1, num_steps + 1)
    given = net.given(torch.randn(6, num_steps, 3), lengths)
    terms = given.filtered(3, ParticleFilter(1.0), twisted=True)
    ahead = torch.arange(1, num_steps + 1) < lengths[:, None]
    assert_close((terms.twist != 0).all(0), ahead)
    assert_close((terms.twist == 0).all(0), ~ahead)
    assert given.filtered(3, ParticleFilter(1.0)).twist is None


@cases
def test_fast_path_has_the_numbers_of_the_programs(case):
    """8. Terms, bound, and gradients of net and twist, where nothing resamples."""
    net, results = twisted(case), []
    given = net.given(batch(), LENGTHS)
    pair = ProgramPair(net.model, net.guide, *given.args)
    pair.log_twist = given.log_twist
    for case_given in (given, pair):
        torch.manual_seed(1)
        particles = ParticleFilter(0.0)
        terms = case_given.filtered(5, particles, twisted=True)
        bound = particles.log_evidence()
        slopes = torch.autograd.grad(bound.sum(), net.parameters(), materialize_grads=True)
        results.append((bound, terms.twist, terms.log_prior, *slopes))
    assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)


def test_twist_of_nets_by_programs_alone():
    """8. A class that overrides a program has no fast path, but a backward state."""
    net = twisted("zforcing")
    given, results = net.given(batch(), LENGTHS), []
    for overridden in (False, True):
        if overridden:
            net.__class__ = type("Own", (type(net),), {"model": lambda self, *a: super(type(self), self).model(*a)})  # noqa: E501  # fmt: skip
        torch.manual_seed(1)
        estimator = TraceTwisted(4, 0.0, "multinomial", "bound")
        results.append(estimator.objective(given)[:2])
    assert not net.has_fast
    assert_close(results[0], results[1])
    with pytest.raises(
        ValueError, match=r"^'learn' must be 'bound' for a Own without a fast path$"
    ):
        TraceTwisted(4).objective(given)


@cases
@pytest.mark.parametrize("path", ["steps", "programs"])
def test_twist_is_that_of_the_latents_of_the_ancestors(case, path):
    """8. Both paths, with ancestors told in advance, against a run of the latents so far."""
    net = twisted(case)
    ancestors, num = torch.randint(3, (5, 3, 3)), iter(range(5))
    given = net.given(batch(), LENGTHS)
    pair = ProgramPair(net.model, net.guide, *given.args)
    pair.log_twist = given.log_twist
    filtered = (given if path == "steps" else pair).filtered
    terms = filtered(3, lambda *args: ancestors[next(num)], twisted=True)
    z = terms.latents
    z = torch.stack(list(z.values()), -2) if isinstance(z, dict) else z
    for t in range(5):
        line, history = torch.arange(3)[:, None].expand(3, 3), {}
        for s in reversed(range(t + 1)):
            history[f"z_{s}"] = z[:, :, s].gather(0, line[..., None].expand_as(z[:, :, s]))
            line = ancestors[s - 1].gather(0, line)
        assert_close(given.log_twist(dict(sorted(history.items()))), terms.twist[..., t])


@cases
@pytest.mark.parametrize("path", ["steps", "programs"])
def test_twist_moves_with_its_particle(case, path):
    """9. Two particles that swap places at each step have each other's r_{t-1} taken off."""
    net, log_weights = twisted(case), []
    swap = torch.tensor([1, 0])[:, None].expand(2, 3)

    def resample(log_weight, ahead):
        log_weights.append(log_weight)
        return swap

    given = net.given(batch(), LENGTHS)
    pair = ProgramPair(net.model, net.guide, *given.args)
    pair.log_twist = given.log_twist
    terms = (given if path == "steps" else pair).filtered(2, resample, twisted=True)
    plain = terms.log_emission + terms.log_prior - terms.log_posterior
    for t, log_weight in enumerate(log_weights):
        before = terms.twist[..., t - 1].flip(0) if t else 0.0
        assert_close(log_weight, plain[..., t] + terms.twist[..., t] - before)


# Learning.


@pytest.mark.parametrize("learn", ["ratio", "value", "bound", "auxiliary"])
def test_only_the_bound_way_mixes_gradients_of_net_and_twist(learn):
    net, x = twisted("zforcing", "gaussian" if learn == "auxiliary" else "mlp"), batch()
    slopes = []
    for way in (learn, "bound"):
        estimator = TraceTwisted(4, 0.9, "multinomial", way)
        torch.manual_seed(1)
        value, bound, _ = estimator.objective(net.given(x, LENGTHS))
        assert_close(value, bound + (value - bound).detach())
        net.zero_grad()
        value.sum().backward()
        slopes.append({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})
    assert all(p.requires_grad for p in net.parameters())
    is_twist = {n for n in slopes[0] if n.startswith("twist.")}
    assert is_twist == {f"twist.{n}" for n, _ in net.twist.named_parameters()}
    for name, slope in slopes[0].items():
        same = torch.allclose(slope, slopes[1][name], rtol=1e-9, atol=1e-12)
        cancels = learn == "value" and name == "twist.f.layers.2.bias"  # shared by particles
        assert same == (name not in is_twist or learn == "bound" or cancels), name


@pytest.mark.slow
def test_ratio_is_learnt_where_it_is_known():
    """Two steps: the logit is the difference of two Gaussian densities of x_1."""
    net = LGSSM(1, 1)
    with torch.no_grad():
        net.transition.fill_(0.9)
        net.log_scale.fill_(0.0)
        net.emission.weight.fill_(1.0)
        net.emission.log_scale.fill_(0.0)
    estimator = TraceTwisted(form="quadratic", hidden_dim=16)
    from zforcing_pyro.data import Sequences

    fit_twist(net, Sequences([torch.zeros(2, 1)] * 8), estimator, 250, batch_size=256)
    given, z = net.given(torch.zeros(500, 2, 1)).dream()
    with torch.no_grad():
        log_r = net.twist(z[0, :, 0], given.future(given.batch)[:, 0])
    x = given.x[:, 1, 0]
    exact = dist.Normal(0.9 * z[0, :, 0, 0], 2**0.5).log_prob(x)
    exact = exact - dist.Normal(0.0, (0.81 + 2) ** 0.5).log_prob(x)
    assert (log_r - exact).abs().mean() < 0.1 < exact.abs().mean()


def test_futures_of_others_are_never_ones_own():
    rows = torch.arange(5).expand(1, 5).T[:, :, None].expand(5, 3, 2)
    for _ in range(20):
        others, _ = another(rows, torch.ones(5, 3, dtype=torch.bool))
        assert (others != rows).all()
    _, mask = another(rows[:1], torch.ones(1, 3, dtype=torch.bool))
    assert not mask.any()


# Own programs.


class Twist(torch.nn.Module):
    """Quadratic in z_t with the next observation, which is how init hands it over."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(0.0))
        self.square = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, state, t, x, observations=None):
        return self.slope * state["z"] * state["next"][:, t] + self.square * state["z"] ** 2


def walk_steps(twist=None):
    """A random walk of step 1 with observations of scale 1/2, and the prior as its guide."""

    def init(x, observations=None):
        return {"z": torch.zeros(len(x))}

    def data(x, observations):
        num = x.shape[1]
        return x if observations is None else torch.stack(
            [observations[f"x_{t}"] for t in range(num)], 1
        )  # fmt: skip

    def init_guide(x, observations=None):
        x = data(x, observations)
        return init(x) | {"next": torch.cat([x[:, 1:], x[:, :1]], 1)}

    def step(state, t, x, observations=None):
        z = pyro.sample(f"z_{t}", dist.Normal(state["z"], 1.0))
        obs = x[:, t] if observations is None else observations[f"x_{t}"]
        pyro.sample(f"x_{t}", dist.Normal(z, 0.5), obs=obs)
        return {"z": z}

    def guide_step(state, t, x, observations=None):
        return {"z": pyro.sample(f"z_{t}", dist.Normal(state["z"], 1.0))}

    return Steps(init, step), Steps(init_guide, guide_step, twist=twist)


def test_steps_with_a_twist_have_its_increments():
    twist = Twist()
    with torch.no_grad():
        twist.slope.fill_(0.4)
        twist.square.fill_(-0.2)
    x, bounds = torch.randn(3, 6), []
    for estimator in (TraceIWAE(4), TraceTwisted(4, 0.0, "multinomial", "bound")):
        torch.manual_seed(1)
        bounds.append(estimator.objective(ProgramPair(*walk_steps(twist), x)))
    assert_close(bounds[0].bound, bounds[1].bound, rtol=1e-12, atol=1e-12)
    terms = bounds[1].terms
    assert (terms.twist[..., -1] == 0).all() and (terms.twist[..., :-1] != 0).all()
    log_weights, swap = [], torch.tensor([1, 0])[:, None].expand(2, 3)
    pair = ProgramPair(*walk_steps(twist), x)
    terms = pair.filtered(2, lambda w, _: log_weights.append(w) or swap, twisted=True)
    plain = terms.log_emission + terms.log_prior - terms.log_posterior
    for t, log_weight in enumerate(log_weights):
        before = terms.twist[..., t - 1].flip(0) if t else 0.0
        assert_close(log_weight, plain[..., t] + terms.twist[..., t] - before)


@pytest.mark.slow
@pytest.mark.parametrize("learn", ["ratio", "value", "bound"])
def test_svi_learns_the_twist_of_steps(learn):
    """The bound rises, by training nothing but the twist: model and guide have no parameter."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    twist, x = Twist(), torch.randn(200, 8).cumsum(1)
    pair = walk_steps(twist)
    estimator = TraceTwisted(4, 0.5, "multinomial", learn)
    svi = SVI(*pair, pyro.optim.Adam({"lr": 0.02}), loss=estimator)
    observations = {f"x_{t}": x[:, t] for t in range(8)}

    def loss():
        torch.manual_seed(5)
        with torch.no_grad():
            return sum(estimator.loss(*pair, x) for _ in range(5)) / 5 / len(x)

    before = loss()
    for _ in range(100):
        svi.step(x, observations=observations)
    assert twist.slope > 0.2 and twist.square < -0.05
    assert loss() < before - 0.5
    pyro.clear_param_store()


# Options.


def test_saved_net_has_its_twist(tmp_path):
    from zforcing_pyro import load

    net = twisted("zforcing", kind="bernoulli")
    net.save(tmp_path / "net")
    again, x = load(tmp_path / "net"), batch("bernoulli")
    bounds = []
    for each in (net, again):
        torch.manual_seed(1)
        with torch.no_grad():
            bounds.append(TraceTwisted(4, 1.0).objective(each.given(x)).bound)
    assert_close(bounds[0], bounds[1])


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r"^'learn' must be one of \['ratio', .*got 'best'$"):
        TraceTwisted(learn="best")
    with pytest.raises(ValueError, match=r"^'resampling' must be 'multinomial' where 'learn'"):
        TraceTwisted(learn="bound")
    with pytest.raises(ValueError, match=r"^'form' must be one of .*got 'cubic'$"):
        make("zforcing").add_twist("cubic")
    error = "'learn' must be 'ratio' or 'bound' for a VRNN without a backward state"
    with pytest.raises(ValueError, match=f"^{error}, got 'auxiliary'$"):
        TraceTwisted(learn="auxiliary").prepare(make("vrnn"))
