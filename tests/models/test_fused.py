"""The recurrence by hand against autograd, and products against torch's."""

from functools import partial

import pytest
import torch
from torch.autograd import forward_ad, gradcheck
from torch.nn.functional import linear as torch_linear
from torch.testing import assert_close

from zforcing_pyro.emissions import Bernoulli, DiagNormal
from zforcing_pyro.emissions.normal import DiagonalNormal
from zforcing_pyro.emissions.simple import LogitsCategorical
from zforcing_pyro.layers import products
from zforcing_pyro.layers.blocks import clipped_leaky_relu, concat, halves, reverse_padded, squashed
from zforcing_pyro.layers.lstm import ConditionalLayerNormLSTMCell, LSTMCell
from zforcing_pyro.models import VRNN, ZForcing
from zforcing_pyro.models.recurrence import fused
from zforcing_pyro.models.recurrence.recurrence import roll_out

STEPS, BATCH, H_DIM, Z_DIM = 6, 4, 8, 3
OPTIONS = [
    {"clamp": 8.0},
    {"clamp": 0.0},
    {"clamp": 0.7, "scale": "log_variance", "min_scale": 0.1},
]


@pytest.fixture(autouse=True)
def loops_of_python_and_no_layer_small(monkeypatch):
    """Whatever is built here; and layers of a few numbers go where large ones go."""
    monkeypatch.setattr(fused, "loops", lambda: None)
    monkeypatch.setattr(products, "SMALL", 0)


def parts(num_particles=2, num_updates=STEPS, dtype=torch.float64, factor=6, **options):
    """A cell and a posterior with large weights, so that clips and clamps bite."""
    torch.manual_seed(3)
    cell, posterior = LSTMCell(5, Z_DIM, H_DIM), DiagNormal(2 * H_DIM, Z_DIM, [7], **options)
    for parameter in posterior.parameters():
        parameter.data.mul_(factor)
    inputs, future = torch.randn(BATCH, num_updates, 5), torch.randn(BATCH, STEPS, H_DIM)
    state = tuple(torch.randn(num_particles, BATCH, H_DIM) for _ in range(2))
    leaves = [v.to(dtype).requires_grad_() for v in (inputs, future, *state)]
    return cell.to(dtype), posterior.to(dtype), leaves


def values_and_gradients(backend, cell, posterior, leaves, latents=None):
    torch.manual_seed(1)
    inputs, future, *state = leaves
    projected = cell.project(inputs)
    path = roll_out(cell, posterior, projected, future, tuple(state), latents, backend)
    values = [path.h_past, path.h, path.c, path.z, path.posterior.mean, path.posterior.stddev]
    torch.manual_seed(2)
    loss = sum((v * torch.randn(v.shape, dtype=v.dtype)).sum() for v in values)
    wanted = [*cell.parameters(), *posterior.parameters(), *leaves]
    wanted += [] if latents is None else [latents]
    return values, torch.autograd.grad(loss, wanted)


@pytest.mark.parametrize("num_updates", [STEPS, STEPS - 1])
@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize("options", OPTIONS)
def test_fused_equals_reference(options, num_particles, num_updates):
    given = parts(num_particles, num_updates, **options)
    expected, found = (values_and_gradients(b, *given) for b in ("reference", "fused"))
    assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("num_updates", [STEPS, STEPS - 1])
