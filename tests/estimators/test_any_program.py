"""Programs as Pyro users write them: with Pyro's numbers where Pyro is right."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from program_cases import X, guide, make_estimator, model, program_loss
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO, autoguide
from torch.testing import assert_close

from zforcing_pyro.estimators import ESTIMATORS, TraceELBO, TraceIWAE
from zforcing_pyro.estimators.programs import ProgramPair

DRAWN = {"elbo": {"analytic_kl": False}}
everyone = pytest.mark.parametrize("name", ESTIMATORS)


def make(name, num_particles=1, **options):
    return make_estimator(name, num_particles, **DRAWN.get(name, {}), **options)


def compare(ours, pyros, model, guide, *args, parameters):
    """Asserts equal losses and gradients at one seed."""
    results = []
    for estimator in (ours, pyros):
        torch.manual_seed(3)
        loss = estimator.differentiable_loss(model, guide, *args)
        grads = torch.autograd.grad(loss, parameters, materialize_grads=True)
        results.append((loss.detach(), *grads))
    assert_close(*results, rtol=1e-9, atol=1e-9)
    assert any((g != 0).any() for g in results[0][1:])


def test_a_loop_has_the_terms_of_the_vectorised_particles():
    terms, latents = [], {"z": torch.randn(5, 3)}
    for vectorized in (True, False):
        pair = ProgramPair(model, guide, X)
        pair.vectorized = vectorized
        terms.append(pair.terms(latents=latents))
    for name, value in terms[0]._asdict().items():
        if name not in ("state", "weights", "mask"):
            assert_close(getattr(terms[1], name), value)


# Latents without a reparameterised draw


def coins(seen):
    """Two coins that depend on each other, seen with noise; ``q`` has the guide's logits."""
    p = torch.tensor([0.3, -0.4, 0.8]).requires_grad_()
    q = torch.tensor([0.2, 0.5, -0.7]).requires_grad_()

    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            a = pyro.sample("a", dist.Bernoulli(logits=p[0]))
            b = pyro.sample("b", dist.Bernoulli(logits=p[1] + p[2] * a))
            pyro.sample("x", dist.Normal(a + 2 * b, 1.0), obs=x)

    def guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            a = pyro.sample("a", dist.Bernoulli(logits=q[0] * x))
            pyro.sample("b", dist.Bernoulli(logits=q[1] + q[2] * a))
            if seen:
                pyro.factor("aux", -a * q[1], has_rsample=True)

    return model, guide, p, q


def enumerated(estimator, p, q, x, num_particles, costs):
    """The expected objective at one x, over all values of all particles."""
    values = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    a, b = values.unbind(-1)
    log_p = dist.Bernoulli(logits=p[0]).log_prob(a)
    log_p = log_p + dist.Bernoulli(logits=p[1] + p[2] * a).log_prob(b)
    log_p = log_p + dist.Normal(a + 2 * b, 1.0).log_prob(x)
    log_q = dist.Bernoulli(logits=q[0] * x).log_prob(a)
    log_q = log_q + dist.Bernoulli(logits=q[1] + q[2] * a).log_prob(b)
    total = 0.0
    for choice in torch.cartesian_prod(*[torch.arange(4)] * num_particles).view(-1, num_particles):
        log_w = (log_p - log_q)[choice]
        if estimator in ("elbo", "analytic"):
            bound = log_w.mean()
        elif estimator == "iwae":
            bound = log_w.logsumexp(0) - math.log(num_particles)
        else:
            bound = 2 * ((log_w / 2).logsumexp(0) - math.log(num_particles))
        bound = bound + (a[choice] * q[1]).mean() if costs else bound
        total = total + log_q[choice].sum().exp() * bound
    return total


