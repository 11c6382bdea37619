"""``zforcing interpolate``."""

from itertools import zip_longest
from pathlib import Path

from ..folders import writing
from ..terminal import Parser, say, show, user_path

WIDTH = 80  # of a terminal


def interpolate(args: list[str]) -> None:
    """Prints sequences between two of the test split, by argmax and by sampled decoding."""
    parser = Parser("interpolate", "run", description=interpolate.__doc__)
    parser.add_argument("first", metavar="A", type=int, help="index of a test sequence")
    parser.add_argument("second", metavar="B", type=int, help="index of another one")
    parser.add_argument("--points", type=int, default=5, help="places, the two ends included")
    parser.add_argument("--out", help="folder to write them to, as pictures, sound, MIDI, text")
    parser.add_shared("--seed --data_dir")
    arguments = parser.parse_args(args)
    from ...analysis.plots import gallery
    from ...analysis.posterior import interpolation
    from ...data.formats.files import check_room
    from ..experiment import opened

    _, net, corpus = opened(arguments.run, arguments.data_dir)
    test = corpus.split("test")
    for name, i in (("A", arguments.first), ("B", arguments.second)):
        if not 0 <= i < len(test):
            raise ValueError(f"'{name}' must be in 0..{len(test) - 1}, got {i}")
    first, second, points = test[arguments.first], test[arguments.second], arguments.points
    check_room(1e3 * points * len(first.x) * corpus.x_dim, f"--points {points}")
    path = interpolation(net, first, second, points, seed=arguments.seed)
    rows = {
        "argmax": [x.cpu() for x in path.greedy],
        "sampled": [draws[0].cpu() for draws in path.sampled],
    }
    for i, weight in enumerate(path.weights.tolist()):
        blocks = [f"{kind}\n{corpus.as_text(xs[i])}" for kind, xs in rows.items()]
        show(f"{weight:.3g} of the way from test {arguments.first} to test {arguments.second}")
        show(side_by_side(*blocks) + "\n")
    if arguments.out:
        out = Path(user_path(arguments.out, "--out"))
        with writing(out) as folder:
            for kind, xs in rows.items():
                for i, x in enumerate(xs):
                    corpus.write(x, folder / f"{kind}-{i:02d}{corpus.suffix}")
            places = [f"{weight:g}" for weight in path.weights.tolist()]
            axes = gallery(list(rows.values()), corpus, list(rows), places)
            axes.figure.savefig(folder / "interpolation.png")
        say(f"beside each other: {out / 'interpolation.png'}")


def side_by_side(left: str, right: str) -> str:
    """Returns two blocks of text beside each other where they fit, else one below the other.

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
