"""The recurrence with a gradient by hand against the one under autograd."""

import pytest
import torch
from torch.testing import assert_close

from zforcing_pyro.emissions import Bernoulli, DiagNormal
from zforcing_pyro.layers import products
from zforcing_pyro.layers.lstm import ConditionalLayerNormLSTMCell, LSTMCell
from zforcing_pyro.models import VRNN, ZForcing
from zforcing_pyro.models.recurrence.recurrence import roll_out

STEPS, BATCH, H_DIM, Z_DIM = 6, 4, 8, 3
OPTIONS = [
    {"clamp": 8.0},
    {"clamp": 0.0},
    {"clamp": 0.7, "scale": "log_variance", "min_scale": 0.1},
]


@pytest.fixture(autouse=True)
def any_processor_and_no_product_small(monkeypatch):
    """Products of a few numbers go where large ones go, and where they go on AMD's processors."""
    monkeypatch.setattr(products, "SMALL", 0)
    monkeypatch.setattr(products, "SMALL_STEP", 0)
    monkeypatch.setattr(products, "is_intel", lambda: False)


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


def rolled(cell, posterior, leaves, latents=None, backend="auto", noise=None):
    inputs, future, *state = leaves
    return roll_out(
        cell, posterior, cell.project(inputs), future, tuple(state), latents, backend, noise
    )


def values_and_gradients(backend, cell, posterior, leaves):
    torch.manual_seed(1)
    path = rolled(cell, posterior, leaves, None, backend)
    values = [path.h_past, path.h, path.c, path.z, path.posterior.mean, path.posterior.stddev]
    torch.manual_seed(2)
    loss = sum((v * torch.randn(v.shape, dtype=v.dtype)).sum() for v in values)
    wanted = [*cell.parameters(), *posterior.parameters(), *leaves]
    return values, torch.autograd.grad(loss, wanted)


def equal(*given):
    expected, found = (values_and_gradients(b, *given) for b in ("reference", "fused"))
    if given[2][0].dtype == torch.float64:
        return assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip([*expected[0], *expected[1]], [*found[0], *found[1]]):
        assert (a - b).norm() <= 1e-5 * a.norm()


@pytest.mark.parametrize("num_updates", [STEPS, STEPS - 1])
@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize("options", OPTIONS)
def test_fused_equals_reference(options, num_particles, num_updates):
    given = parts(num_particles, num_updates, **options)
    equal(*given)
    torch.set_default_dtype(torch.float32)  # has no say
    equal(*given)
    chaos = {"factor": 2}  # a larger one would drown rounding
    equal(*parts(num_particles, num_updates, torch.float32, **chaos, **options))


def test_gradients_may_come_in_any_order_of_memory():
    """Features come first in the memory of gradients, or they are expanded."""
    found = []
    for backend in ("reference", "fused"):
        cell, posterior, leaves = parts(num_particles=1, clamp=8.0)
        torch.manual_seed(1)
        path = rolled(cell, posterior, leaves, None, backend)
        weights = torch.arange(1.0, H_DIM * BATCH + 1).view(1, H_DIM, BATCH)
        loss = (path.c.mT.contiguous() * weights).sum() + path.h[..., -1, :].sum()
        loss = loss + (path.h[..., -1, :].mT.contiguous() * weights).sum()
        found.append(torch.autograd.grad(loss, [*cell.parameters(), *leaves[2:]]))
    assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_particles", [1, 2, 4])  # draws of 12 numbers, 24 and 48
def test_fused_has_the_random_stream_of_the_reference(num_particles, dtype):
    # With nothing to learn z is noise, bit by bit.
    given, found = parts(num_particles, dtype=dtype, factor=0), []
    for backend in ("reference", "fused"):
        torch.manual_seed(1)
        found.append((rolled(*given, backend=backend).z, torch.rand(3)))
    assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_a_draw_is_a_function_of_its_noise(backend):
    given = parts(clamp=8.0)
    torch.manual_seed(1)
    drawn = rolled(*given, backend=backend)
    torch.manual_seed(1)
    noise = torch.stack([torch.randn(2, BATCH, Z_DIM) for _ in range(STEPS)], -2)
    again = rolled(*given, backend=backend, noise=noise)
    assert_close((again.z, again.h, again.c), (drawn.z, drawn.h, drawn.c))
    assert_close(again.z, again.posterior.mean + again.posterior.stddev * noise)
    path = rolled(*given, noise=noise.requires_grad_())  # left to the reference
    assert torch.autograd.grad(path.h.sum(), noise)[0].any()


