"""The examples of docstrings run as written."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import zforcing_pyro
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.estimators import ESTIMATORS
from zforcing_pyro.models import MODELS

PUBLIC = [Sequences, *EMISSIONS.values(), *ESTIMATORS.values(), *MODELS.values()]
NAMES = {"torch": torch} | {thing.__name__: thing for thing in PUBLIC}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(zforcing_pyro.__path__, "zforcing_pyro.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    torch.set_default_dtype(torch.float32)
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs=NAMES, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    examples = [t for m in modules for t in finder.find(m) if t.examples]
    assert len(examples) >= 10
