"""The models with their options at small sizes, and data for them."""

import re
import sys
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args, get_origin

import torch
from jsonargparse import ArgumentParser

from zforcing_pyro.emissions import Bernoulli, Categorical, DiagNormal
from zforcing_pyro.models import MODELS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SIZES = {"z_dim": 2, "h_dim": 4, "hidden_dim": 3, "embed_dim": 3}
NETWORKS = {"aux_network": True, "reverse_network": True}
COSTS = {"aux_weight": 0.7, "reverse_weight": 0.4, **NETWORKS}
LENGTHS = torch.tensor([5, 1, 4])
CASES = {
    "rnn": {},
    "storn": {},
    "vrnn": {},
    "vrnn-i": {"prior": "standard"},
    "srnn": {},
    "srnn without resq": {"resq": False},
    "srnn filtering": {"posterior": "filtering"},
    "srnn filtering without resq": {"posterior": "filtering", "resq": False},
    "srnn with costs": COSTS,
    "srnn with l2 cost": COSTS | {"aux_kind": "l2"},
    "dkf": {},
    "dkf left": {"inference": "left"},
    "dkf both": {"inference": "both"},
    "dkf with costs": COSTS,
    "dkf both with costs": COSTS | {"inference": "both"},
    "dkf without clamp": {"clamp": 0.0},
    "zforcing": {},
    "zforcing layer norm": COSTS | {"injection": "layer_norm", "aux_input": "h_z"},
}
"""Variants by name, for tests of one of them."""
EMISSIONS = {
    "gaussian": partial(DiagNormal, hidden_dims=[3]),
    "bernoulli": Bernoulli,
    "categorical": Categorical,
}


def blocks(title: str) -> list[str]:
    """The Python blocks of a section of the README."""
    section = README.split(f"## {title}")[1].split("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```", section, re.S | re.M)


@cache
def models() -> dict[str, type]:
    """The registry's models of sequences, and the README's model, which has programs only."""
    module = ModuleType("zforcing_pyro.models.local_level")
    module.__package__ = "zforcing_pyro.models"
    sys.modules[module.__name__] = module  # its annotations are looked up there
    exec(compile(blocks("A model of your own")[0], "README.md", "exec"), vars(module))
    sequential = {name: model for name, model in MODELS.items() if not model.of_vectors}
    return {**sequential, "local_level": module.LocalLevel}


def options_of(model: type) -> dict:
    """The options of a model by name, with those that it hands on, as the command line has them."""
    parser = ArgumentParser()
    parser.add_class_arguments(model, as_group=False, skip={"emission"})
    return {action.dest: action for action in parser._actions if action.dest != "help"}


def variants(model: type) -> list[dict]:
    """The defaults of a model, and each other choice that its options have, one at a time."""
    options = [{}]
    for name, option in options_of(model).items():
        if name in NETWORKS:
            continue
        hint = option._typehint
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        choices = (True, False) if hint is bool else choices
        options += [{name: choice} for choice in choices if choice != option.default]
    return [option for option in options if option.get("backend") != "fused"]


def contract_cases() -> list[tuple[str, str, dict]]:
    """All models with all kinds of data, and their variants with one."""
    names = models()
    every = [(name, kind, {}) for name in names for kind in EMISSIONS]
    return every + [(name, "gaussian", v) for name in names for v in variants(names[name])[1:]]


def vector_cases() -> list[tuple[str, str, dict]]:
    """All models of vectors among reals and bits, and their variants among reals."""
    names = {name: model for name, model in MODELS.items() if model.of_vectors}
    every = [(name, kind, {}) for name in names for kind in ("gaussian", "bernoulli")]
    return every + [(name, "gaussian", v) for name in names for v in variants(names[name])[1:]]


def case_name(case) -> str:
    name, kind, options = case
    return "-".join([name, kind, *(f"{k}={v}" for k, v in options.items())])


def build(name: str, kind: str = "gaussian", options=(), costs: bool = True):
    """A net whose parameters are all of a size to matter, with costs where it can have them."""
    model = (MODELS | models())[name]
    known = options_of(model)
    sizes = {size: value for size, value in SIZES.items() if size in known} | dict(options)
    emission = EMISSIONS.get(kind, kind)
    try:
        net = model(emission, 3, **sizes, **{k: v for k, v in NETWORKS.items() if k in known})
    except ValueError:  # without a backward state
        net = model(emission, 3, **sizes)
    if costs and net.costs is not None and net.costs.auxiliary is not None:
        net.weights.aux, net.weights.reverse = 0.5, 0.3
    return perturbed(net).eval()  # running moments stand still


def perturbed(net):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def make(case: str, kind: str = "gaussian", **options):
    """A net of a named variant whose parameters are all of a size to matter."""
    model = MODELS[case.partition(" ")[0].partition("-")[0]]
    sizes = {k: v for k, v in SIZES.items() if k in options_of(model)}
    return perturbed(model(EMISSIONS.get(kind, kind), 3, **sizes | CASES[case] | options))


def batch(kind: str = "gaussian", num_sequences: int = 3, num_steps: int = 5):
    shape = num_sequences, num_steps
    if kind == "categorical":
        return torch.randint(3, shape)
    if kind == "bernoulli":
        return torch.randint(2, (*shape, 3)).double()
    return torch.randn(*shape, 3)


def latents_of(net, num_particles: int = 1, num_sequences: int = 3, num_steps: int = 5):
    """Latents to score."""
    x = net.emission.template(num_sequences, 1, next(net.parameters()))
    z_dim = net.terms(x).latents.shape[-1]
    return torch.randn(num_particles, num_sequences, num_steps, z_dim)
