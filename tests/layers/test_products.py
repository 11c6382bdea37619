"""Products by oneDNN against torch's, in every way that a gradient can be asked for."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn.functional import linear as torch_linear
from torch.testing import assert_close

from zforcing_pyro.emissions.normal import DiagonalNormal
from zforcing_pyro.emissions.simple import LogitsCategorical
from zforcing_pyro.layers import products
from zforcing_pyro.layers.blocks import clipped_leaky_relu, reverse_padded


@pytest.fixture(autouse=True)
def any_processor_and_no_layer_small(monkeypatch):
    """Layers of a few numbers go where large ones go, and where they go on AMD's processors."""
    monkeypatch.setattr(products, "SMALL", 0)
    monkeypatch.setattr(products, "is_intel", lambda: False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
def test_linear_is_torchs_and_keeps_the_order_of_memory(dtype, order):
    x = torch.randn(5, 4, 7, dtype=dtype).permute(order).requires_grad_()
    layer = torch.nn.Linear(7, 3, dtype=dtype)
    found, expected = (f(x, layer.weight, layer.bias) for f in (products.linear, torch_linear))
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    assert_close(found, expected, **tolerance)
    assert (found.stride(0) > found.stride(1)) == (order[0] == 0)
    wanted = [x, *layer.parameters()]
    gradients = [torch.autograd.grad(y.square().sum(), wanted) for y in (found, expected)]
    assert_close(*gradients, **tolerance)


BY_HAND = {
    "linear": lambda x: products.linear(x, torch.ones(2, 4).to(x)),
    "clipped": clipped_leaky_relu,
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


def test_linear_under_transforms_of_torch_func():
    layer, x = products.Linear(3, 2, dtype=torch.float32), torch.randn(4, 3, dtype=torch.float32)
    weights = {name: v.detach() for name, v in layer.named_parameters()}

    def loss(weights, x):
        y = torch.func.functional_call(layer, weights, (x[None],)).square().sum()
        return y + products.linear(layer.weight.t(), layer.weight.t()).sum()  # not transformed

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    for n in range(4):
        expected = torch.autograd.grad(
            loss(dict(layer.named_parameters()), x[n]), [*layer.parameters()]
        )
        own = products.linear(layer.weight.t(), layer.weight.t()).sum()
        (extra,) = torch.autograd.grad(own, layer.weight)
        assert_close([found["weight"][n], found["bias"][n]], [expected[0] - extra, expected[1]])


@pytest.mark.parametrize(("rows", "columns", "inner", "first"), [(9, 2, 50, 2), (9, 2, 2, 9)])
def test_a_gradient_of_a_weight_copies_the_smaller_matrix(monkeypatch, rows, columns, inner, first):
    a, b = torch.randn(inner, rows).float(), torch.randn(inner, columns).float()
    has_onednn = products.has_onednn()  # whose first call tries a product
    seen, onednn = [], products.onednn
    monkeypatch.setattr(products, "onednn", lambda x, w: seen.append(len(x)) or onednn(x, w))
    assert_close(products.stacked_product(a, b), a.t() @ b, rtol=1e-5, atol=1e-5)
    assert seen == [first] * has_onednn


@pytest.mark.parametrize("small", [0, 1e9])
def test_a_prepared_product_is_torchs(monkeypatch, small):
    monkeypatch.setattr(products, "SMALL_STEP", small)
    weight, x = torch.randn(7, 5).float(), torch.randn(4, 5).float()
    for matrix in (weight, weight.t().contiguous().t()):
        times, total = products.prepared(matrix, 4), torch.ones(4, 7).float()
        assert_close(times(x), x @ weight.t(), rtol=1e-5, atol=1e-5)
        assert times(x, total) is total
        assert_close(total, 1 + x @ weight.t(), rtol=1e-5, atol=1e-5)


def test_products_are_left_to_torch_where_onednn_does_not_pay(monkeypatch):
    monkeypatch.setattr(products.OneDNNLinear, "apply", lambda *_: pytest.fail("not small"))
    monkeypatch.setattr(products, "SMALL", 2 * 4 * 3 * 5 + 1)
    a = torch.ones(4, 3, dtype=torch.float32)
    products.linear(a, torch.ones(5, 3, dtype=torch.float32))
    assert products.suits(a) == products.has_onednn()
    assert not products.suits(a.double())
    torch.set_float32_matmul_precision("medium")
    try:
        assert not products.suits(a)
    finally:
        torch.set_float32_matmul_precision("highest")
    with torch.autocast("cpu"):
        assert not products.suits(a)
    monkeypatch.setattr(products, "is_intel", lambda: True)
    assert not products.suits(a)


def test_asking_for_onednn_draws_nothing_and_needs_no_default_device():
    state = torch.get_rng_state()
    with torch.device("meta"):
        assert products.has_onednn.__wrapped__() == products.has_onednn()
    assert torch.equal(state, torch.get_rng_state())
