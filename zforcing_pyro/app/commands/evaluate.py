"""``zforcing evaluate``."""

import json
import os

from ..terminal import Parser, Progress, show

EPILOG = """--bound.OPTION sets an option of the bound, such as --bound.alpha 0.5. The bound that a
run was trained with keeps the options of training."""


def evaluate(args: list[str]) -> None:
    """Prints the bound of a split with its protocol; under torchrun, by all processes together."""
    arguments, rest = evaluation_parser().parse_known_args(args)
    from ...analysis.evaluation import evaluate as evaluated
    from ...data.formats.files import check_room
    from ...estimators import ESTIMATORS, TraceTwisted
    from ...training.twists import fit_twist
    from ..configuration import chosen
    from ..experiment import opened

    chosen("bound", arguments.bound, ESTIMATORS)
    if arguments.fit < 0 or (arguments.fit and arguments.bound != "twisted"):
        raise ValueError(
            f"'--bound.fit' must be 0, or positive with --bound twisted, got {arguments.fit}"
        )
    experiment, net, corpus = opened(arguments.run, arguments.data_dir)
    estimator = experiment.estimator_for(arguments.bound, arguments.particles, rest)
    check_room(1e3 * arguments.particles, f"--particles {arguments.particles}")
    sequences, notes = experiment.measured(corpus, arguments.split)
    first = first_process()
    if isinstance(estimator, TraceTwisted) and arguments.fit:
        training, _ = experiment.measured(corpus, "train")
        fit_twist(net, training, estimator, arguments.fit, arguments.seed)
        draws = "training data" if estimator.learn == "value" else "the model's own draws"
        notes.append(f"twist fitted by {arguments.fit} updates on {draws}")
    with Progress() as progress:
        result = evaluated(
            net,
            sequences,
            estimator,
            bound=arguments.bound,
            split=arguments.split,
            note="; ".join(notes),
            seed=arguments.seed,
            progress=lambda done: progress.report("sequences", done, len(sequences)),
        )
    if not first:
        return
    if arguments.json:
        show(json.dumps(result.as_dict()))
        return
    error = result.standard_error
    error = "" if error is None else f" +- {error:.3f} (standard error)"
    show(f"{arguments.run}, {arguments.split}: {corpus.title}")
    show(f"  {result.nats_per_sequence:.3f}{error} nats per sequence")
    show(f"  {result.nats_per_step:.4f} nats per {corpus.step}")
    in_use = f", {result.latents_in_use} of {result.num_latents} latents in use"
    show(f"  KL {result.kl_per_sequence:.3f} nats per sequence" + in_use * bool(result.num_latents))
    if result.bits_per_dim is None:
        show("  a density: the bound depends on the unit of the data, and bits are not given")
    else:
        word = "" if result.perplexity is None else f", perplexity {result.perplexity:.3f}"
        show(f"  {result.bits_per_dim:.4f} bits per dimension{word}")
    if result.ess_mean is not None:
        k = "" if result.high_pareto_k is None else (
            f", Pareto k-hat above 0.7 in {result.high_pareto_k:.0%} of sequences"
        )  # fmt: skip
        show(f"  importance weights: effective sample size {result.ess_mean:.1f} of "
             f"{result.particles} (median {result.ess_median:.1f}){k}")  # fmt: skip
    show(f"  {result.num_sequences} sequences, {result.num_steps} steps")
    show(f"  protocol: {result.protocol}")


def evaluation_parser() -> Parser:
    """Returns a parser of the command's options but those of the bound."""
    shared = "run --split --seed --data_dir --json"
    parser = Parser("evaluate", shared, description=evaluate.__doc__, epilog=EPILOG)
    parser.add_argument("--bound", default="elbo", help="elbo, iwae, renyi, fivo, twisted, ...; "
                        "without gradients stl is elbo, and dreg and rws are iwae")  # fmt: skip
    parser.add_argument("--particles", type=int, default=1, help="draws K of the latents")
    parser.add_argument("--bound.fit", type=int, default=0, dest="fit", help="updates that fit a "
                        "twist to training data or the model's own draws first, "
                        "by --bound.learn, for twisted")  # fmt: skip
    return parser


def first_process() -> bool:
    """Joins the processes that torchrun has started, if any; returns whether this is the first."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return True
    import torch.distributed

    torch.distributed.init_process_group("gloo")  # for numbers, which are on the CPU
    return torch.distributed.get_rank() == 0
