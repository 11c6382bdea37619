"""Rows of the table of ``docs/pyro.md``: programs as Pyro users write them, with exact bounds."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import autoguide
from pyro.nn import AutoRegressiveNN
from pyro_exact import (
    COIN,
    NORMAL,
    Row,
    multi_sample,
    over_grid,
    over_noise,
    param,
    posterior,
    prior,
)
from torch import nn

VALUES = torch.tensor([-1.0, 1.5], dtype=torch.float64)
ROWS = {}


def row(title):
    """Enters a builder, from a number of copies of :data:`VALUES`, under the row's title."""

    def enter(build):
        ROWS[title] = build
        return build

    return enter


def seen(x, z):
    return dist.Normal(z, 1.0).log_prob(x)


def model(x):
    with pyro.plate("sequences", len(x), dim=-1):
        z = pyro.sample("z", prior())
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x):
    with pyro.plate("sequences", len(x), dim=-1):
        pyro.sample("z", posterior(x))


def plain(copies, model=model, guide=guide, prior=prior, posterior=posterior, likelihood=seen,
          data=None, num=None, **options):  # fmt: skip
    """Returns a row with one latent a sequence; joint bounds are told by one sequence alone."""
    x = VALUES.repeat(copies) if copies else VALUES[:1]
    names = ("options", "around", "calls")
    of_row = {name: options.pop(name) for name in names if name in options}
    scale = options.pop("scale", 1.0)
    exact, evidence = over_grid(
        VALUES if copies else x, prior, posterior, likelihood,
        scale=[scale * max(1, copies)] * 2 if not isinstance(scale, list) else scale, **options,
    )  # fmt: skip
    return Row(model, guide, (x,) if data is None else data(x), exact, evidence, **of_row)


row("a reparameterised latent a sequence")(plain)


