"""The table of ``docs/pyro.md``: each of its cells is run, and compared with exact numbers.

``REWRITE=1 python -m pytest tests/estimators/test_pyro_table.py`` writes the table anew.
"""

import contextlib
import os
import re
import warnings
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceMeanField_ELBO
from pyro.nn import PyroModule
from pyro_exact import ELBO, START
from pyro_rows import ROWS

from zforcing_pyro.estimators import ESTIMATORS, TraceRenyi

FILE = Path(__file__).parents[2] / "docs" / "pyro.md"
REWRITE = bool(os.environ.get("REWRITE"))
OURS = {"elbo": "analytic", "stl": "elbo", "iwae": "iwae", "dreg": "iwae", "renyi": "renyi"}
OURS = {ESTIMATORS[name]: bound for name, bound in (OURS | {"rws": "rws", "fivo": "iwae"}).items()}
PYROS = {Trace_ELBO: "elbo", TraceMeanField_ELBO: "analytic", RenyiELBO: "renyi",
         ReweightedWakeSleep: "rws"}  # fmt: skip
COPIES, CALLS, ERRORS = 100, 30, 6.0


def build(title, copies):
    """Returns a row with new parameters."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    made = ROWS[title](copies)
    with contextlib.suppress(Exception):
        made.exact("elbo", 1)  # enters the parameters into Pyro's store
    return made


def make(kind, row):
    options = {"num_particles": 2, "vectorize_particles": True} | row.options
    if kind in PYROS and "max_plate_nesting" not in options:
        options["max_plate_nesting"] = 1
    alpha = {"alpha": 0.5} if kind in (RenyiELBO, TraceRenyi) else {}
    return kind(**alpha, **options), options["num_particles"]


def measured(estimator, row, calls):
    """Returns losses and gradients of some calls, and the parameters."""
    store = pyro.get_param_store()
    parameters = {id(p): p for p in store._params.values()}
    if isinstance(row.guide, torch.nn.Module):
        parameters |= {id(p): p for p in row.guide.parameters()}
    results = []
    for _ in range(calls):
        for p in parameters.values():
            p.grad = None
        with row.around() if row.around else contextlib.nullcontext():
            loss = estimator.loss_and_grads(row.model, row.guide, *row.args)
        loss = loss[0] if isinstance(loss, tuple) else loss
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters.values()]
        results.append(torch.cat([torch.tensor([loss]), *(g.flatten() for g in grads)]))
    return torch.stack(results), list(parameters.values())


def differences(results, row, kind, num_particles, parameters):
    """Returns whether the mean loss is exact, and the mean gradient."""
    exact = row.exact(kind, num_particles)
    if exact is None:
        return False, False
    value, surrogate = exact
    mean, error = results.mean(0), results.std(0) / len(results) ** 0.5
    right = (mean[0] + value).abs() < ERRORS * error[0] + 1e-4 * (1 + value.abs())
    if surrogate is None:
        return bool(right), True
    grads = torch.autograd.grad(surrogate, parameters, materialize_grads=True, allow_unused=True)
    grads = torch.cat([g.flatten() for g in grads])
    limit = ERRORS * error[1:] + 1e-4 * (1 + grads.abs())
    return bool(right), bool(((mean[1:] + grads).abs() < limit).all())


def verdict(title, kind):
    """Returns the cell of a row and an estimator, and the message of a refusal."""
    bound = (OURS | PYROS)[kind]
    row = build(title, COPIES)
    try:
        estimator, num_particles = make(kind, row)
        results, parameters = measured(estimator, row, CALLS)
    except Exception as error:
        line = re.split(r"\n| Trace Shapes", str(error))[0]
        return "refuses", f"{type(error).__name__}: {line}" if line else type(error).__name__
    value, gradient = differences(results, row, bound, num_particles, parameters)
    multi_sample = bound not in ELBO
    if value and gradient:
        return ("joint" if row.joint and multi_sample else "works"), None
    error = results[:, 0].std() / len(results) ** 0.5
    if row.evidence and multi_sample and -results[:, 0].mean() > row.evidence() + ERRORS * error:
        return "**wrong**: above log p(x)", None
    if multi_sample:
        single = build(title, 0)
        results, parameters = measured(make(kind, single)[0], single, single.calls * CALLS)
        if all(differences(results, single, bound, num_particles, parameters)):
            return "joint", None
    return "**wrong gradient**" if value else "**wrong**", None


# Habits: what a user does with an estimator


def stored(estimator, row, folder):
    """Saves store and optimiser, and goes on from what was loaded."""

    def trainer():
        return SVI(row.model, row.guide, pyro.optim.Adam({"lr": 0.05}), loss=estimator)

    def steps(svi):
        torch.manual_seed(7)
        return [svi.step(*row.args) for _ in range(3)]

    svi, store = trainer(), pyro.get_param_store()
    steps(svi)
    store.save(folder / "store"), svi.optim.save(folder / "optim")
    losses = steps(svi)
    pyro.clear_param_store()
    store.load(folder / "store")
    again = trainer()
    again.optim.load(folder / "optim")
    return steps(again) == losses


def by_name(estimator, row, folder):
    """Trains with a rate that depends on a parameter's name."""
    optimizer = pyro.optim.Adam(lambda name: {"lr": 0.0 if name == "loc" else 0.05})
    before = {name: p.item() for name, p in pyro.get_param_store().items()}
    SVI(row.model, row.guide, optimizer, loss=estimator).step(*row.args)
    changed = {name for name, p in pyro.get_param_store().items() if p.item() != before[name]}
    return changed == {"slope", "log_scale"}