@pytest.mark.parametrize("costs", [False, True])
@pytest.mark.parametrize("num_particles", [1, 2, 3])
@pytest.mark.parametrize("name", ["elbo", "analytic", "iwae", "renyi"])
def test_score_functions_have_the_gradient_of_enumeration(name, num_particles, costs):
    """Within 4 standard errors over 8,000 draws."""
    num, x = 8_000, torch.tensor(1.3)
    model, guide, p, q = coins(costs)
    kind = "elbo" if name == "analytic" else name
    options = {"analytic_kl": name == "analytic"} if kind == "elbo" else {}
    with torch.enable_grad():
        exact = enumerated(name, p, q, x, num_particles, costs)
        exact = torch.cat(torch.autograd.grad(exact, [p, q]))
    groups = []
    for _ in range(40):
        loss = program_loss(
            ESTIMATORS[kind](num_particles, **options), model, guide, x.expand(num // 40)
        )
        groups.append(torch.cat(torch.autograd.grad(-loss / (num // 40), [p, q])))
    groups = torch.stack(groups)
    error = groups.std(0) / len(groups) ** 0.5
    assert ((groups.mean(0) - exact).abs() < 4 * error + 1e-9).all()
    assert (error < 0.1).all()


def test_leave_one_out_baselines_lower_the_variance():
    model, guide, _, q = coins(False)

    def spread(num_particles, num_draws):
        grads = []
        for _ in range(num_draws):
            loss = program_loss(make("elbo", num_particles), model, guide, torch.full((9,), 9.0))
            grads.append(torch.autograd.grad(loss, q)[0])
        return torch.stack(grads).var(0)

    assert (3 * spread(2, 100) < spread(1, 200)).all()


def test_a_score_function_of_one_particle_has_the_numbers_of_pyro():
    model, guide, p, q = coins(False)
    compare(make("elbo"), Trace_ELBO(), model, guide, X, parameters=[p, q])


def coin(x):
    """One coin, whose posterior has the logits 2 x - 2 + logit."""
    logit = pyro.param("logit", torch.tensor(0.0))
    with pyro.plate("sequences", len(x), dim=-1):
        z = pyro.sample("z", dist.Bernoulli(logits=logit))
        pyro.sample("x", dist.Normal(2 * z, 1.0), obs=x)


def coin_guide(x):
    slope, offset = (pyro.param(name, torch.tensor(0.0)) for name in ("slope", "offset"))
    with pyro.plate("sequences", len(x), dim=-1):
        pyro.sample("z", dist.Bernoulli(logits=slope * x + offset))


@pytest.mark.parametrize("name", ["stl", "dreg", "fivo"])
def test_estimators_of_paths_refuse_draws_without_one(name):
    error = rf"^Site 'z' must be reparameterised for {ESTIMATORS[name].__name__}; TraceELBO, .*$"
    with pytest.raises(NotImplementedError, match=error):
        make(name, 2).loss_and_grads(coin, coin_guide, X)
    assert math.isfinite(make(name, 2).loss(coin, coin_guide, X))


def test_dreams_need_programs_that_take_observations():
    with pytest.raises(ValueError, match="must take a keyword 'observations'"):
        make("rws", 2, sleep_phi=0.5).loss_and_grads(coin, coin_guide, X)


# Latents that sequences share, and guides of Pyro


def shared(x):
    """A location and a scale of all data, and a latent of each sequence."""
    loc = pyro.sample("loc", dist.Normal(0.0, 2.0))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
    with pyro.plate("sequences", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(loc, scale))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


GUIDES = ["AutoNormal", "AutoDiagonalNormal", "AutoMultivariateNormal",
          "AutoLowRankMultivariateNormal", "AutoDelta", "AutoIAFNormal"]  # fmt: skip


def structured(model):
    conditionals = {"loc": "normal", "scale": "normal", "z": "normal"}
    dependencies = {"scale": {"loc": "linear"}, "z": {"loc": "linear"}}
    return autoguide.AutoStructured(model, conditionals=conditionals, dependencies=dependencies)


@pytest.mark.parametrize("kind", [*GUIDES, "AutoStructured"])
@pytest.mark.parametrize("num_particles", [1, 3])
def test_guides_of_pyro_have_the_numbers_of_pyro(kind, num_particles):
    guide = structured(shared) if kind == "AutoStructured" else getattr(autoguide, kind)(shared)
    torch.manual_seed(0)
    guide(X)
    if kind == "AutoNormal" or num_particles == 1:
        pyros = Trace_ELBO(num_particles, max_plate_nesting=1, vectorize_particles=True)
        ours = make("elbo", num_particles)
    else:
        pyros = Trace_ELBO(num_particles)
        ours = make("elbo", num_particles, vectorize_particles=False)
    compare(ours, pyros, shared, guide, X, parameters=list(guide.parameters()))
    with pytest.raises(ValueError, match=r"^Site '.*' must stand in one batch plate.*joint bound"):
        TraceIWAE(2, vectorize_particles=False).loss(shared, guide, X)


@pytest.mark.parametrize("subsample", [None, 2])
def test_shared_latents_without_a_path_have_the_numbers_of_pyro(subsample):
    """A coin that sequences share, one of each, and a location: each has the cost of its plates."""
    p, q = (torch.tensor(values).requires_grad_() for values in ([0.3, -0.4], [0.2, 0.5, -0.7]))

    def model(x):
        shared = pyro.sample("shared", dist.Bernoulli(logits=p[0]))
        with pyro.plate("sequences", len(x), subsample, dim=-1) as index:
            each = pyro.sample("each", dist.Bernoulli(logits=p[1] + shared))
            z = pyro.sample("z", dist.Normal(each, 1.0))
            pyro.sample("x", dist.Normal(z + shared, 1.0), obs=x[index])

    def guide(x):
        shared = pyro.sample("shared", dist.Bernoulli(logits=q[0]))
        with pyro.plate("sequences", len(x), subsample, dim=-1) as index:
            pyro.sample("each", dist.Bernoulli(logits=q[1] * x[index] + shared))
            pyro.sample("z", dist.Normal(q[2] * x[index], 1.0))

    compare(make("elbo"), Trace_ELBO(), model, guide, X, parameters=[p, q])


# Plates, scales, deterministic sites


def test_kl_annealing_by_scale_has_the_numbers_of_pyro():
    """The latents alone are scaled, as in Pyro's own DMM."""
    slope = torch.tensor(0.3).requires_grad_()

    def annealed(program, factor):
        def scaled(x):
            with pyro.plate("sequences", len(x), dim=-1):
                with poutine.scale(scale=factor):
                    loc = slope * x if program == "guide" else torch.tensor(0.0)
                    z = pyro.sample("z", dist.Normal(loc, 1.0))
                if program == "model":
                    pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        return scaled

    pair = annealed("model", 0.1), annealed("guide", 0.1)
    compare(make("elbo"), Trace_ELBO(), *pair, X, parameters=[slope])
    compare(TraceELBO(), TraceMeanField_ELBO(), *pair, X, parameters=[slope])
    with pytest.raises(ValueError, match=r"must be scaled like the others.*TraceELBO and TraceSTL"):
        TraceIWAE(2).loss(*pair, X)
    other = annealed("model", 0.1), annealed("guide", 0.7)
    compare(TraceELBO(), Trace_ELBO(), *other, X, parameters=[slope])


def nested(scale=1.0, subsample=None, num_views=3):
    """Views of a latent in a plate of their own."""
    y, slope = torch.randn(num_views, 3), torch.tensor(0.4).requires_grad_()

    def model():
        with pyro.plate("sequences", 3, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("views", num_views, subsample, dim=-2) as index:
                with poutine.scale(scale=scale):
                    pyro.sample("y", dist.Normal(z, 1.0), obs=y[index])

    def guide():
        with pyro.plate("sequences", 3, dim=-1):
            pyro.sample("z", dist.Normal(slope * y.mean(0), 1.0))

    return model, guide, slope


@pytest.mark.parametrize("options", [
    {"subsample": 2}, {"scale": torch.tensor([[1.0], [2.0], [3.0]])}, {"scale": 2.0}
])  # fmt: skip
def test_scales_of_inner_plates_have_the_numbers_of_pyro(options):
    """W6."""
    model, guide, slope = nested(**options)
    for num in (1, 4):
        pyros = Trace_ELBO(num, max_plate_nesting=2, vectorize_particles=True)
        compare(make("elbo", num, max_plate_nesting=2), pyros, model, guide, parameters=[slope])
    with pytest.raises(ValueError, match="must be scaled like the others"):
        TraceIWAE(2).loss(model, guide)


@pytest.mark.parametrize("views", [3, 2])
def test_a_tensor_scale_along_an_inner_plate_is_no_scale_of_sequences(views):
    """W6, where all sites share it, with as many views as sequences or fewer."""
    slope = torch.tensor(0.3).requires_grad_()

    def program(is_model):
        def scaled():
            with poutine.scale(scale=torch.arange(1.0, 1 + views)[:, None]):
                with pyro.plate("views", views, dim=-2), pyro.plate("sequences", 3, dim=-1):
                    z = pyro.sample("z", dist.Normal(0.0 if is_model else slope, 1.0))
                    if is_model:
                        pyro.sample("x", dist.Normal(z, 1.0), obs=X.expand(views, 3))

        return scaled

    pair = program(True), program(False)
    compare(make("elbo"), Trace_ELBO(), *pair, parameters=[slope])
    with pytest.raises(ValueError, match="must have one plate in common"):
        TraceIWAE(2).loss(*pair)


# Flows


def flow_programs(transform):
    def model(x):
        with pyro.plate("sequences", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def guide(x):
        base = dist.Normal(torch.stack([x, -x], -1), 1.0).to_event(1)
        with pyro.plate("sequences", len(x)):
            pyro.sample("z", dist.TransformedDistribution(base, [transform]))

    return model, guide


@pytest.mark.parametrize("kind", ["planar", "radial", "affine_coupling"])
def test_flows_without_an_inverse_are_taken_by_draws_alone(kind):
    """C10: estimators that score a draw again refuse in a sentence."""
    options = {"hidden_dims": [4]} if kind == "affine_coupling" else {}
    transform = getattr(dist.transforms, kind)(2, **options)
    pair, parameters = flow_programs(transform), list(transform.parameters())
    for num in (1, 3):
        pyros = Trace_ELBO(num, max_plate_nesting=1, vectorize_particles=True)
        compare(TraceELBO(num), pyros, *pair, X, parameters=parameters)
    for name in ("stl", "dreg", "rws"):
        if kind == "affine_coupling":
            assert math.isfinite(make(name, 2).loss_and_grads(*pair, X))
            continue
        with pytest.raises(ValueError, match=r"^Site 'z' must have a flow with an inverse"):
            make(name, 2).loss_and_grads(*pair, X)


# Pyro's arguments


@everyone
def test_arguments_of_pyros_estimators_are_accepted(name):
    options = {"max_plate_nesting": 1, "vectorize_particles": True, "jit_options": {}}
    options |= {"strict_enumeration_warning": False, "ignore_jit_warnings": True}
    assert math.isfinite(make(name, 2, **options).loss(model, guide, X))
    with pytest.raises(TypeError, match="no_such_option"):
        make(name, 2, no_such_option=1)
