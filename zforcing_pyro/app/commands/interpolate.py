"""``zforcing interpolate``."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from .common import Parser, loaded, say

WIDTH = 80  # of a terminal


def interpolate(args: list[str]) -> None:
    """Prints sequences between two of the test split, by argmax and by sampled decoding."""
    parser = Parser(prog="zforcing interpolate", description=interpolate.__doc__)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("first", metavar="A", type=int, help="index of a test sequence")
    parser.add_argument("second", metavar="B", type=int, help="index of another one")
    parser.add_argument("--points", type=int, default=5, help="places, the two ends included")
    parser.add_argument("--out", help="folder to write them to, as pictures, sound, MIDI, text")
    parser.add_argument("--seed", type=int, default=0, help="of the sampled decoding")
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    options = parser.parse_args(args)
    _, net, corpus = loaded(options)
    from ...analysis.plots import interpolation as drawn
    from ...analysis.posterior import interpolation

    test = corpus.split("test")
    for name, i in (("A", options.first), ("B", options.second)):
        if not 0 <= i < len(test):
            raise ValueError(f"'{name}' must be in 0..{len(test) - 1}, got {i}")
    found = interpolation(
        net, test[options.first], test[options.second], options.points, seed=options.seed
    )
    rows = {
        "argmax": [x.cpu() for x in found.greedy],
        "sampled": [draws[0].cpu() for draws in found.sampled],
    }
    for i, weight in enumerate(found.weights.tolist()):
        blocks = [f"{kind}\n{corpus.as_text(xs[i])}" for kind, xs in rows.items()]
        print(f"{weight:.3g} of the way from test {options.first} to test {options.second}")
        print(side_by_side(*blocks))
        print()
    if options.out:
        folder = Path(options.out)
        folder.mkdir(parents=True, exist_ok=True)
        for kind, xs in rows.items():
            for i, x in enumerate(xs):
                corpus.write(x, folder / f"{kind}-{i:02d}{corpus.suffix}")
        axes = drawn(list(rows.values()), corpus, list(rows), found.weights.tolist())
        axes.figure.savefig(folder / "interpolation.png")
        say(f"beside each other: {folder / 'interpolation.png'}")


def side_by_side(left: str, right: str) -> str:
    """Two blocks of text beside each other where they fit, else one below the other.

    Example:
        >>> print(side_by_side("a\\nbb", "c"))
        a     c
        bb
    """
    lines = left.splitlines(), right.splitlines()
    width = max(map(len, lines[0])) + 4
    if width + max(map(len, lines[1])) > WIDTH:
        return f"{left}\n{right}"
    pairs = zip_longest(*lines, fillvalue="")
    return "\n".join(f"{a:{width}}{b}".rstrip() for a, b in pairs)
