"""Docstrings: their examples run as written, and their first sentences name their subject."""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import zforcing_pyro
from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.estimators import ESTIMATORS
from zforcing_pyro.models import MODELS

PUBLIC = [Sequences, *EMISSIONS.values(), *ESTIMATORS.values(), *MODELS.values()]
NAMES = {"torch": torch} | {thing.__name__: thing for thing in PUBLIC}
ROOT = Path(zforcing_pyro.__file__).parent
ROOMS = sorted(f.name for f in ROOT.iterdir() if f.is_dir() and f.name != "__pycache__")
SHY = re.compile(r"(Of|What|That|Whether|Where|How|Which|Beside|As|Also)\b")
VAGUE = {"found", "known", "said", "them"}


def modules(room):
    package = importlib.import_module(f"zforcing_pyro.{room}")
    walk = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [package, *(importlib.import_module(module.name) for module in walk)]


@pytest.mark.parametrize("room", ROOMS)
def test_examples_run(room):
    torch.set_default_dtype(torch.float32)
    flags = {"extraglobs": NAMES, "optionflags": doctest.NORMALIZE_WHITESPACE}
    results = {m.__name__: doctest.testmod(m, **flags) for m in modules(room)}
    assert {name: r for name, r in results.items() if r.failed} == {}


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [t for room in ROOMS for m in modules(room) for t in finder.find(m)]
    assert len([t for t in tests if t.examples]) >= 10


def nodes(kinds):
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, kinds):
                yield f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", node


def test_first_sentences_name_their_subject():
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef
    docs = ((place, ast.get_docstring(node)) for place, node in nodes(kinds))
    assert [(place, doc[:60]) for place, doc in docs if doc and SHY.match(doc)] == []


def test_public_functions_and_classes_have_docstrings():
    missing = [
        f"{place} {child.name}"
        for place, node in nodes((ast.Module,))
        for child in node.body
        if isinstance(child, ast.FunctionDef | ast.ClassDef)
        and not child.name.startswith("_")
        and not ast.get_docstring(child)
    ]
    assert missing == []


def test_local_names_say_what_is_in_them():
    names = (
        (place, node.id) for place, node in nodes((ast.Name,)) if isinstance(node.ctx, ast.Store)
    )
    assert [(place, name) for place, name in names if name in VAGUE] == []
