"""``zforcing train``."""

import os
import re
import shlex
import warnings
from pathlib import Path

from ..completion import answer
from ..terminal import Parser, say


def train(args: list[str]) -> int:
    """Trains a model and writes its run.

    Returns:
        0; or 3 if too many gradients were not finite; or 128 and the number of the signal that
        stopped it, after which ``--resume`` goes on: 143 for SIGTERM, 138 for SIGUSR1,
        129 for SIGHUP.
    """
    from ..configuration import parse

    if os.environ.pop("_ARGCOMPLETE", None):  # else jsonargparse answers
        complete(args)
    if {"-h", "--help"} & set(args):
        chosen = [a for a in args if a not in ("-h", "--help", "all")]
        print(parse(chosen, ask_help="all" if "all" in args else "short"), end="")
        return 0
    from ...data import collate
    from ...models.checks import check_sequences
    from ...training.fit import fit
    from ...training.folder import is_first_process, run_folder, run_id
    from ...training.hardware import check_hardware
    from ...training.stops import NonFinite, Stopped
    from ...training.support import check_support
    from ..experiment import describe, load_corpus, load_experiment
    from ..width import matched

    resume, args = "--resume" in args, [a for a in args if a != "--resume"]
    args = matched(args)
    experiment = describe(args)
    run = Path(experiment.out)
    begun = run_id(run) is not None and (run / "checkpoints" / "last.ckpt").exists()
    if begun and not resume:
        raise ValueError(f"'--out' must be a new folder, got the run '{run}'; --resume goes on")
    if begun:
        earlier = load_experiment(run)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                experiment = describe(args, earlier.config()).resumed(earlier)
        except ValueError as error:
            raise ValueError(f"{error}; the run in '{run}' is resumed as it was begun") from error
    corpus = load_corpus(run, experiment) if begun else experiment.corpus()
    estimator = experiment.estimator()
    net = experiment.net(corpus.x_dim, corpus.missing)
    splits = corpus.split("train"), corpus.split("valid")
    check_support(net, splits[0], corpus.emission)
    x, lengths, *_ = collate([splits[0][0]])
    check_sequences(x, lengths, net.emission)
    check_hardware(experiment.training)
    first = is_first_process()
    num = sum(p.numel() for p in net.parameters())
    options = experiment.training, experiment.max_updates, experiment.seed, resume
    try:
        with run_folder(run, "--out"):
            if first:
                experiment.save(run, corpus, ["zforcing", "train", *args])
                if resume and not begun:
                    say(f"no run in '{run}' yet: it begins")
                title = f"{num:,} parameters, on {corpus.title}; {corpus.version}"
                say(f"{experiment.model['name']}, {title}")
            bound = fit(net, *splits, estimator, run, *options).bound
    except Stopped as stop:
        # Of several processes one says so: that another has ended is no error, or it ends them all.
        if not first:
            return 0
        say(f"{run}: {stop}")
        return 128 + stop.signal_number
    except NonFinite as error:
        say(f"zforcing: error: {error}")
        if (run / "checkpoints" / "last.ckpt").exists():
            say(f"the last checkpoint of '{run}' is from before; its curves are in metrics.csv")
        return 3
    if first:
        say(
            f"validation {bound:.4f} nats per {corpus.step} ({experiment.bound['name']} with "
            f"K={estimator.num_particles}, KL weight 1, costs excluded, total over total steps)"
        )
        say(f"run in {run}; next: zforcing evaluate {shlex.quote(str(run))} --split test")
    return 0


def complete(typed: list[str]) -> None:
    """Answers a shell by options of the classes that were typed, and by names of others."""
    from ..configuration import PRESETS, SECTIONS, parse

    if typed and typed[-1].startswith("--"):
        typed = typed[:-1]  # its value is what is completed
    names = {f"--{kind}": tuple(registry) for kind, registry in SECTIONS.items()}
    names["--preset"] = tuple(PRESETS)
    options = set(re.findall(r"--[\w.]+", parse(typed, ask_help="all")))
    parser = Parser("train")
    for option in sorted(options - {"--help"} | names.keys()):
        parser.add_argument(option, choices=names.get(option))
    answer(parser)
