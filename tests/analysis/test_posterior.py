"""Draws as arviz sees them: names, places, values, padding, files, memory."""

import subprocess
import sys

import arviz as az
import numpy as np
import pytest
import torch
import xarray as xr
from family_cases import make
from posterior_cases import LENGTHS, data_of, put_garbage_into_padding

from zforcing_pyro.analysis.posterior import inference_data, to_inference_data
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.layers.blocks import length_mask
from zforcing_pyro.models import MODELS, RNN
from zforcing_pyro.models.lgssm import LGSSM

MASK = length_mask(torch.tensor(LENGTHS), max(LENGTHS)).numpy()
STOCHASTIC = [name for name in MODELS if name != "rnn"]
DRAWS = ("chain", "draw", "sequence")
DIMS = {
    ("posterior", "z"): (*DRAWS, "time", "latent"),
    ("sample_stats", "log_weight"): DRAWS,
    ("sample_stats", "kl_per_step"): (*DRAWS, "time"),
    ("log_likelihood", "log_weight"): DRAWS,
    ("log_likelihood", "x_given_z"): DRAWS,
    ("log_likelihood", "x_given_z_per_step"): (*DRAWS, "time"),
    ("posterior_predictive", "x"): (*DRAWS, "time", "feature"),
    ("prior", "z"): (*DRAWS, "time", "latent"),
    ("prior_predictive", "x"): (*DRAWS, "time", "feature"),
    ("observed_data", "x"): ("sequence", "time", "feature"),
    ("constant_data", "lengths"): ("sequence",),
    ("constant_data", "mask"): ("sequence", "time"),
    ("constant_data", "labels"): ("sequence", "label"),
}


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli", "categorical"])
@pytest.mark.parametrize("model", STOCHASTIC)
def test_names_dims_and_missing_values(model, kind):
    data = data_of(kind, labels=torch.arange(5))
    found = to_inference_data(make(model, kind), data, num_draws=4, num_predictive=2)
    assert {(g, name) for g in found.groups() for name in found[g].data_vars} == set(DIMS)
    for (group, name), dims in DIMS.items():
        array = found[group][name]
        dims = tuple(d for d in dims if d != "feature") if kind == "categorical" else dims
        assert array.dims == dims
        assert all(
            array.coords[dim].values.tolist() == list(range(n)) for dim, n in zip(dims, array.shape)
        )
        if "time" in dims and group != "constant_data":
            missing = np.isnan(array.transpose("sequence", "time", ...).values)
            missing = missing.reshape(*MASK.shape, -1)
            assert (missing == ~MASK[..., None]).all()
    assert found.posterior.sizes["draw"] == 4
    assert found.prior.sizes["draw"] == found.posterior_predictive.sizes["draw"] == 2
    assert (found.constant_data.mask == MASK).all()
    assert found.constant_data.labels.values.tolist() == [[i] for i in range(5)]
    observed = found.observed_data.x.values
    for i, (x, _) in enumerate(data):
        assert np.allclose(observed[i, : len(x)], x, atol=1e-6)


@pytest.mark.parametrize("model", STOCHASTIC)
def test_numbers_are_those_of_the_draws(model):
    net, data = make(model, "bernoulli"), data_of("bernoulli")
    found = to_inference_data(net, data, num_draws=3)
    for i, (x, _) in enumerate(data):
        z = torch.tensor(found.posterior.z.values[0, :, i, : len(x)], dtype=torch.float64)
        terms = net.terms(x[None], torch.tensor([len(x)]), latents=z[:, None])
        stats, likelihood = found.sample_stats.sel(sequence=i), found.log_likelihood.sel(sequence=i)
        expected = terms.log_emission[:, 0].detach().numpy()
        assert np.allclose(stats.log_weight[0], terms.log_weight[:, 0].detach(), atol=1e-4)
        assert np.allclose(stats.kl_per_step[0, :, : len(x)], terms.kl[:, 0].detach(), atol=1e-4)
        assert np.allclose(likelihood.x_given_z_per_step[0, :, : len(x)], expected, atol=1e-4)
        assert np.allclose(likelihood.x_given_z[0], expected.sum(-1), atol=1e-4)
        assert (likelihood.log_weight == stats.log_weight).all()


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_what_stands_in_padding_changes_nothing(kind, monkeypatch):
    net, data = make("zforcing", kind), data_of(kind)
    expected = to_inference_data(net, data, num_draws=4)
    put_garbage_into_padding(monkeypatch)
    found = to_inference_data(net, data, num_draws=4)
    for group in expected.groups():
        xr.testing.assert_equal(found[group], expected[group])


