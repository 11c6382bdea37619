"""``zforcing train``."""

from __future__ import annotations

from pathlib import Path

from .common import say


def train(args: list[str]) -> None:
    """Trains a model and writes its run."""
    from ..data import collate
    from ..experiment import describe, help_text, load_experiment
    from ..models.checks import check_sequences

    if {"-h", "--help"} & set(args):
        print(help_text(args))
        return
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
    elif resume:
        say(f"no run in '{run}' yet: it begins")
    corpus, estimator = experiment.corpus(), experiment.estimator()
    net = experiment.net(corpus.x_dim)
    splits = corpus.split("train"), corpus.split("valid")
    experiment.training.check(estimator)
    x, lengths, _ = collate([splits[0][0]])
    check_sequences(x, lengths, net.emission)
    experiment.save(run, corpus, ["zforcing", "train", *args])
    from ..training.fit import fit

    num = sum(p.numel() for p in net.parameters())
    say(f"{experiment.model['name']}, {num:,} parameters, on {corpus.title} ({corpus.version})")
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
    say(
        f"validation {bound:.4f} nats per {corpus.step} ({experiment.bound['name']} with "
        f"K={estimator.num_particles}, KL weight 1, costs excluded, total over total steps)"
    )
    say(f"run in {run}; next: zforcing evaluate {run} --split test")
