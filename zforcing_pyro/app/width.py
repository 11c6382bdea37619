"""The width of a model from a number of parameters, to compare models of one size."""

import dataclasses
import re
from bisect import bisect_left
from collections.abc import Sequence

from .experiment import describe
from .terminal import Parser

UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


def matched(args: Sequence[str]) -> list[str]:
    """Returns arguments with ``--model.parameters`` replaced by the ``--model.h_dim`` that fits.

    Of all widths, that one's number of parameters is nearest. Other sizes stay as they are.

    Raises:
        ValueError: If the number is none such as 300k or 1.2M, the model has no ``h_dim``, or its
            smallest has more parameters.
    """
    parser = Parser(add_help=False)
    parser.add_argument("--model.parameters", dest="wanted")
    typed, rest = parser.parse_known_args(list(args))
    if typed.wanted is None:
        return rest
    match = re.fullmatch(r"(\d+\.?\d*)([kM]?)", typed.wanted)
    if match is None:
        rule = "must be a number such as 300k or 1.2M"
        raise ValueError(f"'--model.parameters' {rule}, got '{typed.wanted}'")
    wanted, experiment = float(match[1]) * UNITS[match[2]], describe(rest)
    corpus = experiment.corpus()
    if "h_dim" not in experiment.model:
        name = experiment.model["name"]
        raise ValueError(f"'--model.parameters' needs a model with an option h_dim, got '{name}'")

    def num_parameters(h_dim: int) -> int:
        of_width = dataclasses.replace(experiment, model=experiment.model | {"h_dim": h_dim})
        net = of_width.net(corpus.x_dim, corpus.missing)
        return sum(p.numel() for p in net.parameters())

    if (least := num_parameters(1)) > wanted:
        rule = f"must be at least {least:,}, those of h_dim 1 with these other sizes"
        raise ValueError(f"'--model.parameters' {rule}, got {typed.wanted}")
    top = 2
    while num_parameters(top) < wanted:
        top *= 2
    above = bisect_left(range(top), wanted, lo=1, key=num_parameters)
    h_dim = min(above - 1 or 1, above, key=lambda h_dim: abs(num_parameters(h_dim) - wanted))
    return [*rest, f"--model.h_dim={h_dim}"]
