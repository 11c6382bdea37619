"""Files of weights: what is written is read again, and what is none is refused unexecuted."""

import contextlib
import pickle
import shutil

import pytest
import torch
from bombs import Bomb
from training_cases import small_net

from zforcing_pyro.data import Sequences
from zforcing_pyro.models import VRNN
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.checkpoint import load_checkpoint, load_weights
from zforcing_pyro.training.fit import fit

pytestmark = pytest.mark.usefixtures("float32")


def train(folder, net, num=2):
    x = Sequences([torch.ones(5, 1)] * 4)
    options = TrainingOptions(accelerator="cpu")
    return fit(net, x, x, None, folder, options, num, seed=1, resume=True).bound


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("trained")
    train(folder, small_net())
    return folder


@pytest.fixture
def checkpoint(trained, tmp_path):
    """A copy of one that is good."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run" / "checkpoints" / "last.ckpt"


def resumed(file):
    train(file.parent.parent, small_net(), num=4)


def refused(checkpoint, message):
    """Neither reader takes the file, and each says why in one line."""
    for read in (lambda: load_weights(small_net(), checkpoint), lambda: resumed(checkpoint)):
        with pytest.raises(ValueError, match=message) as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["empty", "text", "pickle", "cut off", "bomb", "bomb in zip"])
def test_files_of_other_kinds_are_refused_and_not_executed(checkpoint, tmp_path, kind):
    exploded, content = tmp_path / "exploded", checkpoint.read_bytes()
    if kind == "bomb in zip":
        torch.save({"players": Bomb(exploded)}, checkpoint)
    else:
        contents = {"empty": b"", "text": b"nonsense", "pickle": pickle.dumps(None)}
        contents |= {"cut off": content[: len(content) // 2], "bomb": pickle.dumps(Bomb(exploded))}
        checkpoint.write_bytes(contents[kind])
    executed = ".*nothing of it was executed" if "bomb" in kind else ""
    refused(checkpoint, r"last.ckpt' must be a checkpoint, got: \w+" + executed)
    assert not exploded.exists()


def changed(value, *path):
    """Returns a change of a checkpoint: the entry at a path has another value, or none."""

    def change(checkpoint):
        *folders, last = path
        for name in folders:
            checkpoint = checkpoint[name]
        checkpoint.pop(last)
        if value is not None:
            checkpoint[last] = value

    return change


LOOP, NET = "zforcing_pyro", ("players", "net")
TENSOR = torch.zeros(2)


def test_checkpoints_with_missing_or_wrong_entries_are_refused(checkpoint):
    """C1."""
    content = checkpoint.read_bytes()
    for change, message in (
        (changed(None, LOOP), "must be a checkpoint of zforcing_pyro, got another file"),
        (changed(1, LOOP, "format"), "must be of format 2, got 1, of zforcing_pyro .*: that ver"),
        (changed(None, "players"), "'.*last.ckpt' must be a checkpoint of "),
        (changed({}, *NET), "'.*last.ckpt' must be a checkpoint of "),
        (changed({1: TENSOR}, *NET, "weights"), "must be a checkpoint of this net, "),
        (changed(None, *NET, "weights", "cell.bias"), "must be a checkpoint of this net, "),
        (changed(7, *NET, "weights", "cell.bias"), "where it is not a tensor of floats"),
        (changed({"a": 1}, *NET, "optimiser"), "must be a checkpoint of such a run, got KeyError"),
        (changed({0: 1}, *NET, "optimiser", "state"), "must be a checkpoint of such a run, got "),
        (changed(TENSOR, *NET, "optimiser", "state", 0, "exp_avg"), "got TypeError: moments"),
        (changed("1", LOOP, "update"), "must be a checkpoint, got counters or bounds"),
        (changed(TENSOR, LOOP, "curves"), "must be a checkpoint of such a run, got "),
        (changed({"h": 1}, LOOP, "carried"), "must be a checkpoint of such a run, got "),
    ):
        checkpoint.write_bytes(content)
        entries = load_checkpoint(checkpoint)
        change(entries)
        torch.save(entries, checkpoint)
        with pytest.raises(ValueError, match=message) as error:
            resumed(checkpoint)
        assert "\n" not in str(error.value)
        with contextlib.suppress(ValueError):
            load_weights(small_net(), checkpoint)  # nothing else is raised


@pytest.mark.parametrize(
    "net, difference",
    [
        (lambda: small_net(h_dim=9), r"'\S+' is of shape .*, got one of ZForcing where it is of"),
        (lambda: small_net(VRNN), r"a VRNN whose '\S+' is missing, got one of ZForcing where it i"),
    ],
)
def test_a_checkpoint_of_another_net_is_refused(checkpoint, net, difference):
    with pytest.raises(ValueError, match=f"must be a checkpoint of this net, .*{difference}"):
        load_weights(net(), checkpoint)
    with pytest.raises(ValueError, match="must be a checkpoint of this net, "):
        train(checkpoint.parent.parent, net(), num=4)


def test_a_run_that_was_moved_goes_on(trained, tmp_path):
    moved, stayed = tmp_path / "moved", tmp_path / "stayed"
    for folder in (moved, stayed):
        net = small_net()
        train(folder, net)
    moved = moved.rename(tmp_path / "elsewhere")
    nets = [small_net(), small_net()]
    assert train(moved, nets[0], 4) == train(stayed, nets[1], 4)
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters()))
