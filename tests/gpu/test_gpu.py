"""Every model, emission and bound on a GPU has the numbers of the CPU; on "meta" it runs.

Noise is drawn on the CPU and moved, so that both devices see the same one.
"""

import copy
from itertools import product

import pyro
import pytest
import torch
from family_cases import LENGTHS, batch, build, make, models
from program_cases import make_estimator
from pyro.infer import SVI
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.estimators import ESTIMATORS, TraceELBO
from zforcing_pyro.estimators.programs import ProgramPair
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.fit import fit

pytestmark = pytest.mark.gpu
KINDS = {"bernoulli": "bernoulli", "nade": "bernoulli", "categorical": "categorical"}
FILTERS = {"fivo", "twisted"}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


class NoiseOfTheCPU(TorchFunctionMode):
    """Draws what a device draws on the CPU, and moves it there."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if function in (torch.randn, torch.rand) and device is not None:
            return function(*args, **kwargs | {"device": "cpu"}).to(device)
        name = getattr(function, "__name__", "")
        if name in ("normal_", "uniform_", "exponential_") and args[0].device.type != "cpu":
            drawn = function(torch.empty_like(args[0], device="cpu"), *args[1:], **kwargs)
            return args[0].copy_(drawn)
        return function(*args, **kwargs)


def data(emission, kind):
    """Sequences that an emission takes."""
    if kind in ("poisson", "negative_binomial"):
        return torch.randint(5, (3, 5, 3)).to(torch.get_default_dtype())
    if kind == "logistics":
        return torch.randint(256, (3, 5, 3)).to(torch.get_default_dtype()) / 127.5 - 1
    return batch(KINDS.get(kind, "gaussian"))


def outcome(net, x, lengths, bound, by_programs=False):
    """Loss and gradients."""
    program = ProgramPair(net.model, net.guide, x, lengths)
    given = program if by_programs else net.given(x, lengths)
    estimator = make_estimator(bound, 3)
    with torch.random.fork_rng(devices=[]), NoiseOfTheCPU():
        torch.manual_seed(1)
        value = estimator.objective(given).value
        grads = torch.autograd.grad(value.sum(), net.parameters(), materialize_grads=True)
    return [value, *grads]


def compare(net, x, bound, device, tolerance, by_programs=False):
    """Asserts the CPU's loss and gradients on a device; on "meta" that all of it is there."""
    twin = copy.deepcopy(net).to(device)
    with pyro.validation_enabled(False):  # which reads values
        there = outcome(twin, x.to(device), LENGTHS.to(device), bound, by_programs)
    assert all(value.device.type == device.type for value in there)
    if device.type != "meta":
        here = outcome(net, x, LENGTHS, bound, by_programs)
        assert_close([v.cpu() for v in there], here, rtol=tolerance, atol=tolerance)


def cases():
    """Yields models, emissions, bounds and dtypes: all on a GPU, each once or more on "meta"."""
    for case in product(models(), EMISSIONS, ESTIMATORS, TOLERANCE):
        model, emission, bound, dtype = case
        # Resampling asks for values, and shapes are those of any dtype.
        shaped = bound not in FILTERS and dtype == torch.float64
        few = emission == "gaussian" or (model, bound) == ("vrnn", "elbo")
        few = few and emission != "nade"  # which asks autocast, which knows no "meta"
        if torch.cuda.is_available() or (shaped and few):
            yield pytest.param(*case, id="-".join(map(str, case)))


@pytest.mark.parametrize(("model", "emission", "bound", "dtype"), cases())
def test_losses_and_gradients_are_those_of_the_cpu(model, emission, bound, dtype, device):
    torch.set_default_dtype(dtype)
    kind = "categorical" if emission == "categorical" else "gaussian"
    net = build(model, kind if emission in ("gaussian", "categorical") else EMISSIONS[emission])
    compare(net, data(net.emission, emission), bound, device, TOLERANCE[dtype])


@pytest.mark.parametrize("model", models())
def test_programs_have_the_numbers_of_the_cpu(model, device):
    compare(build(model), batch(), "iwae", device, 1e-9, by_programs=True)


@pytest.mark.parametrize("bound", sorted(ESTIMATORS.keys() - FILTERS))
def test_training_step_waits_for_no_value(bound, gpu):
    """But for a filter, which must know which sequences resample."""
    net = make("zforcing").to(gpu)
    args = batch().to(gpu), LENGTHS.to(gpu)
    with pyro.validation_enabled(False):
        estimator = make_estimator(bound, 3)
        estimator.objective(net.given(*args)).value.sum().backward()
        torch.cuda.set_sync_debug_mode("error")
        try:
            estimator.objective(net.given(*args)).value.sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("case", ["zforcing", "vrnn", "srnn", "dkf", "storn"])
def test_bfloat16_is_near_float32(case, device):
    torch.set_default_dtype(torch.float32)
    net = make(case).to(device)
    args = batch().to(device), LENGTHS.to(device)
    with pyro.validation_enabled(False):  # which reads values
        exact = net.terms(*args)
        with torch.autocast(device.type if device.type == "cuda" else "cpu", torch.bfloat16):
            terms = net.terms(*args, latents=exact.latents.detach())
    assert terms.log_weight.dtype == torch.float32
    if device.type == "cuda":
        assert_close(terms.log_weight, exact.log_weight, rtol=0.05, atol=0.5)


def test_svi_has_the_losses_of_the_cpu(gpu):
    losses = []
    for device in ("cpu", gpu):
        pyro.clear_param_store()
        torch.manual_seed(0)
        net = make("zforcing").to(device)
        svi = SVI(net.model, net.guide, pyro.optim.Adam({"lr": 0.01}), loss=TraceELBO(2))
        torch.manual_seed(1)
        with NoiseOfTheCPU():
            x = batch().to(device)
            losses.append([svi.step(x, LENGTHS.to(device)) for _ in range(5)])
    assert_close(*map(torch.tensor, losses), rtol=1e-8, atol=1e-8)


def test_two_devices_train(gpus, tmp_path):
    sequences = Sequences([torch.randn(5, 3, dtype=torch.float32) for _ in range(16)])
    torch.set_default_dtype(torch.float32)
    net = make("vrnn")
    options = TrainingOptions(batch_size=8, accelerator="gpu", devices=2)
    fitted = fit(net, sequences, sequences, folder=tmp_path, options=options, max_updates=4)
    assert fitted.bound == fitted.bound


def test_nets_of_two_devices_do_not_mix(gpus):
    nets = [make("vrnn").to(device) for device in gpus[:2]]
    for net, device in zip(nets, gpus):
        loss = TraceELBO().loss_and_grads(net.model, net.guide, batch().to(device))
        assert loss == loss
        assert all(p.grad.device == torch.device(device) for p in net.parameters())