class Cells(nn.Module):
    """Programs of recurrent cells, which take batches of one dim only, and ``cat``."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.gru, self.lstm = nn.GRUCell(2, 1), nn.LSTMCell(2, 1)
        self.requires_grad_(False)

    def prior(self, x):
        h, _ = self.lstm(torch.cat([0 * x[:, None], 1 + 0 * x[:, None]], -1))
        return dist.Normal(param("loc") + h[:, 0], 1.0)

    def posterior(self, x):
        h = self.gru(torch.cat([x[:, None], x[:, None]], -1))
        return dist.Normal(param("slope") * x + h[:, 0], param("log_scale").exp())

    def model(self, x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", self.prior(x))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", self.posterior(x))


def cells(copies, **options):
    net = Cells()
    return plain(copies, net.model, net.guide, lambda: net.prior(VALUES[:1]),
                 lambda x: net.posterior(x[None]), options=options)  # fmt: skip


row("`GRUCell`, `LSTMCell`, `cat`, one particle")(lambda n: cells(n, num_particles=1))
row("the same cells, two particles in a loop: `vectorize_particles=False`")(
    lambda n: cells(n, vectorize_particles=False)
)


@row("a Bernoulli latent, which has no reparameterised draw")
def coin(copies):
    def prior():
        return dist.Bernoulli(logits=param("loc"))

    def posterior(x):
        return dist.Bernoulli(logits=param("slope") * x + param("log_scale"))

    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", prior())
            pyro.sample("x", dist.Normal(2 * z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", posterior(x))

    return plain(copies, model, guide, prior, posterior,
                 lambda x, z: dist.Normal(2 * z, 1.0).log_prob(x), grid=COIN)  # fmt: skip


@row("a Normal latent drawn without its path (`has_rsample_(False)`)")
def no_path(copies):
    def guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", posterior(x).has_rsample_(False))

    return plain(copies, guide=guide)


@row("Poisson data of a Gamma latent (PoissonGamma)")
def counts(copies):
    def prior():
        return dist.Gamma(2.0 * param("loc").exp(), 1.0)

    def posterior(x):
        return dist.Gamma(2.0 + x, 1.1 * param("log_scale").exp())

    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            rate = pyro.sample("z", prior())
            pyro.sample("x", dist.Poisson(rate), obs=x)

    def guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", posterior(x))

    x = torch.tensor([1.0, 4.0])
    exact, evidence = over_grid(
        x if copies else x[:1], prior, posterior, lambda x, z: dist.Poisson(z).log_prob(x),
        grid=torch.linspace(0.02, 30.0, 1_500) - 0.01, scale=float(max(1, copies)),
    )  # fmt: skip
    return Row(model, guide, (x.repeat(copies) if copies else x[:1],), exact, evidence)


@row("no closed KL: a Student-t prior")
def student(copies):
    def prior():
        return dist.StudentT(4.0, param("loc"), 1.0)

    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", prior())
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    return plain(copies, model, prior=prior)


@row("a flow without an inverse in the guide (`planar`)")
def planar(copies):
    flow = dist.transforms.Planar(1)
    for parameter, value in ((flow.u, 0.5), (flow.w, 0.8), (flow.bias, 0.3)):
        nn.init.constant_(parameter, value)

    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(param("loc")[None], 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[..., 0], 1.0), obs=x)

    def guide(x):
        pyro.module("flow", flow)
        base = dist.Normal(x[:, None] / 2, 1.0).to_event(1)
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("z", dist.TransformedDistribution(base, [flow]))

    x = VALUES.repeat(copies) if copies else VALUES[:1]
    mass = dist.Normal(0.0, 1.0).log_prob(NORMAL).exp() * (NORMAL[1] - NORMAL[0])

    def exact(kind, num_particles):
        u, w, value = flow.u, flow.w, 0.0
        u = u + (nn.functional.softplus(u * w) - 1 - u * w) / w  # so that it is increasing
        for x_i in VALUES if copies else x:
            y = x_i / 2 + NORMAL
            z, slope = y + u * (w * y + flow.bias).tanh(), u * w / (w * y + flow.bias).cosh() ** 2
            log_q = dist.Normal(0.0, 1.0).log_prob(NORMAL) - (1 + slope).log()
            log_p = prior().log_prob(z) + seen(x_i, z)
            value = value + multi_sample(kind, num_particles, log_p, log_q, mass)[0]
        return max(1, copies) * value, None if kind == "rws" else max(1, copies) * value

    return Row(model, guide, (x,), exact)


# Latents that sequences share


def shared(prior, posterior, grid):
    """Returns a builder of a latent of all sequences, by which each one is seen directly."""

    def model(x):
        z = pyro.sample("z", prior())
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        pyro.sample("z", posterior(x.mean()))

    def build(copies):
        x = VALUES if copies else VALUES[:1]
        exact, evidence = over_grid(
            x.mean()[None], prior, posterior, lambda _, z: sum(seen(x_i, z) for x_i in x), grid
        )
        return Row(model, guide, (x,), exact, evidence, joint=len(x) > 1)

    return build


row("a latent that all sequences share, reparameterised")(shared(prior, posterior, NORMAL))
row("the same, Bernoulli")(
    shared(
        lambda: dist.Bernoulli(logits=param("loc")),
        lambda x: dist.Bernoulli(logits=param("slope") * x + param("log_scale")),
        COIN,
    )
)


def hierarchy(x):
    """A location of all data, and a latent of each sequence."""
    shared = pyro.sample("shared", prior())
    with pyro.plate("sequences", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(shared, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def log_joint(x):
    def log_prob(z):
        loc, z = z[:, :1], z[:, 1:]
        density = dist.Normal(loc, 1.0).log_prob(z) + seen(x, z)
        return prior().log_prob(loc)[:, 0] + density.sum(-1)

    return log_prob


def affine(guide, kind, noise):
    """Returns latents and the log of the Jacobian of a Gaussian guide, at noise."""
    if kind == "AutoNormal":
        loc, scale = (torch.cat([p.shared[None], p.z]) for p in (guide.locs, guide.scales))
        tril = torch.diag(scale)
    elif kind == "AutoStructured":
        loc = torch.cat([guide.locs.shared, guide.locs.z])
        scale = torch.cat([guide.scales.shared, guide.scales.z])
        column = torch.cat([torch.zeros(1), guide.deps.z.shared.weight[:, 0]])
        tril = torch.diag(scale) + column[:, None] * scale[0] * torch.eye(len(loc))[0]
    else:
        loc = guide.get_posterior().mean
        tril = torch.linalg.cholesky(torch.diag_embed(guide.get_posterior().variance)
                                     if kind == "AutoDiagonalNormal"
                                     else guide.get_posterior().covariance_matrix)  # fmt: skip
    return loc + noise @ tril.T, tril.diagonal().log().sum()


def smooth_flow(dim):
    """Returns a flow without kinks, over which quadrature converges."""
    network = AutoRegressiveNN(dim, [10], nonlinearity=nn.Tanh())
    return dist.transforms.AffineAutoregressive(network)


def automatic(kind):
    """Returns a builder of programs with a guide of Pyro's own."""

    def build(copies):
        x = VALUES if copies else VALUES[:1]
        if kind == "AutoStructured":
            conditionals = {"shared": "normal", "z": "normal"}
            guide = autoguide.AutoStructured(
                hierarchy, conditionals=conditionals, dependencies={"z": {"shared": "linear"}}
            )
        elif kind == "AutoGuideList":
            guide = autoguide.AutoGuideList(hierarchy)
            guide.append(autoguide.AutoNormal(poutine.block(hierarchy, expose=["shared"])))
            guide.append(autoguide.AutoDiagonalNormal(poutine.block(hierarchy, expose=["z"])))
        elif kind == "AutoNormalizingFlow":
            guide = autoguide.AutoNormalizingFlow(hierarchy, smooth_flow)
        else:
            guide = getattr(autoguide, kind)(hierarchy)
        with torch.random.fork_rng():
            torch.manual_seed(2)
            guide(x)
            with torch.no_grad():
                for parameter in guide.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))

        def transport(noise):
            if kind == "AutoNormalizingFlow":
                z = guide.transform(noise)
                return z, guide.transform.log_abs_det_jacobian(noise, z)
            if kind == "AutoGuideList":
                first, second = guide
                loc = torch.cat([first.locs.shared[None], second.loc])
                scale = torch.cat([first.scales.shared[None], second.scale])
                return loc + noise * scale, scale.log().sum()
            return affine(guide, kind, noise)

        def delta(kind, num_particles):
            point = torch.cat([p.view(-1) for p in guide.parameters()])
            value = log_joint(x)(point[None])[0]
            return value, log_joint(x)(point.detach()[None])[0] if kind == "rws" else value

        exact = over_noise(x, transport, log_joint(x), 20)
        exact = delta if kind in ("AutoDelta", "AutoLaplaceApproximation") else exact
        return Row(hierarchy, guide, (x,), exact, joint=len(x) > 1)

    return build


