"""``pyro.infer.SVI`` takes the fast path of a net, and the programs where handlers change them."""

import copy
import inspect

import pyro
import pytest
import torch
from family_cases import LENGTHS, batch, make
from program_cases import make_estimator, program_loss
from pyro import poutine
from pyro.infer import SVI
from torch.testing import assert_close

from zforcing_pyro.estimators import ESTIMATORS, TraceELBO, TraceIWAE
from zforcing_pyro.estimators.fast import net_of
from zforcing_pyro.models import VRNN
from zforcing_pyro.models.sequence_programs import instance_name
from zforcing_pyro.models.steps import detached

everyone = pytest.mark.parametrize("name", ESTIMATORS)


def options(name):
    """A filter's programs draw anew where they resample, hence other noise: it never does."""
    return {"threshold": 0.0} if name in ("fivo", "twisted") else {}


@everyone
@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize("case", ["zforcing layer norm", "srnn with costs", "vrnn"])
def test_losses_and_gradients_are_those_of_the_programs(name, num_particles, case):
    """The same holds from a state, and with other inputs."""
    net, x = make(case), batch()
    state = detached(net.terms(batch(), torch.tensor([5, 5, 5])).state)
    estimator = make_estimator(name, num_particles, **options(name))
    for kwargs in ({}, {"state": state, "inputs": batch()}):
        results = []
        for loss in (estimator.differentiable_loss, program_loss):
            torch.manual_seed(1)
            args = net.model, net.guide, x, LENGTHS
            value = loss(*([estimator] if loss is program_loss else []), *args, **kwargs)
            grads = torch.autograd.grad(value, net.parameters(), materialize_grads=True)
            results.append((value, *grads))
        assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)


@everyone
def test_svi_prints_the_losses_of_a_plain_loop_over_the_objective(name):
    net, twin = make("zforcing"), None
    twin, losses = copy.deepcopy(net), ([], [])
    estimator = make_estimator(name, 2)
    svi = SVI(net.model, net.guide, pyro.optim.Adam({"lr": 0.01}), loss=estimator)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    for step in range(20):
        torch.manual_seed(step)
        x = batch()
        torch.manual_seed(step)
        losses[0].append(svi.step(x, LENGTHS))
        torch.manual_seed(step)
        loss = -estimator.objective(twin.given(x, LENGTHS)).value.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[1].append(loss.item())
    assert_close(*map(torch.tensor, losses), rtol=1e-9, atol=1e-9)
    assert_close(list(net.parameters()), list(twin.parameters()), rtol=1e-9, atol=1e-9)


def paths(monkeypatch, net):
    """Notes down each call of the fast path."""
    calls, terms = [], type(net).terms

    def noted(*args, **kwargs):
        calls.append(1)
        return terms(*args, **kwargs)

    monkeypatch.setattr(type(net), "terms", noted)
    return calls


def test_handlers_that_change_programs_are_obeyed(monkeypatch):
    net, x = make("vrnn"), batch()
    calls, estimator = paths(monkeypatch, net), TraceELBO(2)
    svi = SVI(net.model, net.guide, pyro.optim.Adam({"lr": 0.0}), loss=estimator)
    args = net.model, net.guide, x, LENGTHS
    torch.manual_seed(1)
    plain = svi.step(x, LENGTHS)
    assert calls == [1]
    with poutine.trace(param_only=True):
        assert net_of(net.model, net.guide) is net
    with poutine.trace():
        assert net_of(net.model, net.guide) is None
    with poutine.scale(scale=3.0):
        torch.manual_seed(1)
        assert svi.step(x, LENGTHS) == pytest.approx(3 * plain, rel=1e-10)
    with poutine.mask(mask=torch.zeros(3).bool()):
        assert estimator.loss(*args) == 0
    with poutine.block():
        torch.manual_seed(1)
        assert estimator.loss(*args) == pytest.approx(plain, rel=1e-10)
    draws = poutine.trace(net.guide).get_trace(x, LENGTHS)
    with poutine.replay(trace=draws):
        assert len({TraceELBO().loss(*args) for _ in range(2)}) == 1
    with poutine.condition(data={"z_0": torch.zeros(3, 2)}):
        with pytest.raises(ValueError, match="Site 'z_0' of the guide is no latent of the model"):
            estimator.loss(*args)
    assert calls == [1]


def test_programs_that_are_no_methods_of_one_class_are_run():
    class Prior(VRNN):
        def guide(self, x, lengths, state=None, inputs=None):
            return super().guide(0 * x, lengths, state, inputs)

    kwargs = {"z_dim": 2, "h_dim": 4, "hidden_dim": 3, "embed_dim": 3}
    net, other = (VRNN(make("vrnn").emission.__class__, 3, **kwargs) for _ in range(2))
    assert net_of(net.model, net.guide) is net
    assert net_of(net.model, other.guide) is None
    assert net_of(net.model, lambda *args: net.guide(*args)) is None
    assert net_of(poutine.scale(net.model, scale=2.0), net.guide) is None
    changed = Prior(make("vrnn").emission.__class__, 3, **kwargs)
    assert net_of(changed.model, changed.guide) is None
    torch.manual_seed(1)
    loss = TraceELBO().loss(changed.model, changed.guide, batch(), LENGTHS)
    torch.manual_seed(1)
    assert loss == program_loss(TraceELBO(), changed.model, changed.guide, batch(), LENGTHS).item()
    looped = TraceIWAE(2, vectorize_particles=False)
    assert type(looped.given(net.model, net.guide)).__name__ == "ProgramPair"
    assert "vectorize_particles" not in inspect.signature(TraceIWAE).parameters


def test_pyro_saves_and_loads_what_svi_trained(tmp_path):
    """D4: the store was empty, and the optimiser's state of one parameter stood under None."""
    net, x = make("vrnn"), batch()
    svi = SVI(net.model, net.guide, pyro.optim.Adam({"lr": 0.01}), loss=TraceELBO())
    svi.step(x, LENGTHS)
    names = {f"{instance_name(net)}${name}" for name, _ in net.named_parameters()}
    assert instance_name(copy.deepcopy(net)) != instance_name(net)
    assert set(pyro.get_param_store().keys()) == names == set(svi.optim.get_state())
    pyro.get_param_store().save(tmp_path / "store")
    svi.optim.save(tmp_path / "optim")

    def steps(svi):
        torch.manual_seed(1)
        return [svi.step(x, LENGTHS) for _ in range(3)]

    losses = steps(svi)
    assert len(set(losses)) == 3
    for clear in (True, False):  # a new process, in which the net has the same name; this one
        if clear:
            pyro.clear_param_store()
        pyro.get_param_store().load(tmp_path / "store")
        again = SVI(net.model, net.guide, pyro.optim.Adam({"lr": 0.01}), loss=TraceELBO())
        again.optim.load(tmp_path / "optim")
        assert steps(again) == losses
    pyro.get_param_store()[min(names)] = torch.zeros(7, 7)
    with pytest.raises(ValueError, match=r"of Pyro's store must have shape .* got .7, 7."):
        svi.step(x, LENGTHS)
