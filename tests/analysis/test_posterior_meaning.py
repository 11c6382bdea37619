"""Codes, KL, information, prediction and probes, where latents and data are related as known."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from family_cases import make
from posterior_cases import LENGTHS, STOCHASTIC, data_of, put_garbage_into_padding

from zforcing_pyro.analysis import batches, posterior
from zforcing_pyro.analysis.posterior import future_prediction, information, latent_codes, latent_kl
from zforcing_pyro.data import Sequences
from zforcing_pyro.models.lgssm import LGSSM

SIZES = {"storn": 4, "vrnn": 6, "srnn": 6, "dkf": 2, "zforcing": 4}  # h, and z_{t-1} with it
BACKWARD = {"srnn", "dkf", "zforcing"}


def codes_of(z, lengths=None, **others):
    """Codes as :func:`latent_codes` has them, of given arrays ``(sequence, time, dim)``."""
    lengths = np.full(len(z), z.shape[1]) if lengths is None else np.asarray(lengths)
    padding = (np.arange(z.shape[1]) >= lengths[:, None])[..., None]
    arrays = {"z": z, "z_mean": z, "prior_mean": 0 * z, "kl": np.abs(z)} | others
    dims = {"h": "hidden", "b": "backward"}
    variables = {
        name: (("sequence", "time", dims.get(name, "latent")), np.where(padding, np.nan, value))
        for name, value in arrays.items()
    }
    codes = xr.Dataset(variables, coords={"sequence": range(len(z))})
    codes["lengths"] = ("sequence", lengths)
    codes["kl"].attrs["is_estimate"] = 0
    return codes


@pytest.mark.parametrize("model", STOCHASTIC)
def test_codes_do_not_depend_on_the_batch(model, monkeypatch):
    monkeypatch.setattr(batches, "MAX_ROWS", 5_000)
    net, data = make(model), data_of("gaussian")
    codes = latent_codes(net, data, num_draws=800)
    assert codes.z.dims == codes.z_mean.dims == codes.kl.dims == ("sequence", "time", "latent")
    assert codes.sizes["hidden"] == SIZES[model] and ("b" in codes) == (model in BACKWARD)
    for name in {"z", "z_mean", "prior_mean", "kl", "h", "b"} & set(codes):
        reached = (~np.isnan(codes[name].values)).sum(1)
        assert (reached == np.array(LENGTHS)[:, None]).all()
    for i, (x, *_) in enumerate(data):
        with torch.no_grad():
            terms = net.terms(x[None], num_particles=800)
        here = codes.isel(sequence=i, time=slice(0, len(x)))
        mean, error = terms.posterior_mean.mean(0)[0], terms.posterior_mean.std(0).max() / 800**0.5
        assert np.allclose(here.z_mean, mean, atol=1e-5 + 8 * error)
        assert np.allclose(here.kl, terms.kl_per_latent.mean(0)[0], rtol=0.2, atol=0.03)
    put_garbage_into_padding(monkeypatch)
    xr.testing.assert_identical(latent_codes(net, data, num_draws=800), codes)


def test_codes_hold_the_state_before_the_latent():
    """h_{t-1} of Z-Forcing by its own cell; b_t by its own backward recurrence."""
    net, data = make("zforcing"), data_of("gaussian", [4])
    codes, x = latent_codes(net, data, num_draws=1), data[0].x[None]
    h = c = torch.zeros(1, 4)
    x_prev = net.embed.start(x)
    for t in range(4):
        assert np.allclose(codes.h[0, t], h[0].detach(), atol=1e-6)
        z = torch.tensor(codes.z.values[:, t], dtype=torch.float64)
        h, c = net.cell(net.embed(x_prev), z, (h, c))
        x_prev = x[:, t]
    b = net.backward_rnn(net.embed(x), torch.tensor([4]))
    assert np.allclose(codes.b[0], b[0].detach(), atol=1e-6)


def test_codes_hold_a_joint_kl_or_an_estimate():
    net, data = LGSSM(3, 2), data_of("gaussian")
    exact = latent_codes(net, data, num_draws=3_000)
    assert exact.kl.dims == ("sequence", "time", "all_latents")
    assert not exact.kl.attrs["is_estimate"] and latent_kl(exact).by_latent.shape == (1,)
    terms = net.terms
    net.terms = lambda *args, **options: terms(*args, **options)._replace(kl_per_latent=None)
    estimated = latent_codes(net, data, num_draws=3_000)
    assert estimated.kl.attrs["is_estimate"] and latent_kl(estimated).is_estimate
    assert np.allclose(exact.kl, estimated.kl, atol=0.15, equal_nan=True)


def test_latent_kl_averages_over_real_steps():
    z = np.arange(1.0, 13).reshape(2, 3, 2)  # |z| is the KL
    z[1] += 10
    result = latent_kl(codes_of(z, lengths=[3, 1]))
    # steps: (1, 2), (3, 4), (5, 6) and (17, 18)
    assert result.by_step.tolist() == [19, 7, 11]
    assert result.by_latent.tolist() == [6.5, 7.5]
    assert result.per_sequence.tolist() == [21, 35]
    assert result.variance.tolist() == [38.75, 38.75] and result.in_use.all()
    z = noise(8, 5, 3) * [1.0, 0.05, 0.2]  # the second hardly moves
    assert latent_kl(codes_of(z)).in_use.tolist() == [True, False, True]


def test_mutual_information_of_a_linear_gaussian_model():
    """log det of prior over posterior covariance, half of it, at a single step."""
    net = LGSSM(2, 1)
    net.emission.weight.data = torch.tensor([[1.0], [0.5]])
    x = net.generate(2_048, 1)
    _, covariance = net.smoother(x[:1], torch.tensor([1]))
    exact = -0.5 * math.log(covariance.item() / (2 * net.log_scale).exp().item())
    result = posterior.mutual_information(
        net, Sequences(list(x)), batch_size=128, max_sequences=2_048
    )
    assert result.num_sequences == 2_048 and result.limit == pytest.approx(math.log(128))
    error = 4 * result.standard_error[0]
    assert result.lower[0] - error < exact < result.upper[0] + error
    assert result.upper[0] - result.lower[0] < 0.05 and exact > 0.3
    assert result.lower[0] == pytest.approx(exact, abs=0.06)


def test_cross_densities_score_each_draw_under_each_sequence():
    net, data = make("zforcing"), data_of("gaussian", [4, 3, 5])
    (given,) = batches.batches(net, data, 3)
    with batches.drawing(net, seed=0):
        densities = information.cross_densities(given)
    with batches.drawing(net, seed=0):
        z = given.terms().latents[0]
        terms = given.terms(latents=z[:, None].expand(-1, 3, -1, -1))
    expected = terms.log_posterior[..., :3].cumsum(-1)
    assert densities.shape == (3, 3, 3) and torch.allclose(densities, expected)


def test_mutual_information_of_blind_and_of_telling_latents():
    blind, telling = LGSSM(3, 2, guide_sees="nothing"), LGSSM(3, 2)
    result = posterior.mutual_information(blind, data_of("gaussian", [4] * 6))
    assert np.allclose([result.lower, result.upper], 0, atol=1e-9)
    telling.emission.log_scale.data.fill_(-6)
    data = Sequences([torch.full((5 + i // 4, 3), 10.0 * i) for i in range(8)])
    result = posterior.mutual_information(
        telling, data, batch_size=4
    )  # batches of 5 and of 6 steps
    assert result.lower == pytest.approx(np.full(6, math.log(4)), abs=1e-3)
    assert (result.upper > 100).all()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_future_prediction_finds_the_horizon_of_a_latent():
    """z_t is x_{t+2} and h_t is x_t, of white noise; b is z."""
    x = noise(60, 30, 2)
    z = np.concatenate([x[:, 2:], noise(60, 2, 2, seed=1)], 1)
    data = Sequences([torch.tensor(row) for row in x])
    result = future_prediction(codes_of(z, h=x, b=3 * z), data, horizons=[0, 1, 2, 40])
    assert result.x.dims == ("source", "horizon")
    assert result.source.values.tolist() == ["z", "h", "h and z"]
    assert np.allclose(result.x[:, :3], [[0, 0, 1], [1, 0, 0], [1, 0, 1]], atol=0.02)
    assert np.isnan(result.x[:, 3]).all()  # no sequence is so long
    assert result.b.values[:2, 0] == pytest.approx([1, 0], abs=0.02)


def test_future_prediction_holds_out_sequences_and_skips_padding_and_missing_values():
    """A sequence's name, read off its own steps, tells nothing of a new sequence."""
    which = np.eye(10)[np.arange(10)][:, None].repeat(20, 1)  # (10, 20, 10)
    data = Sequences([torch.tensor(row) for row in noise(10, 1, 1).repeat(20, 1)])
    result = future_prediction(codes_of(which), data, horizons=[0])
    assert result.x.sel(source="z").item() < 0.1 and result.source.values.tolist() == ["z"]
    x, lengths = noise(40, 12, 1), np.arange(40) % 10 + 3
    x[:, 0::5] = np.nan
    data = Sequences([torch.tensor(r[:n]) for r, n in zip(x, lengths)], missing=True)
    codes = codes_of(np.nan_to_num(x), lengths)
    assert future_prediction(codes, data, [0]).x.item() == pytest.approx(1, abs=0.01)
    symbols = np.random.default_rng(0).integers(0, 40, (50, 20))  # one-hot targets
    data = Sequences([torch.tensor(row) for row in symbols])
    result = future_prediction(codes_of(np.eye(40)[symbols]), data, horizons=[0, 1])
    assert result.x.values[0] == pytest.approx([1, 0], abs=0.06)


