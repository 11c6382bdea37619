"""``zforcing report``."""

from __future__ import annotations

from pathlib import Path

from .common import Parser, say


def report(args: list[str]) -> None:
    """Writes a page on a run, or on several side by side: one HTML file that needs no network."""
    parser = Parser(prog="zforcing report", description=report.__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--out", help="the page, *.html; by default report.html in the run, of "
                        "several runs comparison.html in the first")  # fmt: skip
    parser.add_argument("--num", type=int, help="test sequences looked at; by default as many as "
                        "have some 8,000 steps, but 8 to 128")  # fmt: skip
    parser.add_argument("--particles", type=int, default=100,
                        help="draws of the latents for each, 25 or more")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    parser.add_argument("--latex", action="store_true",
                        help="write tables of several runs beside the page, *.tex")  # fmt: skip
    options = parser.parse_args(args)
    from ..report import report as write_report

    name = "report.html" if len(options.runs) == 1 else "comparison.html"
    file = write_report(
        options.runs,
        options.out or Path(options.runs[0], name),
        num=options.num,
        num_particles=options.particles,
        seed=options.seed,
        data_dir=options.data_dir,
        latex=options.latex,
        progress=say,
    )
    say(f"report ({file.stat().st_size / 1e6:.1f} MB), to be opened in a browser: {file}")
