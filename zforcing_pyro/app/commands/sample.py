"""``zforcing sample``."""

from pathlib import Path

from ..folders import writing
from ..terminal import Parser, say, user_path

FILES = 8  # written one by one
SHOWN = 100  # in the picture


def sample(args: list[str]) -> None:
    """Draws sequences from the model and writes them, with a picture beside real ones."""
    parser = Parser("sample", "run --seed --data_dir", description=sample.__doc__)
    parser.add_argument("--num", type=int, help="sequences; by default 36, or as many as test has")
    parser.add_argument(
        "--steps", type=int, help="of each; by default as the data's median, for text its longest"
    )
    parser.add_argument("--prefix", type=int, help="steps of test sequences that are continued")
    parser.add_argument("--out", help="folder; by default RUN/samples")
    arguments = parser.parse_args(args)
    for name in ("num", "steps", "prefix"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise ValueError(f"'--{name}' must be positive, got {getattr(arguments, name)}")
    import numpy as np
    import torch

    from ...analysis.plots import real_and_generated
    from ...data.formats.files import check_room
    from ..experiment import opened

    _, net, corpus = opened(arguments.run, arguments.data_dir)
    test = corpus.split("test")
    usual = test.lengths.max() if corpus.view == "text" else test.lengths.median()
    steps = arguments.steps or int(usual)
    if corpus.view == "image" and steps != usual:
        raise ValueError(f"'--steps' must be {int(usual)}, those of an image, got {steps}")
    enough = test.lengths >= (arguments.prefix or 1)
    num_enough = int(enough.sum())
    if not num_enough:
        longest = int(test.lengths.max())
        raise ValueError(
            f"'--prefix' must be at most {longest}, steps of the longest, got {arguments.prefix}"
        )
    num = arguments.num or min(36, num_enough)
    if arguments.prefix and num > num_enough:
        raise ValueError(
            f"'--num' must be at most {num_enough}, the test sequences of {arguments.prefix} "
            f"steps or more, got {num}"
        )
    check_room(64.0 * num * steps * corpus.x_dim, f"--num {num} --steps {steps}")
    torch.manual_seed(arguments.seed)
    order = torch.randperm(len(test))
    chosen = order[enough[order]][:num].tolist()
    prefix = None
    if arguments.prefix:
        prefix = torch.stack([test[i].x[: arguments.prefix] for i in chosen])
        prefix = prefix.to(next(net.parameters()).device)
    run = Path(user_path(arguments.run, "run"))
    out = Path(user_path(arguments.out, "--out")) if arguments.out else run / "samples"
    inside = None if arguments.out else run
    with writing(out, inside) as folder:
        x = net.generate(num, steps, prefix).cpu()
        np.savez_compressed(folder / "samples.npz", x=x.numpy())
        real = [test[i].x for i in chosen[:SHOWN]]
        real_and_generated(corpus, real, list(x[:SHOWN])).savefig(folder / "samples.png")
        for i, sequence in enumerate(x[:FILES]):
            corpus.write(sequence, folder / f"sample-{i:02d}{corpus.suffix}")
    say(f"{num} sequences of {steps} steps: {out / 'samples.npz'}")
    say(f"the first as files: {out / f'sample-00{corpus.suffix}'}, ...")
    say(f"beside real ones: {out / 'samples.png'}")
