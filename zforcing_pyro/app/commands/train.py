"""``zforcing train``."""

from __future__ import annotations

from pathlib import Path

from .common import say


def train(args: list[str]) -> int:
    """Trains a model and writes its run.

    Returns:
        0; or 3 if gradients were not finite any more; or 128 and the number of the signal that
        stopped it, after which ``--resume`` goes on: 143 for SIGTERM, 138 for SIGUSR1.
    """
    from ...data import collate
    from ...models.checks import check_sequences
    from ...training.support import check_support
    from ..arguments import help_text
    from ..experiment import describe, load_corpus, load_experiment

    if {"-h", "--help"} & set(args):
        print(help_text(args))
        return 0
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
    corpus = load_corpus(run, experiment) if begun else experiment.corpus()
    estimator = experiment.estimator()
    net = experiment.net(corpus.x_dim, corpus.missing)
    splits = corpus.split("train"), corpus.split("valid")
    experiment.training.check(estimator)
    check_support(net, splits[0], corpus.emission)
    x, lengths, _ = collate([splits[0][0]])
    check_sequences(x, lengths, net.emission)
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    from ...training.callbacks import Stopped
    from ...training.fit import fit
    from ...training.nonfinite import NonFinite

    first = rank_zero_only.rank == 0  # of the processes that have been started for this run
    num = sum(p.numel() for p in net.parameters())
    if first:
        experiment.save(run, corpus, ["zforcing", "train", *args])
        if resume and not begun:
            say(f"no run in '{run}' yet: it begins")
        say(f"{experiment.model['name']}, {num:,} parameters, on {corpus.title}; {corpus.version}")
    try:
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
    except Stopped as stop:
        # Of several processes one says so: that another has ended is no error, or it ends them all.
        if not first:
            return 0
        say(f"{run}: {stop}")
        return 128 + stop.signal_number
    except NonFinite as error:
        say(f"zforcing: error: {error}")
        say(f"the last checkpoint of '{run}' is from before; its curves are in metrics.csv")
        return 3
    if first:
        say(
            f"validation {bound:.4f} nats per {corpus.step} ({experiment.bound['name']} with "
            f"K={estimator.num_particles}, KL weight 1, costs excluded, total over total steps)"
        )
        say(f"run in {run}; next: zforcing evaluate {run} --split test")
    return 0
