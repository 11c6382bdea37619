"""``zforcing paper``."""

from pathlib import Path

from ..terminal import Parser, say, show, user_path
from .interpolate import interpolate
from .train import train

TABLES = "table1", "table2", "table3", "figure2"
LEAST_WORDS = 8
"""Words of the sentences that are interpolated."""


def paper(args: list[str]) -> int:
    """Trains what a table or figure of Goyal et al. (2017) shows, and prints ours beside theirs.

    The same command goes on where it was stopped. Returns the status of a training that was, or 0.
    """
    about = "Trains what a table of Goyal et al. (2017) shows; the same command goes on."
    parser = Parser("paper", "--data_dir", description=about)
    parser.add_argument("table", choices=TABLES, help="bounds on speech and MNIST; sentences; "
                        "interpolations of sentences; the KL over training")  # fmt: skip
    parser.add_argument("--scale", choices=("full", "small"), default="small", help="the paper's "
                        "sizes, or small ones for a CPU")  # fmt: skip
    parser.add_argument("--data", nargs="+", help="only these data sets of the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", default="runs/paper", help="folder of all runs")
    parser.add_argument("--max_updates", type=int, help="fewer updates than the table's")
    arguments = parser.parse_args(args)
    from ...analysis.plots import curves_over_seeds
    from ..paper import PaperRun, plan, tabulated
    from ..sweep import flat

    table, scale, out = arguments.table, arguments.scale, Path(user_path(arguments.out, "--out"))
    where = [f"--data_dir={arguments.data_dir}"] if arguments.data_dir else []
    arms = plan(table, scale)
    names = list(dict.fromkeys(data for data, _ in arms))
    if unknown := set(arguments.data or names) - set(names):
        raise ValueError(f"'--data' must be of {names}, got {sorted(unknown)}")
    common = out, arguments.max_updates
    runs = {
        key: [PaperRun(data, scale, *options, seed, *common) for seed in arguments.seeds]
        for key, (data, *options) in arms.items()
        if key[0] in (arguments.data or names)
    }
    every = [run for seeds in zip(*runs.values()) for run in seeds]  # whole rows of seeds
    for i, run in enumerate(every):
        say(f"run {i + 1} of {len(every)}: {run.folder}")
        if (run.folder / "paper.json").exists():
            continue
        if status := train([*flat(run.config), f"--out={run.folder}", *where, "--resume"]):
            return status
        if table in ("table1", "table2"):
            run.numbers(arguments.data_dir)
    if table == "table3":
        for first, second in sentence_pairs(every[0].folder):
            interpolate([str(every[0].folder), str(first), str(second), *where])
    elif table == "figure2":
        file = out / scale / "figure2.png"
        curves = {name: [run.curve() for run in arm] for (_, name), arm in runs.items()}
        axes = curves_over_seeds(curves, "KL on validation, nats per step")
        axes.figure.savefig(file)
        say(f"KL over training: {file}")
    else:
        show(tabulated({k: [r.numbers(arguments.data_dir) for r in v] for k, v in runs.items()}))
    return 0


def sentence_pairs(run: Path, num: int = 4) -> list[tuple[int, int]]:
    """Returns the first test sentences of enough words in an order drawn with seed 0, in pairs.

    The rule takes the place of a choice by hand.
    """
    from ..experiment import load_corpus, load_experiment
    from ..report.findings import chosen

    test = load_corpus(run, load_experiment(run)).split("test")
    order = [
        i for i in chosen(test, len(test)).tolist() if test.lengths[i] > LEAST_WORDS
    ]  # and an end mark
    return list(zip(order[: 2 * num : 2], order[1 : 2 * num : 2]))