def test_of_what_was_drawn_latents_give_the_path():
    cell, posterior, leaves = parts(clamp=8.0)
    drawn = rolled(cell, posterior, leaves)
    again = rolled(cell, posterior, leaves, drawn.z)
    assert "Recurrence" in str(drawn.c.grad_fn) and "Recurrence" not in str(again.c.grad_fn)
    found, expected = ([p.h_past, p.h, p.c, p.z, p.posterior.mean] for p in (again, drawn))
    assert_close(found, expected, rtol=1e-12, atol=1e-12)
    wanted = [*cell.parameters(), *posterior.parameters(), *leaves]
    sums = (p.h.square().sum() + p.c.sum() for p in (again, drawn))
    gradients = [torch.autograd.grad(s, wanted, retain_graph=True) for s in sums]
    assert_close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("model", [VRNN, ZForcing])
def test_along_given_latents_gradients_of_gradients_are_the_programs(model):
    """W4: also many at once, and where inputs are no leaves, such as a state carried on."""
    net = model(Bernoulli, x_dim=2, z_dim=3, h_dim=8, hidden_dim=8, embed_dim=4)
    x, first = torch.randint(2, (4, 3, 2)).double(), torch.randint(2, (4, 2, 2)).double()
    z, earlier = (torch.randn(1, 4, n, 3).requires_grad_() for n in (3, 2))
    wanted, found = [z, earlier, *net.cell.parameters()], []
    for terms in (net.terms, net.program_terms):
        state = {n: v.view(4, -1) for n, v in terms(first, latents=earlier).state.items()}
        log_weight = terms(x, latents=z, state=state).log_weight
        slopes = torch.autograd.grad(log_weight.square().sum(), wanted, create_graph=True)
        total = sum(slope.square().sum() for slope in slopes)
        second = torch.autograd.grad(total, wanted, retain_graph=True)
        basis = torch.eye(log_weight.numel()).view(-1, *log_weight.shape)
        many = torch.autograd.grad(log_weight, wanted, basis, is_grads_batched=True)
        found.append([*slopes, *second, *many])
    assert_close(*found, rtol=1e-10, atol=1e-10)


def test_a_drawn_path_is_once_differentiable_and_says_so():
    cell, posterior, leaves = parts()
    path = rolled(cell, posterior, leaves)
    refused = pytest.raises(RuntimeError, match=r"once differentiable; .* 'backend' to 'reference'")
    with refused:
        torch.autograd.grad(path.h.sum(), leaves[0], create_graph=True)
    with refused:
        two = torch.ones(2, *path.h.shape)
        torch.autograd.grad(path.h, leaves[0], two, is_grads_batched=True)


def test_a_gradient_may_be_asked_for_under_autocast():
    cell, posterior, leaves = parts(num_particles=1, dtype=torch.float32, factor=1, clamp=8.0)
    found = []
    for inside in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            path = rolled(cell, posterior, leaves)
            loss = path.h.square().sum() + path.z.sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            found.append(torch.autograd.grad(loss, [cell.weight_h, *leaves[2:]], retain_graph=True))
    assert_close(found[1], found[0])


def test_transforms_of_torch_func_are_left_to_the_reference():
    cell, posterior, (inputs, *others) = parts()

    def loss(inputs):
        torch.manual_seed(1)
        return rolled(cell, posterior, [inputs, *others]).h.square().sum()

    assert_close(torch.func.grad(loss)(inputs), torch.autograd.grad(loss(inputs), inputs)[0])


def test_a_single_step_of_a_single_row_writes_into_no_parameter():
    net = ZForcing(Bernoulli, x_dim=1, z_dim=3, h_dim=8, hidden_dim=8, embed_dim=0)
    before = [p.clone() for p in net.parameters()]
    net.terms(torch.zeros(1, 1, 1))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before))


def test_a_backend_that_cannot_be_is_refused_with_a_reason():
    cell, posterior, leaves = parts()
    layer_norm = ConditionalLayerNormLSTMCell(5, Z_DIM, H_DIM, 4)
    deep = DiagNormal(2 * H_DIM, Z_DIM, [7, 7])
    squashed = DiagNormal(2 * H_DIM, Z_DIM, [7], tanh_mean=True)
    other = type("Other", (DiagNormal,), {})(2 * H_DIM, Z_DIM, [7])
    for args, reason in [
        ((layer_norm, posterior, leaves), "LSTMCell"),
        ((cell, deep, leaves), "one hidden layer, got 2"),
        ((cell, squashed, leaves), "not be squashed, got 'tanh_mean'"),
        ((cell, other, leaves), "DiagNormal, got Other"),
    ]:
        with pytest.raises(ValueError, match=f"'backend' cannot be 'fused' here: .*{reason}"):
            rolled(*args, backend="fused")
        torch.manual_seed(1)
        path = rolled(*args)
        torch.manual_seed(1)
        assert_close(path.h, rolled(*args, backend="reference").h)
    with pytest.raises(ValueError, match="'backend' must be one of"):
        rolled(cell, posterior, leaves, backend="graphs")
