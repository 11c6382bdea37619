"""Twists in training, in checkpoints and on the command line."""

import json

import pytest
import torch

from zforcing_pyro import load
from zforcing_pyro.app.cli import main
from zforcing_pyro.estimators import TraceTwisted
from zforcing_pyro.models import VRNN
from zforcing_pyro.training.twists import fit_twist

SIZES = ["z_dim=2", "h_dim=4", "hidden_dim=4", "embed_dim=0"]
DATA = ["--data=digits", "--data.rows=true"]


@pytest.mark.slow
def test_run_trains_its_twist_and_evaluate_says_what_twist_there_is(tmp_path, capsys):
    """A run by another bound has FIVO's number; a twist of its own is loaded; one can be fitted."""
    torch.set_default_dtype(torch.float32)
    results = {}
    for bound in ("elbo", "twisted"):
        run = tmp_path / bound
        args = [*DATA, *(f"--model.{s}" for s in SIZES), "--max_updates=2", f"--out={run}"]
        assert main(["train", *args, f"--bound={bound}"]) == 0
        capsys.readouterr()
        for name, fit in (("fivo", 0), ("twisted", 0), ("twisted", 2)):
            args = [str(run), "--split=valid", "--particles=3", "--json", f"--bound={name}"]
            assert main(["evaluate", *args, *[f"--bound.fit={fit}"][: bool(fit)]]) == 0
            results[bound, name, fit] = json.loads(capsys.readouterr().out)
    assert load(tmp_path / "elbo").twist is None
    weights = load(tmp_path / "twisted").twist.f.layers[-1].weight
    assert weights.abs().max() > 0  # 0 where it was not trained
    numbers = {key: r["nats_per_sequence"] for key, r in results.items()}
    assert numbers["elbo", "twisted", 0] == numbers["elbo", "fivo", 0]
    assert "no trained twist: r = 0" in results["elbo", "twisted", 0]["protocol"]
    for key in (("elbo", "twisted", 2), ("twisted", "twisted", 0)):
        assert "no trained twist" not in results[key]["protocol"]
        assert numbers[key] != numbers[key[0], "fivo", 0]
    assert "fitted by 2 updates" in results["elbo", "twisted", 2]["protocol"]
    assert main(["evaluate", str(run), "--bound=iwae", "--bound.fit=2"]) == 2
    assert "'--bound.fit' must be 0, or positive with --bound twisted" in capsys.readouterr().err


def test_fit_changes_nothing_but_the_twist():
    from zforcing_pyro.data import Sequences
    from zforcing_pyro.emissions import Bernoulli

    net = VRNN(Bernoulli, 3, z_dim=2, h_dim=4, hidden_dim=3, embed_dim=3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state, data = torch.get_rng_state(), Sequences([torch.zeros(3, 3), torch.zeros(2, 3)])
    fit_twist(net, data, TraceTwisted(), 3)
    assert net.training and torch.equal(torch.get_rng_state(), state)
    for name, value in net.state_dict().items():
        assert name.startswith("twist.") or torch.equal(value, before[name])
    assert all(p.grad is None for p in net.parameters())
    assert net.twist.f.layers[-1].weight.abs().max() > 0
    with pytest.raises(ValueError, match=r"^'num_updates' must be positive, got 0$"):
        fit_twist(net, data, TraceTwisted(), 0)
