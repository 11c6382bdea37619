"""``zforcing sample``."""

from __future__ import annotations

from pathlib import Path

from .common import Parser, loaded, say

FILES = 8  # written one by one
SHOWN = 100  # in the picture


def sample(args: list[str]) -> None:
    """Draws sequences from the model and writes them, with a picture beside real ones."""
    parser = Parser(prog="zforcing sample", description=sample.__doc__)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("--num", type=int, help="sequences; by default 36, or as many as test has")
    parser.add_argument(
        "--steps", type=int, help="of each; by default as the data's median, for text its longest"
    )
    parser.add_argument("--prefix", type=int, help="steps of test sequences that are continued")
    parser.add_argument("--out", help="folder; by default RUN/samples")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--data_dir", help="where data files are, before $ZFORCING_DATA")
    options = parser.parse_args(args)
    for name in ("num", "steps", "prefix"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ValueError(f"'--{name}' must be positive, got {getattr(options, name)}")
    import numpy as np
    import torch

    _, net, corpus = loaded(options)
    from ...analysis.plots import real_and_generated

    test = corpus.split("test")
    usual = test.lengths.max() if corpus.view == "text" else test.lengths.median()
    steps = options.steps or int(usual)
    if corpus.view == "image" and steps != usual:
        raise ValueError(f"'--steps' must be {int(usual)}, those of an image, got {steps}")
    enough = test.lengths >= (options.prefix or 1)
    num_enough = int(enough.sum())
    if not num_enough:
        longest = int(test.lengths.max())
        raise ValueError(
            f"'--prefix' must be at most {longest}, steps of the longest, got {options.prefix}"
        )
    num = options.num or min(36, num_enough)
    if options.prefix and num > num_enough:
        raise ValueError(
            f"'--num' must be at most {num_enough}, the test sequences of {options.prefix} "
            f"steps or more, got {num}"
        )
    torch.manual_seed(options.seed)
    order = torch.randperm(len(test))
    chosen = order[enough[order]][:num].tolist()
    prefix = None
    if options.prefix:
        prefix = torch.stack([test[i].x[: options.prefix] for i in chosen])
        prefix = prefix.to(next(net.parameters()).device)
    x = net.generate(num, steps, prefix).cpu()
    folder = Path(options.out or Path(options.run, "samples"))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "samples.npz", x=x.numpy())
    real = [test[i].x for i in chosen[:SHOWN]]
    real_and_generated(corpus, real, list(x[:SHOWN])).savefig(folder / "samples.png")
    for i, sequence in enumerate(x[:FILES]):
        corpus.write(sequence, folder / f"sample-{i:02d}{corpus.suffix}")
    say(f"{num} sequences of {steps} steps: {folder / 'samples.npz'}")
    say(f"the first as files: {folder / f'sample-00{corpus.suffix}'}, ...")
    say(f"beside real ones: {folder / 'samples.png'}")
