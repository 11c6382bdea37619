"""The eight rooms: imports point down, form no circle, and use no private API of other packages."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import zforcing_pyro

ROOMS = ["data", "layers", "emissions", "estimators", "models", "analysis", "training", "app"]
TOP = {"__init__", "__main__", "_version"}
RANK = {room: rank for rank, room in enumerate(ROOMS)} | {"_version": -1}
RANK |= {"__init__": len(ROOMS), "__main__": len(ROOMS)}


def imported(file: Path, root: Path) -> Iterator[str]:
    """Yields the dotted modules of the package ``root`` that a file imports, anywhere in it."""
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
                while len(path) > 1 and not is_module(root.parent.joinpath(*path)):
                    path = path[:-1]
                package = root.parent.joinpath(*path).is_dir()
                yield ".".join([*path[1:], "__init__"] if package else path[1:])


def is_module(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").exists()


def graph(root: Path) -> dict[str, set[str]]:
    """Returns the modules that each module of a package imports."""
    return {
        ".".join(file.relative_to(root).with_suffix("").parts): set(imported(file, root))
        for file in sorted(root.rglob("*.py"))
    }


def violations(root: Path) -> list[str]:
    """Returns a sentence for each module without a room and for each upward import."""
    sentences = []
    for module, others in graph(root).items():
        room = module.split(".")[0]
        if room not in RANK:
            sentences.append(f"{module} has no room")
            continue
        for other in sorted(others):
            if RANK.get(other.split(".")[0], -1) > RANK[room]:
                sentences.append(f"{module} imports {other}")
    return sentences


def circle(modules: dict[str, set[str]]) -> list[str]:
    """Returns the modules of one import circle, or none."""
    try:
        TopologicalSorter({m: others - {m} for m, others in modules.items()}).prepare()
    except CycleError as error:
        return error.args[1]
    return []


ROOT = Path(zforcing_pyro.__file__).parent


def test_imports_point_down():
    assert violations(ROOT) == []


def test_imports_form_no_circle():
    assert circle(graph(ROOT)) == []


def test_the_top_holds_the_rooms_and_little_else():
    assert {f.name for f in ROOT.iterdir() if f.is_dir() and f.name != "__pycache__"} == set(ROOMS)
    assert {f.stem for f in ROOT.glob("*.py")} <= TOP


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("layers/lstm.py", "from ..emissions import base", ["layers.lstm imports emissions.base"]),
        ("layers/lstm.py", "def f():\n    from ..app import cli", ["layers.lstm imports app.cli"]),
        ("estimators/terms.py", "import zforcing_pyro", ["estimators.terms imports __init__"]),
        ("app/cli.py", "from ..layers.lstm import MLP", []),
        ("utils/time.py", "", ["utils.time has no room"]),
    ],
)
def test_upward_imports_are_reported(tmp_path, file, source, expected):
    root = tmp_path / "zforcing_pyro"
    for name in ("layers/lstm.py", "emissions/base.py", "estimators/terms.py", "app/cli.py",
                 "data/terms.py", "models/base.py", file):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / file).write_text(source)
    assert violations(root) == expected


def test_circles_are_reported():
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    "name", ["epoch_loop", "fit_loop", "trainer.validating", "torch._C", "_functorch"]
)
def test_no_private_api_is_used(name):
    assert [f.name for f in ROOT.rglob("*.py") if name in f.read_text()] == []


def test_onednn_is_called_in_one_file():
    files = [f.name for f in ROOT.rglob("*.py") if "torch.ops.mkldnn" in f.read_text()]
    assert files == ["products.py"]


def test_files_are_short():
    lengths = {f.name: len(f.read_text().splitlines()) for f in ROOT.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 300} == {}