def test_latents_of_the_prior_along_given_inputs(num_updates):
    cell, _, (inputs, future, *state) = parts(num_updates=num_updates)
    prior, leaves = DiagNormal(H_DIM, Z_DIM, [7], clamp=8.0).double(), [inputs, future, *state]
    given = cell, prior, [inputs, future[..., :0], *state]
    expected, found = (values_and_gradients(b, *given) for b in ("reference", "fused"))
    assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.manual_seed(1)
    path = roll_out(cell, prior, cell.project(inputs), leaves[1][..., :0], tuple(state))
    assert_close(path.posterior.mean, prior(path.h_past).mean)


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_a_draw_is_a_function_of_its_noise(backend):
    cell, posterior, (inputs, future, *state) = parts(clamp=8.0)
    noise = latents_for(state).detach()
    path = roll_out(
        cell, posterior, cell.project(inputs), future, tuple(state), backend=backend, noise=noise
    )
    assert_close(path.z, path.posterior.mean + path.posterior.stddev * noise)
    torch.manual_seed(1)
    drawn = roll_out(cell, posterior, cell.project(inputs), future, tuple(state), backend=backend)
    torch.manual_seed(1)
    noise = torch.stack([torch.randn(2, BATCH, Z_DIM) for _ in range(STEPS)], -2)
    again = roll_out(
        cell, posterior, cell.project(inputs), future, tuple(state), backend=backend, noise=noise
    )
    assert_close((again.z, again.h, again.c), (drawn.z, drawn.h, drawn.c))


def gradients_of_transposes(backend, given):
    """Features come first in the memory of gradients, or they are expanded."""
    cell, posterior, leaves = parts(num_particles=1, clamp=8.0)
    inputs, future, *state = leaves
    latents, projected = latents_for(leaves) if given else None, cell.project(inputs)
    torch.manual_seed(1)
    path = roll_out(cell, posterior, projected, future, tuple(state), latents, backend)
    weights = torch.arange(1.0, H_DIM * BATCH + 1).view(1, H_DIM, BATCH)
    loss = (path.c.mT.contiguous() * weights).sum() + path.h[..., -1, :].sum()
    loss = loss + (path.h[..., -1, :].mT.contiguous() * weights).sum()
    return torch.autograd.grad(loss, [*cell.parameters(), *state])


@pytest.mark.parametrize("given", [False, True])
def test_gradients_may_come_in_any_order_of_memory(given):
    found, expected = (gradients_of_transposes(b, given) for b in ("fused", "reference"))
    assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("given", [False, True])
def test_a_single_step_of_a_vrnn_updates_nothing(given):
    net, x = VRNN(Bernoulli, x_dim=2, z_dim=3, h_dim=8, hidden_dim=8), torch.ones(4, 1, 2)
    latents, found = torch.randn(5, 4, 1, 3) if given else None, []
    for net.backend in ("reference", "fused"):
        torch.manual_seed(1)
        net.zero_grad()
        terms = net.terms(x, torch.ones(4).long(), 5, latents)
        terms.log_weight.sum().backward()
        found.append([terms.log_weight, *(p.grad for p in net.parameters())])
    assert_close(*found)


def test_noise_of_another_shape_is_refused():
    cell, posterior, (inputs, future, *state) = parts()
    for shape in [(2, BATCH, 5, 3), (2, BATCH, 7, 3), (BATCH, 2, STEPS, 3), (1, BATCH, STEPS, 3)]:
        with pytest.raises(ValueError, match=r"'noise' must be of shape \(2, 4, 6, 3\), got"):
            projected = cell.project(inputs)
            roll_out(cell, posterior, projected, future, tuple(state), noise=torch.zeros(shape))


def test_noise_that_is_learned_is_left_to_the_reference():
    cell, posterior, (inputs, future, *state) = parts()
    noise = latents_for(state)
    given = cell, posterior, cell.project(inputs), future, tuple(state)
    (found,) = torch.autograd.grad(roll_out(*given, noise=noise).h.sum(), noise)
    assert found.abs().sum() > 0
    with pytest.raises(ValueError, match="no gradient with respect to the noise"):
        roll_out(*given, backend="fused", noise=noise)


def test_a_vanishing_scale_has_a_gradient_in_the_reference():
    cell, posterior, (inputs, future, *state) = parts(dtype=torch.float32, factor=0, clamp=0.0)
    posterior.mlp.layers[-1].bias.data[Z_DIM:] = -55
    noise = latents_for(state).detach()
    given = cell, posterior, cell.project(inputs), future, tuple(state), None, "reference", noise
    gradients = torch.autograd.grad(roll_out(*given).z.sum(), [*posterior.parameters()])
    assert all(g.isfinite().all() for g in gradients)


