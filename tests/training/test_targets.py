"""Diagnostics of the auxiliary target against numbers worked out by hand."""

import math
import warnings

import pytest
import torch
from lightning.fabric import Fabric
from torch.testing import assert_close

from zforcing_pyro.analysis.evaluation import evaluate
from zforcing_pyro.analysis.posterior import future_prediction, latent_codes
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli, DiagNormal
from zforcing_pyro.estimators import TraceELBO
from zforcing_pyro.estimators.particle_filter import ParticleFilter
from zforcing_pyro.models import ZForcing
from zforcing_pyro.training import TrainingOptions, curves, loop
from zforcing_pyro.training.fit import fit
from zforcing_pyro.training.player import Player
from zforcing_pyro.training.targets import TargetFit, warn_of_faint_costs, warn_of_trivial_target

SIZES = {"z_dim": 2, "h_dim": 4, "hidden_dim": 3, "embed_dim": 3}


def test_target_fit_agrees_with_least_squares():
    net = ZForcing(DiagNormal, 3, **SIZES).eval()
    x, lengths = torch.randn(40, 6, 3), torch.randint(1, 7, (40,))
    lengths[:2] = torch.tensor([6, 1])
    with torch.no_grad(), TargetFit(net) as fit:
        for part in (slice(0, 25), slice(25, 40)):
            net.terms(x[part, : lengths[part].max()], lengths[part])
        row = fit.row(Fabric(accelerator="cpu", devices=1))
        batch = net.batch(x, lengths)
        b, mask = net.full_context(batch)[0]["b"], batch.mask
    between = sum(((b[mask[:, t], t] - b[mask[:, t], t].mean(0)) ** 2).sum() for t in range(6))
    total = ((b[mask] - b[mask].mean(0)) ** 2).sum()
    assert row["valid_target_between"] == pytest.approx((between / total).item())
    assert row["valid_target_variance"] == pytest.approx(b[mask].var(0, correction=0).mean().item())
    assert 0 < row["valid_target_r2_past"] < 1 and row["valid_target_r2"] < 1
    with torch.no_grad(), TargetFit(net) as fit:
        net.given(x, lengths).filtered(2, ParticleFilter())
    assert fit.sums["gram"][-1, -1] == mask.sum()  # every step of a filter
    assert_close(fit.sums["cross"][-1], b[mask].sum(0))


@pytest.mark.parametrize(
    ("past", "between", "in_use", "warns"),
    [(0.95, 0.5, 0, 1), (0.95, 0.5, 1, 0), (0.5, 0.05, 1, 1), (0.5, 0.5, 0, 0)],
)
def test_trivial_target_is_warned_of_with_its_numbers(past, between, in_use, warns):
    row = {"valid_target_r2_past": past, "valid_target_between": between}
    row["valid_latents_in_use"] = in_use
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        assert warn_of_trivial_target(row) == bool(warns)
    assert [f"{past:.2f}" in str(m.message) for m in messages] == [True] * warns


@pytest.mark.parametrize(("weight", "names"), [(1e-9, ["aux", "reverse"]), (1.0, []), (0.0, [])])
def test_cost_below_adams_eps_is_warned_of(weight, names):
    net = ZForcing(DiagNormal, 3, **SIZES, aux_weight=weight, reverse_weight=weight)
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        warn_of_faint_costs(net, net.given(torch.randn(3, 5, 3)))
    assert [str(message.message).split()[1] for message in messages] == names


def test_player_moves_the_moments_to_the_backward_states_of_its_batches():
    options = {"aux_target": "standardised", "reverse_unit": "frame"}
    net = ZForcing(DiagNormal, 3, **SIZES, **options)
    player = Player(net, TraceELBO(), TrainingOptions(ema_decay=0.9))
    given = net.given(torch.randn(4, 5, 3), torch.tensor([5, 2, 3, 1]))
    b = net.full_context(net.batch(given.x, given.lengths))[0]["b"]
    player(given, 1.0)
    steps = b[net.batch(given.x, given.lengths).mask]
    assert_close(net.costs.target_mean, steps.mean(0).detach())
    assert net.costs.frame_square != 1
    player.average_weights(1)
    assert_close(player.kept.costs.target_mean, net.costs.target_mean)


def hidden_bits(num, seed):
    """Sequences of four zeros and four times a bit: the start does not show how the end will be."""
    bit = torch.randint(2, (num, 1, 1), generator=torch.Generator().manual_seed(seed))
    return Sequences(list(torch.cat([torch.zeros(num, 4, 1), bit.float().expand(-1, 4, 1)], 1)))


@pytest.mark.slow
@pytest.mark.parametrize("works", [False, True])
def test_diagnostics_tell_a_collapsed_run_from_a_working_one(works, monkeypatch):
    """A bit costs log 2 nats with or without latents, so that a model does without them.

    Costs that are strong make latents plan the end while the start is shown.
    """
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(curves, "BEGIN", 100)
    monkeypatch.setattr(loop, "BEGIN", 100)
    train, valid = hidden_bits(256, 0), hidden_bits(128, 1)
    costs = {"aux_weight": 1.0, "reverse_weight": 1.0, "aux_target": "standardised"}
    sizes = {"z_dim": 4, "h_dim": 16, "hidden_dim": 16, "embed_dim": 0}
    net = ZForcing(Bernoulli, 1, **sizes, **costs if works else {})
    annealed = {"kl_start": 0.0, "kl_updates": 100} if works else {}
    options = TrainingOptions(lr=1e-2, validate_every=20, accelerator="cpu", **annealed)
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        row = fit(net, train, valid, options=options, max_updates=200).curves[-1]
    result, codes = evaluate(net, valid, TraceELBO(10)), latent_codes(net, valid)
    future = future_prediction(codes, valid, (4,)).sel(horizon=4)  # of the start: the end
    collapse = [str(m.message) for m in messages if "have collapsed" in str(m.message)]
    assert len(messages) == len(collapse) == (not works)
    assert (result.latents_in_use > 0) == (row["valid_latents_in_use"] > 0) == works
    assert (result.kl_per_sequence > math.log(2)) == works
    assert result.nats_per_sequence < -0.95 * math.log(2)
    if works:
        assert future["x"].sel(source="h and z") > 0.2 and row["valid_target_r2"] > 0.7
    else:
        assert abs(future["x"]).max() < 0.1 and row["valid_target_r2"] < 0.5
