"""Options of the costs on a backward state: what they score, in which unit, and what they train."""

import pytest
import torch
from family_cases import COSTS, LENGTHS, SIZES, perturbed
from torch.testing import assert_close

from zforcing_pyro.emissions import DiagNormal
from zforcing_pyro.layers.blocks import length_mask
from zforcing_pyro.models import ZForcing

MASK = length_mask(LENGTHS, 5)


def make(model=ZForcing, **options):
    return perturbed(model(DiagNormal, 3, **SIZES | COSTS | options))


def gradients(net, loss):
    values = torch.autograd.grad(loss, net.parameters(), materialize_grads=True)
    return {name: value for (name, _), value in zip(net.named_parameters(), values)}


def test_standardised_target_has_the_moments_of_the_first_batch():
    net, b, z = make(aux_target="standardised"), 3 + 2 * torch.randn(3, 5, 4), torch.randn(3, 5, 2)
    net.costs.observe(b, torch.zeros(3, 5, 3), MASK, None)
    steps = b[MASK]
    target = (b - steps.mean(0)) / steps.var(0, correction=0).sqrt()
    assert_close(net.costs.target(b), target)
    expected = net.costs.auxiliary(z).log_prob(target) / 4
    assert_close(net.costs.log_auxiliary(z, z, b), expected)
    assert {"costs.target_mean", "costs.target_square"} <= net.state_dict().keys()
    net.costs.observe(b + 100, torch.zeros(3, 5, 3), MASK, None)
    assert_close(net.costs.target_mean, steps.mean(0) + 50)  # of two batches each weighs half


def test_reverse_cost_in_frames_does_not_depend_on_the_unit_of_the_data():
    shares = []
    for scale in (1.0, 1e-3):
        torch.manual_seed(2)
        net = ZForcing(DiagNormal, 3, **SIZES, reverse_unit="frame")
        x, b = 400 * torch.randn(3, 5, 3), torch.randn(3, 5, 4)
        net.costs.observe(b, x * scale**0.5, MASK, None)
        shares.append(net.costs.log_reverse_of_steps(b, x * scale**0.5, None)[MASK])
    for share in shares:
        assert 0.9 < share.square().mean() < 1.1


@pytest.mark.parametrize("reaches", ["guide", "all_but_backward", "heads"])
def test_auxiliary_cost_trains_what_it_reaches(reaches):
    net, x = make(aux_reaches=reaches, reverse_weight=0.0), torch.randn(3, 5, 3)
    torch.manual_seed(1)
    slopes = gradients(net, net.terms(x, LENGTHS, 2).costs.sum())
    trained = {name.split(".")[0] for name, slope in slopes.items() if slope.abs().sum() > 0}
    forward = {"cell", "embed", "posterior", "costs"}
    expected = {"guide": forward | {"backward_rnn"}, "all_but_backward": forward}
    assert trained == expected.get(reaches, {"posterior", "costs"})
    # The oracle is a net whose backward state is a constant of the same value.
    if reaches == "all_but_backward":
        plain = make(aux_reaches="guide", reverse_weight=0.0)
        plain.load_state_dict(net.state_dict())
        run = plain.backward_rnn.forward
        plain.backward_rnn.forward = lambda *args: run(*args).detach()
        torch.manual_seed(1)
        for name, slope in gradients(plain, plain.terms(x, LENGTHS, 2).costs.sum()).items():
            assert_close(slopes[name], slope)


def test_step_of_a_filter_leaves_the_second_recurrence_to_the_programs():
    assert make(aux_reaches="heads").has_steps
    assert not make(aux_reaches="all_but_backward").has_steps