GUIDES = ["AutoNormal", "AutoDiagonalNormal", "AutoMultivariateNormal",
          "AutoLowRankMultivariateNormal", "AutoNormalizingFlow", "AutoStructured", "AutoDelta",
          "AutoLaplaceApproximation", "AutoGuideList"]  # fmt: skip
for kind in GUIDES:
    row(f"`{kind}`, of a shared latent and one a sequence")(automatic(kind))


# Scales, masks, factors, plates


@row("KL annealing: `poutine.scale` on the latents of both programs")
def annealed(copies):
    def latent(fn):
        with poutine.scale(scale=0.1):
            return pyro.sample("z", fn)

    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("x", dist.Normal(latent(prior()), 1.0), obs=x)

    def guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            latent(posterior(x))

    return plain(copies, model, guide, weight=0.1)


@row("`poutine.scale` on both programs")
def scaled(copies):
    programs = (poutine.scale(program, scale=4.0) for program in (model, guide))
    return plain(copies, *programs, scale=4.0)


@row("a batch plate that is a subsample")
def subsampled(copies):
    def of_size(x):
        return pyro.plate("sequences", len(x), subsample_size=max(1, len(x) // 4), dim=-1)

    def model(x):
        with of_size(x) as index:
            z = pyro.sample("z", prior())
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])

    def guide(x):
        with of_size(x) as index:
            pyro.sample("z", posterior(x[index]))

    return plain(max(2, copies), model, guide, calls=80)  # one sequence would be no subsample


