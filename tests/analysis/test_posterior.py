"""Export for arviz: names, positions, values, padding, files, memory, versions."""

import subprocess
import sys
from types import SimpleNamespace

import arviz as az
import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from family_cases import make
from posterior_cases import LENGTHS, STOCHASTIC, data_of, put_garbage_into_padding

from zforcing_pyro.analysis import arviz_adapter
from zforcing_pyro.analysis.arviz_adapter import pareto_k
from zforcing_pyro.analysis.posterior import inference_data, to_inference_data
from zforcing_pyro.data import Sequences
from zforcing_pyro.layers.blocks import length_mask
from zforcing_pyro.models.lgssm import LGSSM

MASK = length_mask(torch.tensor(LENGTHS), max(LENGTHS)).numpy()
DIMS = {
    ("posterior", "z"): "chain draw sequence time latent",
    ("sample_stats", "log_weight"): "chain draw sequence",
    ("sample_stats", "kl_per_step"): "chain draw sequence time",
    ("sample_stats", "log_emission"): "chain draw sequence time",
    ("log_likelihood", "log_weight"): "chain draw sequence",
    ("posterior_predictive", "x"): "chain draw sequence time feature",
    ("prior", "z"): "chain draw sequence time latent",
    ("prior_predictive", "x"): "chain draw sequence time feature",
    ("observed_data", "x"): "sequence time feature",
    ("constant_data", "lengths"): "sequence",
    ("constant_data", "mask"): "sequence time",
    ("constant_data", "labels"): "sequence label",
}


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_export_names_dims_and_pads_with_nan(kind, monkeypatch):
    net, data = make("zforcing", kind), data_of(kind, labels=torch.arange(5))
    result = to_inference_data(net, data, num_draws=4, num_predictive=2)
    assert {(g, name) for g in result.groups() for name in result[g].data_vars} == set(DIMS)
    for (group, name), dims in DIMS.items():
        array = result[group][name]
        dims = dims.removesuffix(" feature") if kind == "categorical" else dims
        assert array.dims == tuple(dims.split())
        assert all(array[d].values.tolist() == list(range(n)) for d, n in array.sizes.items())
        if "time" in dims and group != "constant_data":
            missing = np.isnan(array.transpose("sequence", "time", ...).values)
            assert (missing.reshape(*MASK.shape, -1) == ~MASK[..., None]).all()
    draws = [result[g].sizes["draw"] for g in ("posterior", "prior", "posterior_predictive")]
    assert draws == [4, 2, 2] and (result.constant_data.mask == MASK).all()
    assert result.constant_data.labels.values.tolist() == [[i] for i in range(5)]
    for (x, *_), row in zip(data, result.observed_data.x.values):
        assert np.allclose(row[: len(x)], x, atol=1e-6)
    put_garbage_into_padding(monkeypatch)
    again = to_inference_data(net, data, num_draws=4, num_predictive=2)
    for group in result.groups():
        xr.testing.assert_equal(again[group], result[group])


@pytest.mark.parametrize("model", STOCHASTIC)
def test_exported_numbers_are_the_terms_of_the_draws(model):
    net, data = make(model, "bernoulli"), data_of("bernoulli")
    result = to_inference_data(net, data, num_draws=3)
    for i, (x, *_) in enumerate(data):
        z = torch.tensor(result.posterior.z.values[0, :, i, : len(x)], dtype=torch.float64)
        terms = net.terms(x[None], latents=z[:, None])
        stats = result.sample_stats.sel(sequence=i, time=slice(0, len(x) - 1))
        expected = {"log_weight": terms.log_weight, "kl_per_step": terms.kl}
        for name, value in (expected | {"log_emission": terms.log_emission}).items():
            assert np.allclose(stats[name][0], value[:, 0].detach(), atol=1e-4), name
    assert (result.log_likelihood.log_weight == result.sample_stats.log_weight).all()
    columns = SimpleNamespace(title="T", version="1", columns=["a", "b", "c"], label_names=())
    started = Sequences([x for x, *_ in data], starts=[x[-1] for x, *_ in data])
    other = to_inference_data(net, started, num_draws=3, corpus=columns)
    assert other.observed_data.feature.values.tolist() == ["a", "b", "c"]
    reads_start = model in ("vrnn", "srnn", "zforcing")
    assert other.posterior.z.equals(result.posterior.z) != reads_start


def test_predictive_draws_follow_the_latents():
    """The x of a linear-Gaussian model is C z and noise."""
    net = LGSSM(3, 2)
    net.emission.log_scale.data.fill_(-8)
    result = to_inference_data(net, data_of("gaussian", [4, 2]), num_draws=50)
    for z, x in (("posterior", "posterior_predictive"), ("prior", "prior_predictive")):
        expected = result[z].z.values @ net.emission.weight.T.detach().numpy()
        assert np.allclose(result[x].x.values, expected, atol=5e-3, equal_nan=True)
    assert abs(result.prior.z.values[0, :, 0, 0].mean()) < 0.5
    assert not np.allclose(result.prior.z, result.posterior.z, equal_nan=True)


