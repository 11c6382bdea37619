"""Imports point down. The order of this list is the architecture."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import zforcing_pyro

LAYERS = [
    {"products", "nn", "lstm", "data"},
    {"emissions", "sites", "programs", "terms"},
    {"models"},
    {"estimators", "smc"},
    {"training", "evaluation", "pareto", "posterior"},
    {
        "arguments",
        "environment",
        "experiment",
        "plots",
        "report",
        "sweep",
        "commands",
        "cli",
        "__main__",
        "__init__",
    },
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}


def imported(file: Path, root: Path) -> Iterator[str]:
    """The modules of the package ``root`` that a file imports, anywhere in it."""
    folder = [root.name, *file.relative_to(root).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            paths = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            paths = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for path in paths:
            if path[0] == root.name:
                name = path[1] if len(path) > 1 else "__init__"
                is_module = (root / name).is_dir() or (root / f"{name}.py").exists()
                yield name if is_module else "__init__"


def violations(root: Path) -> list[str]:
    found = []
    for file in sorted(root.rglob("*.py")):
        module = file.relative_to(root).parts[0].removesuffix(".py")
        if module not in RANK:
            found.append(f"{module} has no layer")
            continue
        for other in imported(file, root):
            if RANK.get(other, -1) > RANK[module]:
                found.append(f"{file.relative_to(root)} imports {other}")
    return found


def test_imports_point_down():
    assert violations(Path(zforcing_pyro.__file__).parent) == []


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("nn.py", "from .emissions import Bernoulli", ["nn.py imports emissions"]),
        ("nn.py", "from . import data, models", ["nn.py imports models"]),
        ("nn.py", "def f():\n    from . import cli", ["nn.py imports cli"]),
        ("data/digits.py", "from ..terms import Terms", ["data/digits.py imports terms"]),
        ("data/digits.py", "from .. import terms", ["data/digits.py imports terms"]),
        ("data/digits.py", "from .terms import Terms", []),
        ("data/__init__.py", "from ..cli import main", ["data/__init__.py imports cli"]),
        ("terms.py", "import zforcing_pyro.models.base as b", ["terms.py imports models"]),
        ("terms.py", "from zforcing_pyro import models", ["terms.py imports models"]),
        ("terms.py", "from zforcing_pyro import ZForcing", ["terms.py imports __init__"]),
        ("terms.py", "import zforcing_pyro", ["terms.py imports __init__"]),
        ("terms.py", "import zforcing_pyrotechnics.cli, torch\nfrom . import nn", []),
        ("cli.py", "from .nn import MLP\nfrom .cli import main\nfrom .models import MODELS", []),
        ("utils.py", "", ["utils has no layer"]),
        ("utils/time.py", "", ["utils has no layer"]),
    ],
)
def test_imports_that_point_up_are_found(tmp_path, file, source, found):
    root = tmp_path / "zforcing_pyro"
    for name in (
        "nn.py",
        "terms.py",
        "emissions.py",
        "cli.py",
        "data/x.py",
        "models/base.py",
        file,
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / file).write_text(source)
    assert violations(root) == found
