"""Runs in processes of their own, each forked from one that has imported everything.

So a run that is killed costs a fraction of a second, and what kills it can be told to the step.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

import torch.distributions.normal as normal  # noqa: E402
from training_cases import small_net  # noqa: E402

from zforcing_pyro.analysis import evaluation  # noqa: E402
from zforcing_pyro.app.cli import main  # noqa: E402
from zforcing_pyro.data import Sequences  # noqa: E402
from zforcing_pyro.estimators import TraceELBO  # noqa: E402
from zforcing_pyro.models import ZForcing  # noqa: E402
from zforcing_pyro.training import TrainingOptions, checkpoint, logs  # noqa: E402
from zforcing_pyro.training.fit import fit  # noqa: E402
from zforcing_pyro.training.loop import Loop  # noqa: E402
from zforcing_pyro.training.player import Player  # noqa: E402

with contextlib.suppress(ImportError):
    import torch.utils.tensorboard

FORKS = multiprocessing.get_context("forkserver")
UPDATES = 40


def fork(target, *args, log: Path, **environment: str):
    """Starts a process; what it prints is in ``log``."""
    path = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        FORKS.set_forkserver_preload([Path(__file__).stem])
        process = FORKS.Process(target=child, args=(target, args, str(log), environment))
        process.start()
    return process


def child(target, args, log, environment):
    os.environ.update(environment)
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(target(*args))


def ended(process, seconds=300.0) -> int:
    """The exit code of a process that ends within some seconds."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"the process had not ended after {seconds} seconds")
    return process.exitcode


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def fork_ranks(world, target, *args, log: Path):
    """One process a rank, which find each other as those of a cluster do."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0"}
    common |= {"WORLD_SIZE": str(world)}
    return [fork(target, *args, log=log, **common, LOCAL_RANK=str(r)) for r in range(world)]


# What is run.


def splits():
    """Sequences of 3 to 9 steps, so that batches are ragged."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 10, (23,), generator=draw).tolist()
    x = [(torch.rand(n, 2, generator=draw) < 0.3).float() for n in lengths]
    return Sequences(x[:13]), Sequences(x[13:])


def run(folder, options, num=UPDATES, model=ZForcing, kill=None, callbacks=()):
    """Trains, or goes on; dies by its own hand where ``kill`` says."""
    if kill is not None:
        kill_at(*kill)
    options = {"batch_size": 4, "validate_every": 4, "accelerator": "cpu"} | options
    options, resume = TrainingOptions(**options), {"resume": True, "callbacks": callbacks}
    fit(small_net(model, x_dim=2), *splits(), TraceELBO(), folder, options, num, seed=1, **resume)


def dying(folder, options, num, model, kills):
    """Runs one of several ranks, each with what kills it, if anything does."""
    kill = kills[int(os.environ["LOCAL_RANK"])] if kills else None
    run(folder, options, num, model, kill)


class KeepWeights:
    """Callback that leaves the weights which each process ended with."""

    def on_end(self, loop):
        weights = loop.net.state_dict() | (loop.adversary.state_dict() if loop.adversary else {})
        torch.save(weights, loop.folder / f"rank{loop.fabric.global_rank}.pt")


def run_and_keep_weights(folder, options, num):
    run(folder, options, num, callbacks=[KeepWeights()])


def run_on_common_noise(folder, options, num):
    """Draws noise by a sequence's place in the whole batch, and leaves the first gradient."""
    torch.set_default_dtype(torch.float64)
    state = {}
    given, step, evaluate = Player.given, Player.step, Loop.evaluation

    def seeded(self, turn):
        torch.manual_seed(self.update)
        rank, world = self.fabric.global_rank, self.fabric.world_size
        state["rows"] = turn * world + rank, self.options.accumulate * world
        state["update"] = self.update

    def counted(self, part, carried):
        state["num"] = part.num
        return given(self, part, carried)

    def standard_normal(shape, dtype, device):
        if "rows" not in state:
            return torch.zeros(shape, dtype=dtype)
        if len(shape) == 4:  # a critic's draws; parts are padded to other lengths
            torch.manual_seed(10**6 + state["update"])
            step = *shape[:2], shape[3]
            return torch.stack([standard_normal(step, dtype, device) for _ in range(shape[2])], 2)
        first, parts = state["rows"]
        noise = torch.randn(shape[0], state["num"], *shape[2:], dtype=dtype)[:, first::parts]
        return noise if noise.shape[1] else torch.zeros(shape, dtype=dtype)

    def kept(self):
        file = Path(folder, "gradients.pt")
        if not file.exists() and os.environ.get("LOCAL_RANK", "0") == "0":
            torch.save({n: p.grad.clone() for n, p in self.net.named_parameters()}, file)
        return step(self)

    def without_noise(self):
        state.clear()
        return evaluate(self)

    Player.given, Player.step, normal._standard_normal = counted, kept, standard_normal
    Loop.seed_noise, Loop.evaluation = seeded, without_noise
    # Its noise is drawn by a function that can be replaced.
    run(folder, options | {"precision": "64-true"}, num, partial(ZForcing, backend="reference"))


def command(args, slow=""):
    """Runs a command of ``zforcing``; updates or validation take longer and say so."""
    if slow:
        owner, name = CALLS["step" if slow == "update" else slow]
        method = getattr(owner, name)

        def slowly(*args):
            print(slow, flush=True)
            time.sleep(0.1)
            return method(*args)

        setattr(owner, name, slowly)
    return main(args)


def limited(folder, options, num, size):
    """A run that cannot write a file above a size, as on a full disk."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return on_full_disk(folder, options, num)


def on_full_disk(folder, options, num):
    try:
        run(folder, options, num)
    except OSError as error:
        print(f"OSError: {error}", flush=True)
        return 5


# What kills it.


def die():
    os.kill(os.getpid(), signal.SIGKILL)


CALLS = {
    "step": (Player, "forward"),
    "backward": (Player, "step"),
    "validation": (evaluation, "batch_numbers"),
    "rename": (os, "replace"),
    "renamed": (os, "replace", True),
}


def kill_at(event: str, number: int):
    """Kills this process at the ``number``-th time that something happens."""
    left = iter(range(number - 1, -1, -1))

    def now() -> bool:
        return next(left, None) == 0

    def around(owner, name, after=False):
        original = getattr(owner, name)

        def replaced(*args, **kwargs):
            if not after and now():
                die()
            result = original(*args, **kwargs)
            if after and now():
                die()
            return result

        setattr(owner, name, replaced)

    if event in CALLS:
        around(*CALLS[event])
    elif event == "write":
        replacing = checkpoint.replacing

        @contextlib.contextmanager
        def torn(file, inside):
            with replacing(file, inside) as new:
                yield HalfWritten(new) if now() else new

        checkpoint.replacing = torn
    elif event == "row":
        log = logs.MetricsFile.log_metrics

        def log_half_a_row(self, metrics, step=None):
            log(self, metrics, step)
            if now():
                os.truncate(self.file, self.file.stat().st_size - 20)
                die()

        logs.MetricsFile.log_metrics = log_half_a_row
    else:
        assert event == "clock"
        signal.signal(signal.SIGALRM, lambda *_: die())
        signal.setitimer(signal.ITIMER_REAL, random.Random(number).uniform(0.0, 0.6))


class HalfWritten:
    """A file whose writing is cut off in the middle."""

    def __init__(self, file):
        self.file = file

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        die()