def test_file_holds_the_draws_of_memory(tmp_path, monkeypatch):
    """Case 18: also over a file that somebody has open; an error leaves it as it was."""
    monkeypatch.setattr(inference_data, "BLOCK", 100)  # a few sequences at once
    net, data, noise = make("srnn").train(), data_of("gaussian"), torch.get_rng_state()
    expected, file = to_inference_data(net, data, 4, num_predictive=3), tmp_path / "ä b.nc"
    to_inference_data(net, data, num_draws=1, file=file)
    with h5py.File(file, "r"):
        result = to_inference_data(net, data, num_draws=4, num_predictive=3, file=file)
    for group in expected.groups():
        xr.testing.assert_identical(result[group].load(), expected[group])
        result[group].close()
    assert net.training and torch.equal(noise, torch.get_rng_state())
    before = file.read_bytes()
    monkeypatch.setattr(inference_data, "append", None)  # fails at the second block
    with pytest.raises(TypeError):
        to_inference_data(net, data, num_draws=4, file=file)
    assert file.read_bytes() == before and [f.name for f in tmp_path.iterdir()] == ["ä b.nc"]
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*absent/a.nc'"):
        to_inference_data(net, data, num_draws=4, file=tmp_path / "absent/a.nc")


@pytest.mark.parametrize("spread", [1.0001, 1.15])  # at 1 there is no tail to fit
def test_loo_is_the_likelihood_at_an_exact_posterior_and_less_elsewhere(spread):
    """By log(1 + chi^2), which is known for scales s times too large. Case 18: without options."""
    net, data = LGSSM(3, 2, spread=spread), data_of("gaussian", [4] * 6)
    result = to_inference_data(net, data, num_draws=3_000, num_predictive=0)
    exact = net.log_likelihood(torch.stack([x for x, *_ in data]), torch.tensor([4] * 6))
    loo = az.loo(result, pointwise=True).loo_i.values
    # The integral of q^2 / p is 1 / (s sqrt(2 - s^2)) in each of 4 steps and 2 dims.
    less = -4 * 2 * np.log(spread * np.sqrt(2 - spread**2))
    assert loo == pytest.approx(exact.detach().numpy() - less, abs=1e-3 if spread < 1.1 else 0.3)
    assert less > 0.3 or spread < 1.1


def test_newer_arviz_takes_minus_the_weights_and_the_tree_itself(monkeypatch):
    """I1: arviz 1.x, emulated by its own conventions."""
    log_weight = -0.9 * torch.rand(4_000, 3).log()
    expected = pareto_k(log_weight)
    stats = SimpleNamespace(psislw=lambda ary: az.psislw(-ary))
    monkeypatch.setitem(sys.modules, "arviz_stats", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "arviz_stats.base", SimpleNamespace(array_stats=stats))
    newer = SimpleNamespace(__version__="1.3.0")
    monkeypatch.setattr(arviz_adapter, "imported_arviz", lambda: newer)
    assert torch.equal(pareto_k(log_weight), expected) and expected.min() > 0.7
    result = to_inference_data(make("dkf"), data_of("gaussian"), num_draws=2, num_predictive=0)
    groups = ("posterior", "log_likelihood", "sample_stats", "observed_data", "constant_data")
    assert isinstance(result, xr.DataTree) and set(result.children) == set(groups)


SCRIPT = r"""
import re, sys, torch
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli
from zforcing_pyro.models import ZForcing
from zforcing_pyro.analysis.posterior import to_inference_data

torch.set_num_threads(1)
net = ZForcing(Bernoulli, x_dim=8, z_dim=32, h_dim=32, hidden_dim=32, embed_dim=0)
data = Sequences([torch.ones(n, 8) for n in [64] * 150 + list(range(1, 51))])
to_inference_data(net, data, num_draws=100, file=sys.argv[1])
# ru_maxrss would begin with the peak of the process that this one was forked from.
print(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_two_hundred_sequences_are_written_with_under_a_gigabyte(tmp_path):
    file = tmp_path / "large.nc"
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 950 * 1024  # kilobytes, some 400 MB of them imports
    assert file.stat().st_size < 500e6  # z twice is 328 MB with its padding
    result = az.from_netcdf(str(file))
    assert list(result.posterior.sizes.values()) == [1, 100, 200, 64, 32]
    reach = result.posterior.z.isel(draw=7, latent=3).count("time")
    assert (reach == result.constant_data.lengths).all()
