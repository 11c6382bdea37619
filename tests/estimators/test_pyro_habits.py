"""Tools of Pyro on the models of the family: drawing, Predictive, NUTS, JIT, several nets."""

import copy

import pyro
import pytest
import torch
from family_cases import LENGTHS, batch, make
from program_cases import linear_gaussian
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, JitTrace_ELBO, Predictive
from pyro.infer.inspect import get_model_relations
from torch.testing import assert_close

from zforcing_pyro.estimators import TraceELBO, TraceIWAE


def test_pyro_draws_the_graph_of_a_model():
    """Each latent of a DKF depends on the one before it, as ``render_model`` reads the net."""
    net, x = make("dkf"), batch(num_steps=3)
    relations = get_model_relations(net.model, model_args=(x,))
    assert relations["sample_sample"] == {
        "z_0": [], "x_0": ["z_0"], "z_1": ["z_0"], "x_1": ["z_1"], "z_2": ["z_1"], "x_2": ["z_2"]
    }  # fmt: skip
    assert relations["observed"] == ["x_0", "x_1", "x_2"]
    assert len(relations["plate_sample"]["sequences"]) == 6
    pytest.importorskip("graphviz")
    assert "z_2" in pyro.render_model(net.model, model_args=(x,)).source


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_from_the_model_given_latents(parallel):
    """The mean of x_t is its emission's at the latents."""
    net, x = linear_gaussian()
    model = poutine.uncondition(net.model)
    num = 2_000 if parallel else 50
    draws = Predictive(model, guide=net.guide, num_samples=num, parallel=parallel)(x)
    assert draws["z_4"].shape == (num, 3, 2) and draws["x_4"].shape == (num, 3, 3)
    residual = draws["x_4"] - net.emission(draws["z_4"]).mean
    error = residual.std(0) / num**0.5
    assert (residual.mean(0).abs() < 5 * error).all()
    assert_close(
        residual.std(0), net.emission.log_scale.exp().expand(3, 3), rtol=4 / num**0.5, atol=0
    )


@pytest.mark.slow
def test_nuts_samples_the_posterior_that_an_exact_guide_knows():
    net, x = linear_gaussian()
    x = x[:1, :2]
    kernel = NUTS(net.model, max_tree_depth=4)
    mcmc = MCMC(kernel, num_samples=150, warmup_steps=50, disable_progbar=True)
    mcmc.run(x)
    exact = net.terms(x, None, 20_000).latents
    for t in range(2):
        drawn = mcmc.get_samples()[f"z_{t}"]
        assert_close(drawn.mean(0), exact[:, :, t].mean(0), rtol=0, atol=0.3)
        assert_close(drawn.std(0), exact[:, :, t].std(0), rtol=0.3, atol=0)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_compiled_elbo_takes_the_programs_of_a_net():
    """At an exact guide each loss is minus log p(x), at other data too."""
    net, x = linear_gaussian()
    elbo = JitTrace_ELBO(max_plate_nesting=1, ignore_jit_warnings=True)
    for data in (x, torch.randn_like(x), torch.randn_like(x)):
        loss = elbo.loss_and_grads(net.model, net.guide, data)
        assert loss == pytest.approx(-net.log_likelihood(data, torch.full((3,), 5)).sum().item())
    assert all(p.grad is not None for p in net.parameters())


def trained(nets, num_steps=3):
    """Trains nets in turns, each with noise of its own."""
    trainers = [
        SVI(net.model, net.guide, pyro.optim.Adam({"lr": 0.01}), loss=TraceELBO()) for net in nets
    ]
    for step in range(num_steps):
        for n, svi in enumerate(trainers):
            torch.manual_seed(100 * n + step)
            svi.step(batch(), LENGTHS)
    return [dict(net.named_parameters()) for net in nets]


def test_nets_of_one_class_train_as_if_alone():
    """Two new nets and a copy of the first, in turns: each as in a process of its own."""
    originals = [make("vrnn"), make("vrnn")]
    originals.append(copy.deepcopy(originals[0]))
    nets = [copy.deepcopy(net) for net in originals]
    together = trained(nets)
    assert len(pyro.get_param_store()) == sum(len(parameters) for parameters in together)
    for n, net in enumerate(originals):
        pyro.clear_param_store()
        torch.manual_seed(0)
        others = [copy.deepcopy(net) for _ in range(n + 1)]
        assert_close(trained(others)[n], together[n], rtol=0, atol=0)
    data = [{p.data_ptr() for p in parameters.values()} for parameters in together]
    assert not data[0] & data[1] and not data[0] & data[2]


def test_clearing_the_store_loses_no_parameter():
    net, twin = make("vrnn"), None
    twin = copy.deepcopy(net)
    for one in (net, twin):
        svi = SVI(one.model, one.guide, pyro.optim.SGD({"lr": 1e-4}), loss=TraceIWAE(2))
        for step in range(4):
            torch.manual_seed(step)
            svi.step(batch(), LENGTHS)
            if one is net:
                pyro.clear_param_store()
    assert_close(dict(net.named_parameters()), dict(twin.named_parameters()), rtol=0, atol=0)
