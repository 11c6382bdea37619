"""Times draws of a model: ``python -m experiments.benchmarks.generation``, taken in turns.

``generate`` is the net's own. ``by_hand`` calls the parts of Z-Forcing in a plain loop without
gradients. ``programs`` traces the model's program, as every model could be drawn.
"""

import argparse

import torch
from pyro import poutine

from .configurations import CONFIGURATIONS, Problem, problem
from .measure import clocked, first, interleaved, pin, quartiles


@torch.no_grad()
def by_hand(given: Problem) -> torch.Tensor:
    """Returns draws of Z-Forcing by a loop over its parts."""
    net, num, xs = given.net, len(given.x), []
    state = net.initial_state(num)
    h, c, x = state["h"], state["c"], net.embed.start(given.x)
    for _ in range(given.x.shape[1]):
        z = net.prior(h).rsample()
        h, c = net.cell(net.embed(x), z, (h, c))
        x = net.emission(h).sample()
        xs.append(x)
    return torch.stack(xs, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", nargs="+", default=["SMALL", "MUSIC"])
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    print(pin())
    for name in options.configurations:
        given = problem(CONFIGURATIONS[name])
        program = poutine.trace(poutine.uncondition(given.net.model))
        steps = {
            "by_hand": lambda given=given: by_hand(given),
            "generate": lambda given=given: given.net.generate(*given.x.shape[:2]),
            "programs": torch.no_grad()(
                lambda given=given, program=program: program.get_trace(given.x, given.lengths)
            ),
        }
        firsts = {key: first(step) for key, step in steps.items()}
        timed = {key: clocked(step) for key, step in steps.items()}
        times = interleaved(timed, firsts, options.seconds)
        medians = {key: quartiles(value.cpu)[1] for key, value in times.items()}
        for key, median in medians.items():
            ratio, rounds = median / medians["by_hand"], len(times[key])
            print(f"{name} {key}: {median:.1f} ms CPU, {ratio:.2f} of by_hand, {rounds} rounds")


if __name__ == "__main__":
    main()
