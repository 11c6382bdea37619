"""Nets as graphs of ``torch.export``: a posterior's mean, and a step of the generative model."""

import pytest
import torch
from family_cases import EMISSIONS, batch, make
from torch.testing import assert_close

from zforcing_pyro.models.exported import GeneratingStep, PosteriorMean

pytestmark = pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
CASES = ["storn", "vrnn", "srnn", "dkf", "zforcing"]
kinds = pytest.mark.parametrize("kind", EMISSIONS)


def start(net, kind):
    """The state before a sequence, whose frame before is none."""
    nothing = torch.full((3,), -1) if kind == "categorical" else torch.full((3, 3), torch.nan)
    return net.initial_state(3, nothing)


def graph(module, *args):
    return torch.export.export(module, args, strict=False).module()


@pytest.mark.slow
@kinds
@pytest.mark.parametrize("case", CASES)
def test_exported_mean_is_the_mean_of_the_terms(case, kind):
    """On other data than those of the export, at one seed."""
    net = make(case, kind).eval()
    exported, x = graph(PosteriorMean(net), batch(kind)), batch(kind)
    torch.manual_seed(1)
    mean = exported(x)
    torch.manual_seed(1)
    assert_close(mean, net.terms(x).posterior_mean[0])


@pytest.mark.slow
@kinds
@pytest.mark.parametrize("case", ["rnn", *CASES])
def test_exported_steps_generate_what_the_program_does(case, kind):
    net = make(case, kind).eval()
    state = start(net, kind)
    step, frames = graph(GeneratingStep(net), state), []
    torch.manual_seed(1)
    for _ in range(4):
        x, state = step(state)
        frames.append(x)
    torch.manual_seed(1)
    assert_close(torch.stack(frames, 1), net.generate(3, 4))


def test_posterior_mean_averages_draws():
    net, x = make("vrnn"), batch()
    torch.manual_seed(1)
    mean = PosteriorMean(net, 7)(x)
    torch.manual_seed(1)
    assert_close(mean, net.terms(x, num_particles=7).posterior_mean.mean(0))


@pytest.mark.slow
def test_onnx_takes_the_mean_of_a_posterior(tmp_path):
    pytest.importorskip("onnxscript")
    program = torch.onnx.export(PosteriorMean(make("srnn").float()), (batch().float(),))
    program.save(tmp_path / "mean.onnx")
    assert (tmp_path / "mean.onnx").stat().st_size > 0


def test_calling_a_net_returns_its_terms():
    net, x = make("vrnn"), batch()
    torch.manual_seed(1)
    called = net(x, num_particles=2)
    torch.manual_seed(1)
    assert_close(called.log_weight, net.terms(x, num_particles=2).log_weight)
