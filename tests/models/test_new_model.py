"""The model of your own in the README runs as written, and is a model like the others."""

import re
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path
from types import ModuleType

import pytest
import torch
from family_cases import EMISSIONS, LENGTHS, batch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch.testing import assert_close

from zforcing_pyro.app.experiment import describe
from zforcing_pyro.estimators import TraceELBO, TraceIWAE
from zforcing_pyro.models import MODELS
from zforcing_pyro.models.steps import detached

PAGE = Path(__file__).parents[2] / "README.md"
kinds = pytest.mark.parametrize("kind", EMISSIONS)


def section() -> str:
    return PAGE.read_text().split("## A model of your own")[1].split("\n## ")[0]


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", section(), re.S | re.M)


def test_it_trains_from_the_command_line_as_the_page_says(tmp_path):
    package = tmp_path / "zforcing_pyro"
    shutil.copytree(PAGE.parent / "zforcing_pyro", package)
    file, line = blocks()
    (package / "models" / "local_level.py").write_text(file)
    registry = package / "models" / "__init__.py"
    text = registry.read_text().replace("MODELS = {", 'MODELS = {\n    "local_level": LocalLevel,')
    registry.write_text(line + text)
    command = [sys.executable, "-m", "zforcing_pyro", "train", "--model", "local_level"]
    options = ["--model.z_dim", "2", "--max_updates", "2", "--out", "run"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()


@pytest.fixture(autouse=True)
def the_page():
    """Runs the page's file and makes its entry, which is taken out again after a test."""
    module = ModuleType("zforcing_pyro.models.local_level")
    module.__package__ = "zforcing_pyro.models"
    sys.modules[module.__name__] = module
    exec(compile(blocks()[0], str(PAGE), "exec"), vars(module))
    MODELS["local_level"] = module.LocalLevel
    yield
    del MODELS["local_level"], sys.modules[module.__name__]


def make(kind="gaussian"):
    net = MODELS["local_level"](EMISSIONS[kind], 3, z_dim=2, hidden_dim=4)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


@kinds
def test_its_loss_is_that_of_pyro(kind):
    net, x = make(kind), batch(kind)
    for ours, pyros in (
        (TraceELBO(analytic_kl=False), Trace_ELBO(max_plate_nesting=1)),
        (TraceELBO(), TraceMeanField_ELBO(max_plate_nesting=1)),
    ):
        losses = []
        for estimator in (ours, pyros):
            torch.manual_seed(1)
            losses.append(estimator.loss(net.model, net.guide, x, LENGTHS))
        assert losses[0] == pytest.approx(losses[1], rel=1e-10)


@kinds
def test_padding_changes_nothing_and_chunks_are_the_whole(kind):
    net, x = make(kind), batch(kind)
    dirty = x.clone()
    dirty[torch.arange(5) >= LENGTHS[:, None]] = -3 if kind == "categorical" else torch.nan
    latents = torch.randn(2, 3, 5, 2)
    log_weight = net.terms(x, LENGTHS, latents=latents).log_weight
    assert_close(net.terms(dirty, LENGTHS, latents=latents).log_weight, log_weight)
    whole = net.terms(x, torch.full((3,), 5), latents=latents)
    first = net.terms(x[:, :3], torch.full((3,), 3), latents=latents[:, :, :3])
    state = detached(first.state)
    second = net.terms(x[:, 3:], torch.full((3,), 2), latents=latents[:, :, 3:], state=state)
    assert_close(first.log_weight + second.log_weight, whole.log_weight)


@kinds
def test_it_learns_and_generates(kind):
    net, x = make(kind), batch(kind, 16)[:, :1].expand(-1, 5, *[-1] * (kind != "categorical"))
    lengths = torch.full((16,), 5)
    optimizer, bounds = torch.optim.Adam(net.parameters(), lr=0.03), []
    for _ in range(60):
        objective = TraceIWAE(3).objective(net.given(x, lengths))
        bounds.append(objective.bound.mean().item())
        optimizer.zero_grad()
        (-objective.value.mean()).backward()
        optimizer.step()
    assert sum(bounds[-10:]) / 10 > sum(bounds[:10]) / 10 + 0.3
    drawn = net.generate(4, 6, x[:4, :2])
    assert drawn.shape == (4, 6, *x.shape[2:]) and (drawn[:, :2] == x[:4, :2]).all()


def test_the_command_line_has_its_options():
    experiment = describe(["--model", "local_level", "--model.z_dim", "8"])
    options = {"name": "local_level", "z_dim": 8, "hidden_dim": 64}
    assert experiment.model == options
    net = experiment.net(x_dim=1)
    assert net.state_dims == {"z": 8} and next(net.parameters()).dtype == torch.float64


def test_every_option_of_every_model_has_a_type_and_a_line_of_help():
    for name, model in MODELS.items():
        options = {k: v for k, v in signature(model).parameters.items() if k != "emission"}
        for option, parameter in options.items():
            assert parameter.annotation is not parameter.empty, (name, option)
            assert re.search(rf"^ +(\w+, )*{option}(, \w+)*: \S", model.__doc__, re.M), (
                name,
                option,
            )
