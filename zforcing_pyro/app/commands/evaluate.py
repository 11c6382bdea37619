"""``zforcing evaluate``."""

from __future__ import annotations

import json

from .common import Parser, first_process, loaded


def evaluate(args: list[str]) -> None:
    """Prints the bound of a split with its protocol; under torchrun, by all processes together."""
    from ...estimators import ESTIMATORS

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
    from ...analysis.evaluation import evaluate as evaluated

    first = first_process()
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
    if not first:
        return
    if options.json:
        print(json.dumps(result.as_dict()))
        return
    error = result.standard_error
    error = "" if error is None else f" +- {error:.3f} (standard error)"
    print(f"{options.run}, {options.split}: {corpus.title}")
    print(f"  {result.nats_per_sequence:.3f}{error} nats per sequence")
    print(f"  {result.nats_per_step:.4f} nats per {corpus.step}")
    print(f"  KL {result.kl_per_sequence:.3f} nats per sequence", end="")
    if result.num_latents:
        print(f", {result.latents_in_use} of {result.num_latents} latents in use", end="")
    if result.bits_per_dim is not None:
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