def views(subsample):
    def build(copies):
        shifts = torch.tensor([-3.0, -3.0, 3.0, 3.0])

        def model(x):
            with pyro.plate("sequences", len(x), dim=-1):
                z = pyro.sample("z", prior())
                with pyro.plate("views", 4, subsample, dim=-2) as index:
                    pyro.sample("x", dist.Normal(z, 1.0), obs=x + shifts[index, None])

        def likelihood(x, z):
            return sum(seen(x + shift, z) for shift in shifts)

        options = {"max_plate_nesting": 2}
        return plain(copies, model, likelihood=likelihood, options=options, calls=80)

    return build


row("an inner plate of each sequence")(views(None))
row("an inner plate that is a subsample")(views(1))


@row("two plates of one size")
def two_plates(copies):
    def model(x):
        with pyro.plate("latents", len(x), dim=-1):
            z = pyro.sample("z", prior())
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("latents", len(x), dim=-1):
            pyro.sample("z", posterior(x))

    return plain(copies, model, guide)


@row('a plate called "particles", and plates without a `dim`')
def particles(copies):
    def model(x):
        with pyro.plate("particles", len(x)):
            z = pyro.sample("z", prior())
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("particles", len(x)):
            pyro.sample("z", posterior(x))

    return plain(copies, model, guide)


@row("a sequential plate: `for i in pyro.plate(...)`")
def sequential(copies):
    def model(x):
        for i in pyro.plate("each", len(x)):
            z = pyro.sample(f"z_{i}", prior())
            pyro.sample(f"x_{i}", dist.Normal(z, 1.0), obs=x[i])

    def guide(x):
        for i in pyro.plate("each", len(x)):
            pyro.sample(f"z_{i}", posterior(x[i]))

    return plain(min(copies, 1), model, guide)


@row("`pyro.deterministic` in both programs")
def deterministic(copies):
    def noted_model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", prior())
            pyro.deterministic("twice", 2 * z)
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        pyro.deterministic("square", z**2)

    def noted_guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.deterministic("of_guide", pyro.sample("z", posterior(x)))

    return plain(copies, noted_model, noted_guide)


@row("a factor in the model")
def factor(copies):
    def model(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", prior())
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)
            pyro.factor("bonus", -(z**2))

    return plain(copies, model, likelihood=lambda x, z: seen(x, z) - z**2)


@row("a factor in the guide, which is a cost (`has_rsample=True`)")
def cost(copies):
    def guide(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", posterior(x))
            pyro.factor("aux", z**2, has_rsample=True)

    return plain(copies, guide=guide, cost=lambda z: -(z**2))


@row("`poutine.mask` of some sequences")
def masked(copies):
    def masking(program):
        def run(x):
            with poutine.mask(mask=x < 0):
                program(x)

        return run

    return plain(copies, masking(model), masking(guide), scale=[float(max(1, copies)), 0.0])


# Handlers


@row("`poutine.condition` of a model on its data")
def conditioned(copies):
    def unseen(x):
        with pyro.plate("sequences", len(x), dim=-1):
            pyro.sample("x", dist.Normal(pyro.sample("z", prior()), 1.0))

    return plain(copies, lambda x: poutine.condition(unseen, {"x": x})(x))


@row("`poutine.block` of an observation")
def blocked(copies):
    def two(x):
        with pyro.plate("sequences", len(x), dim=-1):
            z = pyro.sample("z", prior())
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)
            pyro.sample("y", dist.Normal(z, 0.1), obs=x)

    return plain(copies, poutine.block(two, hide=["y"]))


@row("`with poutine.scale(...)` around the call")
def around(copies):
    return plain(copies, scale=4.0, around=lambda: poutine.scale(scale=4.0))


@row("`with poutine.replay(...)` around the call: latents as drawn before")
def replayed(copies):
    x = VALUES.repeat(copies) if copies else VALUES[:1]
    z = 0.7 * torch.ones_like(x)
    trace = poutine.trace(poutine.condition(model, {"z": z})).get_trace(x)
    trace.nodes["z"]["is_observed"] = False

    def exact(kind, num_particles):
        log_ratio = prior().log_prob(z) - posterior(x).log_prob(z)
        if kind == "analytic":  # which looks at no draw
            log_ratio = -torch.distributions.kl_divergence(posterior(x), prior())
        return (seen(x, z) + log_ratio).sum().detach(), None

    return Row(model, guide, (x,), exact, around=lambda: poutine.replay(trace=trace))
