"""Heads in blocks of steps: the same numbers, in the memory of a block."""

from functools import partial

import pytest
import torch
from family_cases import CASES, LENGTHS, batch, make
from torch.testing import assert_close

from zforcing_pyro.emissions import Emission
from zforcing_pyro.emissions.normal import DiagonalNormal
from zforcing_pyro.layers import in_blocks as blocks


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
@pytest.mark.parametrize("case", CASES)
def test_blocks_change_no_number(monkeypatch, case, kind):
    net, x = make(case, kind), batch(kind)
    found = []
    for largest in (blocks.LARGEST, 50, 1):
        monkeypatch.setattr(blocks, "LARGEST", largest)
        torch.manual_seed(1)
        terms = net.terms(x, LENGTHS, num_particles=2)
        loss = terms.log_weight.logsumexp(0).sum() + terms.auxiliary.sum() + terms.reverse.sum()
        gradients = torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)
        torch.manual_seed(1)
        with torch.no_grad():
            same = net.terms(x, LENGTHS, num_particles=2).log_emission
        found.append((loss, terms.log_emission, same, *gradients))
    assert_close(found[1], found[0], rtol=1e-10, atol=1e-10)
    assert_close(found[2], found[0], rtol=1e-10, atol=1e-10)


def test_no_block_is_larger_than_asked_for_and_none_is_kept(monkeypatch):
    net, seen, kept = make("zforcing", "categorical"), [], []
    net.emission.register_forward_hook(lambda m, args, result: seen.append(args[0].shape[-2]))
    x, lengths = torch.zeros(3, 40, dtype=torch.long), torch.full((3,), 40)
    widest = max(len(p) for p in net.emission.parameters())

    def numbers_kept():
        kept.clear()
        hooks = torch.autograd.graph.saved_tensors_hooks
        with hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            return net.terms(x, lengths, num_particles=2), sum(kept)

    _, at_once = numbers_kept()
    monkeypatch.setattr(blocks, "LARGEST", 7 * 2 * 3 * widest)  # seven steps of two particles
    terms, in_blocks = numbers_kept()
    assert seen == [40, 7, 7, 7, 7, 7, 5]
    assert at_once - in_blocks > 2 * 3 * 40 * widest
    terms.log_emission.sum().backward()
    assert seen[7:] == [5, 7, 7, 7, 7, 7]


class AsItIs(Emission):
    """A Gaussian around the features, with no parameter or a single number."""

    def __init__(self, in_dim, x_dim, log_scale):
        super().__init__()
        self.x_dim, self.log_scale = x_dim, log_scale

    def forward(self, features):
        return DiagonalNormal(features[..., : self.x_dim], self.log_scale)


@pytest.mark.parametrize("kind", [torch.tensor, lambda x: torch.nn.Parameter(torch.tensor(x))])
def test_an_emission_needs_no_weights(kind):
    log_scale = kind(0.3)
    net, x = make("vrnn", partial(AsItIs, log_scale=log_scale)), batch()
    torch.manual_seed(1)
    found = net.terms(x, LENGTHS).log_emission
    torch.manual_seed(1)
    assert_close(found, net.program_terms(x, LENGTHS).log_emission)


def test_training_may_keep_less():
    with blocks.kept_at_most(2):
        assert blocks.LARGEST * 4 == 2 * 2**20
        with blocks.kept_at_most(1), pytest.raises(ZeroDivisionError):
            1 / 0  # noqa: B018
        assert blocks.LARGEST * 4 == 2 * 2**20
    assert blocks.LARGEST == 2**26
