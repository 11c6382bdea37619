"""``zforcing report``."""

from pathlib import Path

from ..terminal import Parser, say, user_path


def report(args: list[str]) -> None:
    """Writes a page on a run, or on several side by side: one HTML file that needs no network."""
    parser = Parser("report", description=report.__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--out", help="the page, *.html; by default report.html in the run, of "
                        "several runs comparison.html in the first")  # fmt: skip
    parser.add_shared("--num --particles --seed --data_dir")
    parser.add_argument("--latex", action="store_true", help="write the tables of several runs "
                        "beside the page too, *.tex")  # fmt: skip
    arguments = parser.parse_args(args)
    if arguments.particles < 25:
        raise ValueError(f"'--particles' must be at least 25, got {arguments.particles}")
    runs = [user_path(run, "run") for run in arguments.runs]
    name = "report.html" if len(runs) == 1 else "comparison.html"
    out = user_path(arguments.out, "--out") if arguments.out else Path(runs[0], name)
    from ..report import report as write

    file = write(
        runs,
        out,
        num=arguments.num,
        num_particles=arguments.particles,
        seed=arguments.seed,
        data_dir=arguments.data_dir,
        latex=arguments.latex,
        progress=say,
    )
    say(f"report ({file.stat().st_size / 1e6:.1f} MB), to be opened in a browser: {file}")