def as_module(estimator, row, folder):
    """Trains by a torch optimiser as ``estimator(model, guide)`` of two modules."""

    class Program(PyroModule):
        def __init__(self, program, *names):
            super().__init__()
            self.program = program
            for name in names:
                setattr(self, name, torch.nn.Parameter(torch.tensor(START[name])))

        def forward(self, x):
            with pyro.plate("sequences", len(x), dim=-1):
                return self.program(self, x)

    def of_model(self, x):
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(self.loc, 1.0)), 1.0), obs=x)

    def of_guide(self, x):
        pyro.sample("z", dist.Normal(self.slope * x, self.log_scale.exp()))

    module = estimator(Program(of_model, "loc"), Program(of_guide, "slope", "log_scale"))
    torch.manual_seed(7)
    loss = module(*row.args)
    loss.backward()
    torch.manual_seed(7)
    same = torch.isclose(loss, torch.tensor(estimator.loss(row.model, row.guide, *row.args)))
    grads = [p.grad for p in module.parameters()]
    return bool(same) and len(grads) == 3 and all(g is not None and g != 0 for g in grads)


def jit(estimator, row, folder):
    """Compiles the loss, with the exact mean."""
    name = f"Jit{type(estimator).__name__}"
    if not hasattr(pyro.infer, name):
        raise NotImplementedError("there is no JIT form; SVI takes a net's fast path instead")
    options = {"max_plate_nesting": 1, "vectorize_particles": True, "ignore_jit_warnings": True}
    compiled = getattr(pyro.infer, name)(num_particles=2, **options)
    results, parameters = measured(compiled, row, CALLS)
    return all(differences(results, row, PYROS[type(estimator)], 2, parameters))


HABITS = {
    "`SVI`: store and optimiser saved and loaded": stored,
    "`pyro.optim.Adam(lambda name: ...)`": by_name,
    "`estimator(model, guide)`, an `ELBOModule`": as_module,
    "`JitTrace_ELBO` and the like": jit,
}


def habit(title, kind, folder):
    """Returns the cell of a habit and an estimator, and the message of a refusal."""
    row = build("a reparameterised latent a sequence", 1)
    try:
        works = HABITS[title](make(kind, row)[0], row, folder)
    except Exception as error:
        return "refuses", f"{type(error).__name__}: {str(error).split(chr(10))[0]}"
    return "works" if works else "**wrong**", None


def lines(title, folder):
    """Returns the row of the table, and a line for each of its refusals."""
    cells, refusals = [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in OURS | PYROS:
            cell, message = verdict(title, kind) if title in ROWS else habit(title, kind, folder)
            cells.append(cell)
            if message:
                refusals.setdefault(message, []).append(kind.__name__)
    row = f"| {title} | {' | '.join(cells)} |"
    return row, [f"- {title}: {', '.join(names)}: `{m}`" for m, names in refusals.items()]


@pytest.fixture(scope="module")
def written():
    rows = {}
    yield rows
    if REWRITE:  # rows that were not run stay as they are
        text = FILE.read_text(encoding="utf-8")
        old = text.splitlines()
        for title in [*ROWS, *HABITS]:
            before = [line for line in old if line.startswith(f"| {title} |")]
            refusals = [line for line in old if line.startswith(f"- {title}: ")]
            rows.setdefault(title, ("".join(before), refusals))
        names = [kind.__name__ for kind in OURS | PYROS]
        head = [f"| | {' | '.join(names)} |", f"| --- {'| --- ' * len(names)}|"]
        table = [*head, *(rows[title][0] for title in [*ROWS, *HABITS])]
        refusals = [line for title in [*ROWS, *HABITS] for line in rows[title][1]]
        for name, part in (("table", table), ("refusals", refusals)):
            before, rest = text.split(f"<!-- {name} -->\n")
            after = rest.split(f"<!-- end of {name} -->")[1]
            marked = [f"<!-- {name} -->", *part, f"<!-- end of {name} -->"]
            text = before + "\n".join(marked) + after
        FILE.write_text(text, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("title", [*ROWS, *HABITS])
def test_row_is_what_the_table_says(title, written, tmp_path):
    written[title] = lines(title, tmp_path)
    if not REWRITE:
        text = FILE.read_text(encoding="utf-8").splitlines()
        row, refusals = written[title]
        assert row in text
        assert [line for line in refusals if line not in text] == []


def test_table_has_no_other_row():
    text = FILE.read_text(encoding="utf-8")
    titles = re.findall(r"^\| (.+?) \|", text.split("<!-- table -->")[1], re.M)
    assert titles[2:] == [*ROWS, *HABITS] or REWRITE