def test_along_given_latents_gradients_of_gradients_are_the_references():
    cell, posterior, (inputs, future, *state) = parts(num_particles=2, num_updates=STEPS - 1)
    latents, found = latents_for(state), []

    def states(latents, backend):
        given = cell, posterior, cell.project(inputs), future, tuple(state)
        path = roll_out(*given, latents, backend)
        return torch.cat([path.h.flatten(0, -2), path.c.flatten(0, -2)])

    for backend in ("reference", "fused"):
        total = states(latents, backend).pow(2).sum()
        wanted = [inputs, *state, latents, *cell.parameters()]
        first = torch.autograd.grad(total, wanted, create_graph=True)
        second = torch.autograd.grad(sum(g.pow(2).sum() for g in first), wanted)
        few = partial(states, backend=backend)
        jacobian = torch.autograd.functional.jacobian(few, latents, vectorize=True)
        found.append([*first, *second, jacobian])
    assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 1), (BATCH,), (0, BATCH)])
def test_latents_of_another_shape_are_left_to_the_reference(shape):
    cell, posterior, (inputs, future, *state) = parts()
    latents = torch.randn(*shape, STEPS, Z_DIM)
    given = cell, posterior, cell.project(inputs), future, tuple(state), latents
    with pytest.raises(ValueError, match=r"latents must be of \(particles, batch\) = \(2, 4\)"):
        roll_out(*given, backend="fused")
    if 0 not in shape:
        assert_close(roll_out(*given).h, roll_out(*given, backend="reference").h)


def latents_for(leaves):
    """As a user has them, particles and batch first."""
    num_particles, like = len(leaves[-1]), leaves[-1]
    torch.manual_seed(4)
    return torch.randn(num_particles, BATCH, STEPS, Z_DIM).to(like.dtype).requires_grad_()


@pytest.mark.parametrize("num_updates", [STEPS, STEPS - 1])
@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize("hidden_dims", [[7], [7, 5]])
def test_given_latents_fused_equals_reference(num_particles, num_updates, hidden_dims):
    cell, posterior, leaves = parts(num_particles, num_updates, clamp=8.0)
    posterior = DiagNormal(2 * H_DIM, Z_DIM, hidden_dims, tanh_mean=True).double()
    given = cell, posterior, leaves, latents_for(leaves)
    expected, found = (values_and_gradients(b, *given) for b in ("reference", "fused"))
    assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_given_latents_fused_equals_reference_in_float32():
    given = parts(dtype=torch.float32, factor=2, clamp=8.0)
    given = *given, latents_for(given[-1])
    expected, found = (values_and_gradients(b, *given) for b in ("reference", "fused"))
    for a, b in zip([*expected[0], *expected[1]], [*found[0], *found[1]]):
        assert (a - b).norm() <= 1e-5 * a.norm()


def test_of_what_was_drawn_latents_give_the_path():
    cell, posterior, (inputs, future, *state) = parts(clamp=8.0)
    given = cell, posterior, cell.project(inputs), future, tuple(state)
    drawn = roll_out(*given)
    again = roll_out(*given, latents=drawn.z)
    found, expected = ([p.h_past, p.h, p.c, p.z, p.posterior.mean] for p in (again, drawn))
    assert_close(found, expected, rtol=1e-12, atol=1e-12)
    wanted = [*cell.parameters(), *posterior.parameters(), inputs, future, *state]
    sums = (p.h.square().sum() + p.c.sum() for p in (again, drawn))
    gradients = [torch.autograd.grad(s, wanted, retain_graph=True) for s in sums]
    assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_the_default_dtype_has_no_say():
    given = parts(clamp=8.0)
    torch.set_default_dtype(torch.float32)
    expected, found = (values_and_gradients(b, *given) for b in ("reference", "fused"))
    assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS)
