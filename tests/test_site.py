"""The site: its pages name what exists, its start page runs, and every public name is in it."""

import ast
import os
import re
import shlex
import subprocess
import sys
import warnings
import zlib
from importlib import import_module
from pathlib import Path
from runpy import run_path

import matplotlib
import pytest
import torch
import yaml

import zforcing_pyro as zf
from zforcing_pyro.app.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HOOKS = run_path(str(DOCS / "hooks.py"))
START = (DOCS / "index.md").read_text(encoding="utf-8")
CLUSTERS = (DOCS / "clusters.md").read_text(encoding="utf-8")
MODULES = ["zforcing_pyro", *(f"zforcing_pyro.{module}" for module in HOOKS["ROOMS"].values())]


def navigation():
    """The places of all pages in the navigation."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def places(item):
        if isinstance(item, str):
            return [item]
        return [p for i in (item if isinstance(item, list) else item.values()) for p in places(i)]

    return places(nav)


@pytest.mark.slow
def test_start_page_runs_line_by_line(tmp_path, monkeypatch):
    """What is pasted from the page works in an empty folder."""
    matplotlib.use("Agg")
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    names, ran = {}, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for code in re.findall(r"^```python\n(.*?)^```", START, re.S | re.M):
            exec(code, names)
        _, *commands = re.findall(r"^```bash\n(.*?)^```", START, re.S | re.M)
        for line in "".join(commands).replace("\\\n", "").splitlines():
            program, *words = shlex.split(line)
            assert program == "zforcing" and main(words) == 0, line
            ran.append(words[0])
    assert ran == ["train", "evaluate", "sample", "report", "sample"]
    assert names["future"].shape == (8, 24, 2) and names["result"].nats_per_sequence > -50
    assert (tmp_path / "runs" / "first" / "report.html").is_file()


@pytest.mark.nightly
def test_start_page_runs_in_a_fresh_environment(tmp_path):
    """The page's lines, by a wheel and what it needs, in a folder that is not the repository's."""
    bin = tmp_path / "venv" / "bin"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"PATH": f"{bin}:{os.environ['PATH']}", "MPLBACKEND": "Agg"}

    def run(*command, cwd=tmp_path):
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    run("git", "clone", "--quiet", str(ROOT), "source")
    run(sys.executable, "-m", "venv", "venv")
    pip = [str(bin / "pip"), "install", "--quiet", "-c", "source/constraints.txt"]
    run(str(bin / "pip"), "wheel", "--quiet", "--no-deps", "-w", "dist", "./source")
    run(*pip, *map(str, (tmp_path / "dist").glob("*.whl")))
    pins, installed = (
        dict(line.split("==") for line in text.split() if "==" in line)
        for text in (
            (ROOT / "constraints.txt").read_text(),
            run(str(bin / "pip"), "list", "--format", "freeze").replace("+cpu", ""),
        )
    )
    common = pins.keys() & installed.keys()
    assert "torch" in common and {k: installed[k] for k in common} == {k: pins[k] for k in common}
    (tmp_path / "empty").mkdir()
    code, (_, *lines) = (
        re.findall(rf"^```{kind}\n(.*?)^```", START, re.S | re.M) for kind in ("python", "bash")
    )
    run("python", "-c", "\n".join(code), cwd=tmp_path / "empty")
    run("bash", "-euc", "".join(lines), cwd=tmp_path / "empty")
    assert (tmp_path / "empty" / "runs" / "first" / "report.html").is_file()


@pytest.mark.parametrize(("status", "queued"), [(0, []), (138, ["requeue", "7"]), (2, [])])
def test_slurm_scripts_requeue_what_was_preempted(tmp_path, status, queued):
    """By programs of Slurm's names that write down how they are called; torchrun's are elastic."""
    scripts = re.findall(r"^```bash\n(#!/bin/bash.*?)^```", CLUSTERS, re.S | re.M)
    scripts = [script for script in scripts if "torchrun" not in script]
    for name, result in {"srun": status, "scontrol": 0, "zforcing": 0}.items():
        file = tmp_path / name
        file.write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/{name}.txt\nexit {result}\n')
        file.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    environment |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    codes = [subprocess.run(["bash", "-c", s], env=environment).returncode for s in scripts]
    assert codes == [status, status, 0]
    calls = (tmp_path / "srun.txt").read_text().splitlines()
    assert calls[0] == "zforcing train --config jsb.yaml --seed 3 --out runs/jsb-3 --resume"
    requeued = tmp_path / "scontrol.txt"
    lines = requeued.read_text().splitlines() if requeued.exists() else []
    assert lines == ([" ".join(queued) + "_3", " ".join(queued)] if queued else [])


@pytest.mark.parametrize("module", MODULES)
def test_reference_has_every_public_name(module):
    text = "\n".join(HOOKS["reference"]().values())
    names = import_module(module).__all__
    assert sorted(names) == sorted(HOOKS["exported"](module))
    absent = []
    for name in names:
        home = f"zforcing_pyro.models.{name}"
        shown = f"::: {module}.{name}\n" in text
        linked = module == "zforcing_pyro" and (f"][{home}]" in text or f"({name}.md)" in text)
        absent += [] if shown or linked else [name]
    assert absent == []


@pytest.mark.slow
def test_site_is_built_with_every_public_name_and_asks_for_no_other_site(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    inventory = (tmp_path / "objects.inv").read_bytes().split(b"zlib.\n")[1]
    names = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    public = {f"{m}.{name}" for m in MODULES[1:] for name in import_module(m).__all__}
    assert len(public) > 100 and public - names == set()
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|img|link)[^>]* (?:src|href)="?https?:', text), page.name
        assert not re.search(r'<p>(?:include|pictures): |class="arithmatex"', text), page.name


def test_navigation_and_pages_agree():
    """Pages that are not listed are added by ``on_config``."""
    places = navigation()
    generated = set(HOOKS["reference"]())
    for place in places:
        assert place in generated or (ROOT / HOOKS["origin"](place)).is_file(), place
    assert generated <= set(places) and len(places) == len(set(places))


def test_links_lead_somewhere_and_sections_exist():
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for _, _, target, _ in HOOKS["LINK"].findall(HOOKS["CODE"].sub("", text)):
            exists = (DOCS / target).exists() or f"reference/{Path(target).name}" == target
            assert exists, f"{page.name} names {target}"
        for file, anchor in HOOKS["INCLUDE"].findall(text):
            assert len(HOOKS["section"](file.removeprefix("../"), anchor)) > 200


def test_a_missing_section_is_named():
    with pytest.raises(ValueError, match="'include' must name a section of README"):
        HOOKS["section"]("README.md", "no")


def test_links_lead_from_page_to_page():
    """Links in code stay, and those to files that are not in the site become text."""
    text = "    code\n\n[a](../experiments/README.md#x) ![b](b.png) [`c`](../setup.cfg) `[d](e)`"
    linked = HOOKS["linked"](text, "docs/p.md", "p.md", {"experiments/README.md", "b.png"})
    assert linked == "    code\n\n[a](experiments/README.md#x) ![b](b.png) `c` `[d](e)`"


def test_theory_names_code_that_exists():
    text = (DOCS / "theory.md").read_text(encoding="utf-8")
    places = re.findall(r"`(\w+/\w+\.py)`\s\(([^)]*)\)", text)
    assert len(places) > 40
    for file, names in places:
        module = import_module(f"zforcing_pyro.{file.removesuffix('.py').replace('/', '.')}")
        for name in re.findall(r"`([\w.]+)`", names):
            thing = module
            for part in name.split("."):
                thing = getattr(thing, part)
            assert thing.__module__ == module.__name__ if hasattr(thing, "__module__") else thing


def test_theory_has_every_model_emission_and_bound():
    text = (DOCS / "theory.md").read_text(encoding="utf-8")
    classes = [*zf.models.MODELS.values(), *zf.emissions.EMISSIONS.values()]
    names = {cls.__name__ for cls in [*classes, *zf.estimators.ESTIMATORS.values()]}
    assert {name for name in names if f"`{name}" not in text} == set()


def test_every_picture_of_the_gallery_has_code():
    for file in re.findall(HOOKS["DRAWN"], (DOCS / "gallery.md").read_text(encoding="utf-8")):
        pictures = list(HOOKS["drawn"](file.removeprefix("../")))
        assert len(pictures) >= 2
        for place, picture, code in pictures:
            assert place.endswith(".png") and picture.startswith(b"\x89PNG") and ast.parse(code)


def test_docstrings_become_markdown():
    """Roles link to public names, and rows of formulas are aligned."""
    pytest.importorskip("griffe", reason="needs the extra docs")
    markdown = run_path(str(DOCS / "roles.py"))["markdown"]
    assert markdown("See :class:`.VRNN`, :func:`.roll_out`.") == (
        "See [`VRNN`][zforcing_pyro.models.VRNN], `roll_out()`."
    )
    formula = "Two.\n\n.. math::\n    a &= b\n\n    c &= d\n\nText."
    rows = r"\begin{aligned} a &= b \\ c &= d \end{aligned}"
    assert markdown(formula) == f"Two.\n\n$$\n{rows}\n$$\n\nText."


def test_formulas_become_mathml():
    pytest.importorskip("latex2mathml", reason="needs the extra docs")
    page = r'<span class="arithmatex">\(\log w_{t-1}\)</span>'
    drawn = HOOKS["FORMULA"].sub(HOOKS["mathml"], page)
    assert drawn.startswith("<math") and "\\" not in drawn and 'lspace="0"' in drawn
