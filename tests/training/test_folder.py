"""A run's folder belongs to one run and one process, and nothing is written outside it."""

import pytest
import torch
from fault_runs import ended, fork, splits
from training_cases import small_net

from zforcing_pyro.data import writing
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.fit import fit
from zforcing_pyro.training.folder import MARKER, run_folder, run_id


def train(folder, num=2, **options):
    options = TrainingOptions(accelerator="cpu", **options)
    torch.set_default_dtype(torch.float32)
    return fit(small_net(x_dim=2), *splits(), None, folder, options, num, resume=True)


def test_fit_leaves_folders_of_other_people_alone(tmp_path):
    """D1."""
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(
        ValueError, match=r"'folder' must be a new or an empty folder.*'config.yaml'"
    ):
        train(tmp_path)
    (tmp_path / "run.json").write_text('{"distance": 5}')
    with pytest.raises(ValueError, match=r"which holds 'config.yaml'"):
        train(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.yaml", "run.json"]
    for path in (tmp_path / "config.yaml", tmp_path / "config.yaml" / "run"):
        with pytest.raises(ValueError, match="'folder' must be a folder that can be written"):
            train(path)
    (tmp_path / "run").mkdir()
    train(tmp_path / "run")
    assert train(tmp_path / "run", 4).bound < 0
    (tmp_path / "run" / MARKER).write_bytes(b"")  # killed as the marker was written
    train(tmp_path / "run", 6)


def hold(folder, ready, done):
    with run_folder(folder):
        ready.touch()
        while not done.exists():
            pass


def test_one_process_trains_in_a_folder(tmp_path):
    """D2: a lock that a kill -9 frees."""
    folder, ready, done = (tmp_path / name for name in ("run", "ready", "done"))
    process = fork(hold, folder, ready, done, log=tmp_path / "log")
    while not ready.exists():
        assert process.is_alive(), (tmp_path / "log").read_text()
    with pytest.raises(ValueError, match=r"'folder' must not be in use, got .*run', in which"):
        train(folder)
    process.kill()
    assert ended(process) == -9
    train(folder)
    with run_folder(folder), run_folder(folder):  # in one process it may be nested
        train(folder, 4)


def test_a_folder_can_be_held_without_fcntl(tmp_path, monkeypatch):
    """C6, case 06."""
    monkeypatch.setattr(writing, "fcntl", None)
    with run_folder(tmp_path / "run"):
        assert run_id(tmp_path / "run")


@pytest.mark.parametrize(
    "link", ["metrics.csv", "checkpoints", "checkpoints/last.ckpt", "tensorboard", MARKER]
)
def test_links_in_a_run_are_not_followed(tmp_path, link):
    """D3, and run folders that somebody sent."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    train(run)
    path, target = run / link, outside / "target"
    if path.is_dir():
        path.rename(target)
    elif path.exists():
        target.write_bytes(path.read_bytes())
        path.unlink()
    path.symlink_to(target)
    before = {f: f.read_bytes() for f in outside.rglob("*") if f.is_file()}
    with pytest.raises(ValueError, match=r"must not be a link|which holds"):
        train(run, 4)
    assert {f: f.read_bytes() for f in outside.rglob("*") if f.is_file()} == before


def test_a_folder_may_be_given_by_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "real")
    train(tmp_path / "latest")
    assert (tmp_path / "real" / "checkpoints" / "last.ckpt").exists()
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="'folder' must be a folder, got the dead link"):
        train(tmp_path / "dead")