def test_predictive_draws_are_of_the_model_given_the_latents(monkeypatch):
    """Of a linear-Gaussian model, x is C z and noise."""
    net = LGSSM(3, 2)
    net.emission.log_scale.data.fill_(-8)
    data = data_of("gaussian", [4, 2])
    found = to_inference_data(net, data, num_draws=50)
    for z, x in (("posterior", "posterior_predictive"), ("prior", "prior_predictive")):
        expected = found[z].z.values @ net.emission.weight.T.detach().numpy()
        assert np.allclose(found[x].x.values, expected, atol=5e-3, equal_nan=True)
    assert abs(found.prior.z.values[0, :, 0, 0].mean()) < 0.5
    assert not np.allclose(found.prior.z, found.posterior.z, equal_nan=True)


def test_a_start_is_read():
    x = torch.randn(4, 5, 3)
    net = make("zforcing")
    plain, started = (
        to_inference_data(net, Sequences(list(x[:, 1:]), starts=starts), num_draws=3)
        for starts in (None, list(10 * x[:, 0]))
    )
    for group in ("posterior", "posterior_predictive", "prior_predictive"):
        name = "z" if group == "posterior" else "x"
        assert not np.allclose(plain[group][name], started[group][name])


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_a_file_holds_what_memory_would(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(inference_data, "BLOCK", 100)  # a few sequences at once
    net, data, file = make("srnn", kind), data_of(kind, labels=torch.ones(5)), tmp_path / "a.nc"
    expected = to_inference_data(net, data, num_draws=4, num_predictive=3)
    for _ in range(2):  # over the first, too
        found = to_inference_data(net, data, num_draws=4, num_predictive=3, file=file)
        read = az.from_netcdf(str(file))
        for group in expected.groups():
            xr.testing.assert_equal(found[group].load(), expected[group])
            xr.testing.assert_identical(read[group].load(), expected[group])
            found[group].close(), read[group].close()
    assert [f.name for f in tmp_path.iterdir()] == ["a.nc"]


def test_an_error_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    def fails(*args):
        raise RuntimeError("out of luck")

    file = tmp_path / "a.nc"
    file.write_text("before")
    monkeypatch.setattr(inference_data, "draws_of_block", fails)
    with pytest.raises(RuntimeError, match="out of luck"):
        to_inference_data(make("srnn"), data_of("gaussian"), num_draws=4, file=file)
    assert file.read_text() == "before"


def test_draws_are_a_function_of_the_seed_and_leave_all_else_alone():
    net, data = make("zforcing", "bernoulli").train(), data_of("bernoulli")
    state = torch.get_rng_state()
    first, again, other = (
        to_inference_data(net, data, num_draws=2, seed=seed).prior_predictive for seed in (1, 1, 2)
    )
    xr.testing.assert_identical(first, again)
    assert not first.equals(other)
    assert torch.equal(state, torch.get_rng_state()) and net.training


@pytest.mark.parametrize("length", [1, 2])
def test_a_net_is_not_changed_by_being_looked_at(length):
    """A single step of a single sequence once wrote into a bias."""
    net = make("zforcing")
    before = {name: p.clone() for name, p in net.named_parameters()}
    to_inference_data(net, data_of("gaussian", [length]), num_draws=1)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


def test_arviz_summarises_and_draws(tmp_path):
    import matplotlib

    matplotlib.use("agg")
    net, file = make("zforcing", "bernoulli"), tmp_path / "a.nc"
    to_inference_data(net, data_of("bernoulli"), num_draws=40, file=file)
    found = az.from_netcdf(str(file))
    table = az.summary(found, var_names="z", coords={"sequence": [0], "time": [0, 4]}, kind="stats")
    expected = found.posterior.z.sel(sequence=0, time=4, latent=1).mean().item()
    assert len(table) == 4
    assert table.loc["z[0, 4, 1]", "mean"] == pytest.approx(expected, abs=6e-4)
    for group in ("posterior", "prior"):
        az.plot_ppc(found, group=group, var_names=["x"], num_pp_samples=5)
    az.plot_posterior(found, coords={"sequence": [0], "time": [0], "latent": [0]})
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("spread", [1.0001, 1.15])  # at 1 there is no tail to be fitted
def test_loo_of_weights_is_the_likelihood_at_an_exact_posterior_and_less_elsewhere(spread):
    """By log(1 + chi^2), which of scales s times too large is known."""
    net, data = LGSSM(3, 2, spread=spread), data_of("gaussian", [4] * 6)
    found = to_inference_data(net, data, num_draws=3_000, num_predictive=0)
    exact = net.log_likelihood(torch.stack([x for x, _ in data]), torch.tensor([4] * 6))
    loo = az.loo(found, var_name="log_weight", pointwise=True).loo_i.values
    # The integral of q^2 / p is 1 / (s sqrt(2 - s^2)) in each of 4 steps and 2 dims.
    less = -4 * 2 * np.log(spread * np.sqrt(2 - spread**2))
    assert loo == pytest.approx(exact.detach().numpy() - less, abs=1e-3 if spread < 1.1 else 0.3)
    assert less > 0.3 or spread < 1.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_draws": 0}, "'num_draws' must be positive, got 0"),
        ({"num_predictive": -1}, "'num_predictive' must not be negative, got -1"),
        ({"num_draws": 3, "num_predictive": 4}, "'num_predictive' must be at most 3, got 4"),
        ({"max_rows": 0}, "'max_rows' must be positive, got 0"),
    ],
)
def test_wrong_numbers_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        to_inference_data(make("vrnn"), data_of("gaussian"), **options)


