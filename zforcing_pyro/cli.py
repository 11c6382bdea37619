"""The command line: ``zforcing train | evaluate | sample | data``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__

COMMANDS = {
    "train": "train a model: zforcing train [--config FILE.yaml] [--data NAME] [--model NAME] ...",
    "evaluate": "bounds of a run on validation or test: zforcing evaluate RUN [--bound NAME] ...",
    "sample": "draw sequences from a run's model: zforcing sample RUN [--num N] [--out DIR]",
    "data": "data sets: zforcing data [list | show NAME]",
}


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are one line, raised as ValueError."""

    def __init__(self, **kwargs):
        formatter = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)

    def error(self, message: str) -> None:
        raise ValueError(message)


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command. A user's mistake is one line on stderr and status 2.

    Args:
        args: Arguments; by default those of the process.

    Returns:
        The exit status.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        print("usage: zforcing COMMAND [options]\n")
        print("\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items()))
        print("\nzforcing COMMAND --help tells more.")
        return 0 if args else 2
    if args[0] == "--version":
        print(f"zforcing_pyro {__version__}")
        return 0
    try:
        if args[0] not in COMMANDS:
            raise ValueError(f"command must be one of {list(COMMANDS)}, got '{args[0]}'")
        return globals()[args[0]](args[1:]) or 0
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        if os.environ.get("ZFORCING_TRACEBACK"):
            raise
        print(f"zforcing: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("zforcing: interrupted", file=sys.stderr)
        return 130


def train(args: list[str]) -> None:
    """Trains a model and writes its run."""
    from .data import collate
    from .experiment import describe, help_text, load_experiment
    from .models.checks import check_sequences

    if {"-h", "--help"} & set(args):
        print(help_text(args))
        return
    resume, args = "--resume" in args, [a for a in args if a != "--resume"]
    experiment = describe(args)
    run = Path(experiment.out)
    begun = (run / "checkpoints" / "last.ckpt").exists()
    if begun and not resume:
        raise ValueError(f"'--out' must be a new folder, got the run '{run}'; --resume goes on")
    if begun:
        earlier = load_experiment(run)
        try:
            experiment = describe(args, earlier.config()).resumed(earlier)
        except ValueError as error:
            raise ValueError(f"{error}; the run in '{run}' is resumed as it was begun") from error
    elif resume:
        say(f"no run in '{run}' yet: it begins")
    corpus, estimator = experiment.corpus(), experiment.estimator()
    net = experiment.net(corpus.x_dim)
    splits = corpus.split("train"), corpus.split("valid")
    experiment.training.check(estimator)
    x, lengths, _ = collate([splits[0][0]])
    check_sequences(x, lengths, net.emission)
    experiment.save(run, ["zforcing", "train", *args])
    from .training.fit import fit

    num = sum(p.numel() for p in net.parameters())
    say(f"{experiment.model['name']}, {num:,} parameters, on {corpus.title} ({corpus.version})")
    bound = fit(
        net,
        estimator,
        *splits,
        run,
        experiment.training,
        experiment.max_updates,
        experiment.seed,
        resume,
    )
    say(
        f"validation {bound:.4f} nats per {corpus.step} ({experiment.bound['name']} with "
        f"K={estimator.num_particles}, KL weight 1, costs excluded, total over total steps)"
    )
    say(f"run in {run}; next: zforcing evaluate {run} --split test")


def evaluate(args: list[str]) -> None:
    """Prints the bound of a split with its protocol."""
    from .estimators import ESTIMATORS

    parser = Parser(prog="zforcing evaluate", description=evaluate.__doc__)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument(
        "--split", choices=("train", "valid", "test"), default="test", help="part of the data"
    )
    parser.add_argument(
        "--bound",
        choices=tuple(ESTIMATORS),
        default="elbo",
        help="with the options of training if it was trained with; without gradients stl is elbo, "
        "and dreg and rws are iwae",
    )
    parser.add_argument("--particles", type=int, default=1, help="draws K of the latents")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(args)
    experiment, net, corpus = loaded(options)
    from .evaluation import evaluate as evaluated

    window = experiment.training.eval_window
    sequences = corpus.split(options.split)
    result = evaluated(
        net,
        sequences.windows(window) if window else sequences,
        experiment.estimator_for(options.bound, options.particles),
        bound=options.bound,
        split=options.split,
        note=f"data {corpus.version}; "
        + (f"windows of {window} steps" if window else "whole sequences")
        + ("; first frame given, not scored" if sequences[0].start is not None else ""),
        seed=options.seed,
    )
    if options.json:
        print(json.dumps(result.as_dict()))
        return
    error = "" if result.standard_error is None else f" +- {result.standard_error:.3f}"
    print(f"{options.run}, {options.split}: {corpus.title}")
    print(f"  {result.nats_per_sequence:.3f}{error} nats per sequence (standard error)")
    print(f"  {result.nats_per_step:.4f} nats per {corpus.step}")
    print(f"  KL {result.kl_per_sequence:.3f} nats per sequence", end="")
    if result.num_latents:
        print(f", {result.active_units} of {result.num_latents} latent dimensions active", end="")
    print(f"\n  {result.bits_per_dim:.4f} bits per dimension", end="")
    if result.perplexity is not None:
        print(f", perplexity {result.perplexity:.3f}", end="")
    if result.ess_mean is not None:
        print(f"\n  importance weights: effective sample size {result.ess_mean:.1f} of ", end="")
        print(f"{result.particles} (median {result.ess_median:.1f})", end="")
    if result.high_pareto_k is not None:
        print(f", Pareto k-hat above 0.7 in {result.high_pareto_k:.0%} of sequences", end="")
    print(f"\n  {result.num_sequences} sequences, {result.num_steps} steps")
    print(f"  protocol: {result.protocol}")


def sample(args: list[str]) -> None:
    """Draws sequences from the model and writes them, with a picture beside real ones."""
    parser = Parser(prog="zforcing sample", description=sample.__doc__)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("--num", type=int, default=36, help="sequences")
    parser.add_argument("--steps", type=int, help="steps of each; by default as the data's median")
    parser.add_argument("--prefix", type=int, help="steps of test sequences that are continued")
    parser.add_argument("--out", help="folder; by default RUN/samples")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    options = parser.parse_args(args)
    for name in ("num", "steps", "prefix"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ValueError(f"'--{name}' must be positive, got {getattr(options, name)}")
    import numpy as np
    import torch

    _, net, corpus = loaded(options)
    from .plots import real_and_generated

    test = corpus.split("test")
    steps = options.steps or int(test.lengths.median())
    torch.manual_seed(options.seed)
    order = torch.randperm(len(test))
    chosen = order[test.lengths[order] >= (options.prefix or 1)][: options.num].tolist()
    if len(chosen) < options.num:
        raise ValueError(
            f"'--num' must be at most {len(chosen)}, the test sequences of {options.prefix or 1} "
            f"steps or more, got {options.num}"
        )
    prefix = None
    if options.prefix:
        prefix = torch.stack([test[i].x[: options.prefix] for i in chosen])
        prefix = prefix.to(next(net.parameters()).device)
    x = net.generate(options.num, steps, prefix).cpu()
    folder = Path(options.out or Path(options.run, "samples"))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "samples.npz", x=x.numpy())
    real_and_generated(corpus, [test[i].x for i in chosen], list(x)).savefig(folder / "samples.png")
    say(f"{options.num} sequences of {steps} steps: {folder / 'samples.npz'}")
    say(f"beside real ones: {folder / 'samples.png'}")


def data(args: list[str]) -> None:
    """Lists data sets, or shows one."""
    from .data import DATASETS, corpus
    from .data.corpus import SPLITS

    parser = Parser(prog="zforcing data", description=data.__doc__)
    parser.add_argument("action", nargs="?", choices=("list", "show"), default="list")
    parser.add_argument("name", nargs="?", help="data set to show")
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(args)
    if (options.action == "show") != (options.name is not None):
        raise ValueError("'show' must be followed by a name, and 'list' by none")
    given = {"data_dir": options.data_dir}
    if options.action == "list":
        rows = {name: summary(corpus(name, **given)) for name in DATASETS}
        if options.json:
            print(json.dumps(rows))
            return
        table(rows)
        return
    shown = corpus(options.name, **given)
    facts = summary(shown)
    for split in SPLITS:
        lengths = shown.split(split).lengths
        facts[split] = {
            "sequences": len(lengths),
            "steps": int(lengths.sum()),
            "shortest": int(lengths.min()),
            "longest": int(lengths.max()),
        }
    facts["x_dim"], facts["floor"] = shown.x_dim, shown.floor()._asdict()
    if options.json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(
                f"{k.replace('_', ' ')} {v:,.3f}" if isinstance(v, float) else f"{k} {v}"
                for k, v in value.items()
            )
        print(f"{name:8} {value}")


def summary(corpus) -> dict:
    """What a data set says of itself."""
    return {
        "title": corpus.title,
        "size": corpus.size,
        "step": corpus.step,
        "found": corpus.found(),
        "version": corpus.version,
        "licence": corpus.licence,
        "source": corpus.source,
    }


def table(rows: dict[str, dict]) -> None:
    """Data sets by name, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(header_style="bold", box=None)
    shown.add_column("name", no_wrap=True)
    for column in ("found", "title", "size", "a step is"):
        shown.add_column(column)
    for name, row in rows.items():
        found = "yes" if row["found"] else "no"
        shown.add_row(name, found, row["title"], row["size"], row["step"])
    Console().print(shown)
    print("\nFiles are looked for under --data_dir, then $ZFORCING_DATA.")
    print("'zforcing data show NAME' tells sizes, licence, and where to get a missing one.")


def loaded(options: argparse.Namespace) -> tuple:
    """Experiment, net on the best device, and data of a run."""
    import dataclasses

    import torch

    from .experiment import load, load_experiment

    experiment = load_experiment(options.run)
    if options.data_dir:
        experiment = dataclasses.replace(experiment, data_dir=options.data_dir)
    torch.set_num_threads(experiment.training.num_threads or torch.get_num_threads())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return experiment, load(options.run).to(device), experiment.corpus()


def say(line: str) -> None:
    """Progress goes to stderr: stdout is for results."""
    print(line, file=sys.stderr, flush=True)