def test_fused_equals_reference_in_float32(options):
    given = parts(dtype=torch.float32, factor=2, **options)  # chaos would drown rounding
    expected, found = (values_and_gradients(b, *given) for b in ("reference", "fused"))
    for a, b in zip([*expected[0], *expected[1]], [*found[0], *found[1]]):
        assert (a - b).norm() <= 1e-5 * a.norm()


def test_gradients_against_differences():
    cell, posterior, leaves = parts(num_particles=1, clamp=8.0)
    both = torch.nn.ModuleDict({"cell": cell, "posterior": posterior})
    names = [name for name, _ in both.named_parameters()]

    class Roll(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.posterior = both["cell"], both["posterior"]

        def forward(self, inputs, future, h, c):
            torch.manual_seed(1)
            path = roll_out(
                self.cell,
                self.posterior,
                self.cell.project(inputs),
                future,
                (h, c),
                backend="fused",
            )
            return path.h, path.c, path.z

    def run(*tensors):
        weights = dict(zip(names, tensors[4:]))
        return torch.func.functional_call(Roll(), weights, tensors[:4])

    weights = [both.get_parameter(n).detach().requires_grad_() for n in names]
    assert gradcheck(run, (*leaves, *weights), atol=1e-5)


def test_auto_takes_what_can_be_had():
    cell, posterior, (inputs, future, *state) = parts()
    path = roll_out(cell, posterior, cell.project(inputs), future, tuple(state))
    assert "Recurrence" in str(path.c.grad_fn)
    given = roll_out(
        cell, posterior, cell.project(inputs), future, tuple(state), latents=path.z.detach()
    )
    assert "Forced" in str(given.c.grad_fn)
    assert_close((given.h, given.c), (path.h, path.c))


def test_a_backend_that_cannot_be_is_refused_with_a_reason():
    cell, posterior, (inputs, future, *state) = parts()
    state = tuple(state)
    layer_norm = ConditionalLayerNormLSTMCell(5, Z_DIM, H_DIM, 4)
    deep = DiagNormal(2 * H_DIM, Z_DIM, [7, 7])
    squashed = DiagNormal(2 * H_DIM, Z_DIM, [7], tanh_mean=True)
    other = type("Other", (DiagNormal,), {})(2 * H_DIM, Z_DIM, [7])
    latents = latents_for(state)
    for args, reason in [
        ((layer_norm, posterior, inputs, future, state), "LSTMCell"),
        ((cell, deep, inputs, future, state), "one hidden layer, got 2"),
        ((cell, squashed, inputs, future, state), "not be squashed, got 'tanh_mean'"),
        ((cell, other, inputs, future, state), "DiagNormal, got Other"),
        ((layer_norm, posterior, inputs, future, state, latents), "LSTMCell"),
    ]:
        args = (*args[:2], args[0].project(args[2]), *args[3:])
        with pytest.raises(ValueError, match=f"'backend' cannot be 'fused' here: .*{reason}"):
            roll_out(*args, backend="fused")
        torch.manual_seed(1)
        path = roll_out(*args)
        torch.manual_seed(1)
        assert_close(path.h, roll_out(*args, backend="reference").h)
    with pytest.raises(ValueError, match="'backend' must be one of"):
        roll_out(cell, posterior, cell.project(inputs), future, state, backend="nope")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_particles", [1, 2, 4])  # draws of 12 numbers, 24 and 48
def test_fused_has_the_random_stream_of_the_reference(num_particles, dtype):
    # With nothing to learn z is noise, bit by bit.
    cell, posterior, (inputs, future, *state) = parts(num_particles, dtype=dtype, factor=0)
    found = []
    for backend in ("reference", "fused"):
        torch.manual_seed(1)
        found.append(
            roll_out(cell, posterior, cell.project(inputs), future, tuple(state), backend=backend).z
        )
        found.append(torch.rand(3))  # and it leaves off where the reference does
    assert_close(found[2:], found[:2], rtol=0, atol=0)


def test_fused_runs_where_another_device_is_the_default():
    cell, posterior, (inputs, future, *state) = parts()
    with torch.device("meta"):
        path = roll_out(
            cell, posterior, cell.project(inputs), future, tuple(state), backend="fused"
        )
    assert path.z.isfinite().all() and path.z.device.type == "cpu"


def test_auto_leaves_transforms_of_torch_func_to_the_reference():
    cell, posterior, (inputs, future, *state) = parts()

    def loss(inputs):
        torch.manual_seed(1)
        return (
            roll_out(cell, posterior, cell.project(inputs), future, tuple(state)).h.square().sum()
        )

    assert_close(torch.func.grad(loss)(inputs), torch.autograd.grad(loss(inputs), inputs)[0])


def test_it_is_once_differentiable_and_says_so():
    cell, posterior, (inputs, future, *state) = parts()
    path = roll_out(cell, posterior, cell.project(inputs), future, tuple(state))
    refused = pytest.raises(RuntimeError, match=r"once differentiable; .* 'backend' to 'reference'")
    with refused:
        torch.autograd.grad(path.h.sum(), inputs, create_graph=True)
    with refused:
        two = torch.ones(2, *path.h.shape)
        torch.autograd.grad(path.h, inputs, two, is_grads_batched=True)


@pytest.mark.parametrize("given", [False, True])
def test_a_gradient_may_be_asked_for_under_autocast(given):
    cell, posterior, leaves = parts(num_particles=1, dtype=torch.float32, factor=1, clamp=8.0)
    found, latents = [], latents_for(leaves) if given else None
    for inside in (False, True):
        torch.manual_seed(1)
        inputs, future, *state = leaves
        with torch.autocast("cpu", torch.bfloat16):
            path = roll_out(cell, posterior, cell.project(inputs), future, tuple(state), latents)
            loss = path.h.square().sum() + path.z.sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            found.append(torch.autograd.grad(loss, [cell.weight_h, *state], retain_graph=True))
    assert_close(found[1], found[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
def test_linear_is_torchs_and_keeps_the_order_of_memory(dtype, order):
    x = torch.randn(5, 4, 7, dtype=dtype).permute(order).requires_grad_()
    layer = torch.nn.Linear(7, 3, dtype=dtype)
    found, expected = (f(x, layer.weight, layer.bias) for f in (products.linear, torch_linear))
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    assert_close(found, expected, **tolerance)
    assert found.stride(0) > found.stride(1) if order[0] == 0 else found.stride(0) < found.stride(1)
    wanted = [x, *layer.parameters()]
    gradients = [torch.autograd.grad(y.square().sum(), wanted) for y in (found, expected)]
    assert_close(*gradients, **tolerance)


def test_linear_and_concat_undo_the_order_of_memory():
    x = torch.randn(3, 4, 5, 2).permute(1, 2, 0, 3)  # time first, as a recurrence writes particles
    layer = torch.nn.Linear(2, 3)
    assert_close(products.linear(x, layer.weight, layer.bias), layer(x.contiguous()))
    y = torch.randn(4, 1, 3, 1)
    assert_close(concat(x, y), torch.cat([x, y.expand(4, 5, 3, 1)], -1), rtol=0, atol=0)


def test_linear_is_twice_differentiable():
    x, w = (torch.randn(4, 3, dtype=torch.float32).requires_grad_() for _ in range(2))
    second = []
    for f in (products.linear, torch_linear):
        (first,) = torch.autograd.grad(f(x, w).pow(3).sum(), x, create_graph=True)
        second.append(torch.autograd.grad(first.square().sum(), [x, w]))
    assert_close(*second, rtol=1e-4, atol=1e-4)


BY_HAND = {
    "linear": lambda x: products.linear(x, torch.ones(2, 4).to(x)),
    "clipped": clipped_leaky_relu,
    "squashed": squashed,
    "halves": lambda x: halves(x)[0] * halves(x)[1].exp(),
    "reversed": lambda x: reverse_padded(x, torch.tensor([3, 1, 2])),
    "density": lambda x: DiagonalNormal(x, 0.1 * x).log_prob(x.detach() + 1),
    "categorical": lambda x: LogitsCategorical(x).log_prob(torch.zeros(3, 3)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BY_HAND)
def test_many_gradients_at_once_and_forward_mode(name, dtype):
    f, x = BY_HAND[name], torch.randn(3, 3, 4, dtype=dtype)
    jacobian = torch.autograd.functional.jacobian(f, x)
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    assert_close(torch.autograd.functional.jacobian(f, x, vectorize=True), jacobian, **tolerance)
    v = torch.randn_like(x)
    expected = (jacobian * v).sum((-3, -2, -1))
    assert_close(torch.func.jvp(f, (x,), (v,))[1], expected, **tolerance)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(f(forward_ad.make_dual(x, v))).tangent
    assert_close(found, expected, **tolerance)


@pytest.mark.parametrize(
    ("rows", "columns", "inner", "copied"), [(9, 2, 50, 2), (9, 2, 2, 9), (2, 9, 50, 2)]
)
def test_a_gradient_of_a_weight_either_way_around(monkeypatch, rows, columns, inner, copied):
    a, b = torch.randn(inner, rows).float(), torch.randn(inner, columns).float()
    seen, onednn = [], products.onednn
    monkeypatch.setattr(products, "onednn", lambda x, w: seen.append(len(x)) or onednn(x, w))
    assert_close(products.stacked_product(a, b), a.t() @ b, rtol=1e-5, atol=1e-5)
    assert seen == [copied] * products.has_onednn()


def test_a_small_layer_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(products.OneDNNLinear, "apply", lambda *_: pytest.fail("not small"))
    monkeypatch.setattr(products, "SMALL", 2 * 4 * 3 * 5 + 1)
    products.linear(torch.ones(4, 3), torch.ones(5, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_squashed_is_tanh_and_twice_differentiable(dtype):
    x = torch.tensor([-1e4, -30.0, -1.0, -1e-3, 0.0, 0.5, 88.0, 1e4], dtype=dtype).requires_grad_()
    found, second = [], []
    for f in (squashed, torch.tanh):
        y = f(x)
        (first,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
        found.append((y, first))
        second.append(torch.autograd.grad(first.sum(), x))
    tolerance = {"rtol": 0, "atol": 4 * torch.finfo(dtype).eps}
    assert_close(*found, **tolerance)
    assert_close(*second, **tolerance)


def test_products_are_left_to_torch_where_precision_may_be_lower():
    a = torch.randn(3, 3, dtype=torch.float32)
    assert products.suits(a) == products.has_onednn()
    assert not products.suits(a.double())
    torch.set_float32_matmul_precision("medium")
    try:
        assert not products.suits(a)
    finally:
        torch.set_float32_matmul_precision("highest")
    with torch.autocast("cpu"):
        assert not products.suits(a)


def test_asking_for_onednn_draws_no_random_numbers():
    state = torch.get_rng_state()
    products.has_onednn.__wrapped__()
    assert torch.equal(state, torch.get_rng_state())


def test_asking_for_onednn_first_under_another_default_device_gives_the_same_answer():
    with torch.device("meta"):
        assert products.has_onednn.__wrapped__() == products.has_onednn()


def test_linear_under_transforms_of_torch_func():
    layer, x = products.Linear(3, 2, dtype=torch.float32), torch.randn(4, 3, dtype=torch.float32)
    weights = {name: v.detach() for name, v in layer.named_parameters()}

    def loss(weights, x):
        return torch.func.functional_call(layer, weights, (x[None],)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    for n in range(4):
        expected = torch.autograd.grad(
            loss(dict(layer.named_parameters()), x[n]), [*layer.parameters()]
        )
        assert_close([found["weight"][n], found["bias"][n]], list(expected))


def test_a_single_step_of_a_single_row_writes_into_no_parameter():
    net = ZForcing(Bernoulli, x_dim=1, z_dim=3, h_dim=8, hidden_dim=8, embed_dim=0)
    before = [p.clone() for p in net.parameters()]
    net.terms(torch.zeros(1, 1, 1), torch.ones(1).long())
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before))