def test_a_model_without_latents_is_refused():
    with pytest.raises(ValueError, match="'net' must have latents, got RNN, which has none"):
        to_inference_data(RNN(Bernoulli, 3, h_dim=4), data_of("bernoulli"))


def test_predictive_groups_can_be_left_out():
    found = to_inference_data(make("dkf"), data_of("gaussian"), num_draws=2, num_predictive=0)
    assert not {"prior", "prior_predictive", "posterior_predictive"} & set(found.groups())


SCRIPT = """
import re, sys, torch
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.models import ZForcing
from zforcing_pyro.posterior import to_inference_data

torch.set_num_threads(1)
net = ZForcing(Bernoulli, x_dim=8, z_dim=32, h_dim=32, hidden_dim=32, embed_dim=0)
data = Sequences([torch.ones(n, 8) for n in [64] * 150 + list(range(1, 51))])
to_inference_data(net, data, num_draws=100, file=sys.argv[1])
# Not ru_maxrss, which begins with that of the process that this one was forked from.
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_two_hundred_sequences_are_written_with_under_a_gigabyte(tmp_path):
    file = tmp_path / "large.nc"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(run.stdout) < 800 * 1024  # kilobytes, of which a quarter are imports
    assert file.stat().st_size < 500e6  # z twice is 328 MB where nothing is padding
    found = az.from_netcdf(str(file))
    assert dict(found.posterior.sizes) == {
        "chain": 1,
        "draw": 100,
        "sequence": 200,
        "time": 64,
        "latent": 32,
    }
    lengths = found.constant_data.lengths
    assert (found.posterior.z.isel(draw=7, latent=3).count("time") == lengths).all()