def test_probes_read_the_label_where_it_is():
    labels, lengths = torch.arange(90) % 3, np.arange(90) % 7 + 1
    z = noise(90, 7, 2) * 0.1
    z[..., 0] += labels.numpy()[:, None]
    rare = torch.where(torch.arange(90) < 88, torch.arange(90) % 2, 5)
    unknown = torch.where(torch.arange(90) < 30, -1, labels)
    columns = torch.stack([labels, rare, unknown, torch.zeros(90).long()], 1)
    codes = codes_of(z, lengths, h=noise(90, 7, 3, seed=2))
    result = posterior.linear_probes(codes, columns, ["digit", "rare", "unknown", "constant"])
    names = [(p.label, p.source, p.num_classes, p.num_sequences) for p in result]
    assert names == [
        ("digit", "z", 3, 90), ("digit", "h", 3, 90),
        ("rare", "z", 2, 88), ("rare", "h", 2, 88),
        ("unknown", "z", 3, 60), ("unknown", "h", 3, 60),
    ]  # fmt: skip
    digit_z, digit_h, rare_z, *_ = result
    assert digit_z.accuracy == 1 and digit_z.standard_error == 0
    assert digit_h.accuracy == pytest.approx(1 / 3, abs=0.2) and digit_h.standard_error > 0
    assert digit_z.chance == pytest.approx(1 / 3) and rare_z.chance == pytest.approx(0.5)
    assert posterior.linear_probes(codes, labels)[0].label == "label 0"


def test_trajectories_of_a_plane_are_isometric():
    z, lengths = noise(9, 6, 2, seed=1) @ noise(2, 5), np.arange(9) % 6 + 1
    result = posterior.trajectories(codes_of(z, lengths))
    assert result.path.dims == ("sequence", "time", "component")
    assert result.explained.values.sum() == pytest.approx(1)
    assert ((~np.isnan(result.path.values)).all(-1).sum(1) == lengths).all()
    valid = np.arange(6) < lengths[:, None]
    distance = [np.linalg.norm(v[valid][0] - v[valid][7]) for v in (z, result.path.values)]
    assert distance[0] == pytest.approx(distance[1])
    assert posterior.trajectories(codes_of(noise(2, 3, 1))).path.shape == (2, 3, 1)
