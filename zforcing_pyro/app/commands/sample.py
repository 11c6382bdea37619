"""``zforcing sample``."""

from pathlib import Path

from ..folders import writing
from ..terminal import Parser, say, user_path

FILES = 8  # written one by one
SHOWN = 100  # in the picture


def sample(args: list[str]) -> None:
    """Draws sequences from the model and writes them, with a picture beside real ones."""
    parser = Parser("sample", "--seed --data_dir", description=sample.__doc__)
    parser.add_argument("run", nargs="?", help="folder of a run")
    parser.add_argument("--pretrained", metavar="NAME", help="a net that comes with the package, "
                        "jsb or mnist5k, instead of a run; it needs no data")  # fmt: skip
    parser.add_argument("--num", type=int, help="sequences; by default 36, or as many as test has")
    parser.add_argument(
        "--steps", type=int, help="of each; by default as the data's median, for text its longest"
    )
    parser.add_argument("--prefix", type=int, help="steps of test sequences that are continued")
    parser.add_argument("--out", help="folder; by default RUN/samples, or samples-NAME")
    arguments = parser.parse_args(args)
    for name in ("num", "steps", "prefix"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise ValueError(f"'--{name}' must be positive, got {getattr(arguments, name)}")
    if (arguments.run is None) == (arguments.pretrained is None):
        raise ValueError(
            "'run' must be the folder of a run, or left out with '--pretrained', got "
            f"{arguments.run} and {arguments.pretrained}"
        )
    if arguments.pretrained is not None and arguments.prefix:
        raise ValueError("'--prefix' must be left out with '--pretrained', which reads no data")
    import numpy as np
    import torch

    from ...analysis.plots import real_and_generated, sequences
    from ...data.formats.files import check_room
    from ..experiment import opened
    from ..pretrained import opened as opened_pretrained

    if arguments.pretrained is not None:
        net, corpus, usual = opened_pretrained(arguments.pretrained)
        test, num_enough = None, 36
    else:
        _, net, corpus = opened(arguments.run, arguments.data_dir)
        test = corpus.split("test")
        usual = int(test.lengths.max() if corpus.view == "text" else test.lengths.median())
        enough = test.lengths >= (arguments.prefix or 1)
        num_enough = int(enough.sum())
    steps = arguments.steps or usual
    if corpus.view == "image" and steps != usual:
        raise ValueError(f"'--steps' must be {usual}, those of an image, got {steps}")
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
    real, prefix = [], None
    if test is not None:
        order = torch.randperm(len(test))
        real = [test[i].x for i in order[enough[order]][:num].tolist()]
    if arguments.prefix:
        prefix = torch.stack([x[: arguments.prefix] for x in real])
        prefix = prefix.to(next(net.parameters()).device)
    inside = None
    if arguments.out:
        out = Path(user_path(arguments.out, "--out"))
    elif test is None:
        out = Path(f"samples-{arguments.pretrained}")
    else:
        inside = Path(user_path(arguments.run, "run"))
        out = inside / "samples"
    with writing(out, inside) as folder:
        x = net.generate(num, steps, prefix).cpu()
        np.savez_compressed(folder / "samples.npz", x=x.numpy())
        if real:
            figure = real_and_generated(corpus, real[:SHOWN], list(x[:SHOWN]))
        else:
            figure = sequences(list(x[:SHOWN]), corpus).figure
        figure.savefig(folder / "samples.png")
        for i, sequence in enumerate(x[:FILES]):
            corpus.write(sequence, folder / f"sample-{i:02d}{corpus.suffix}")
    say(f"{num} sequences of {steps} steps: {out / 'samples.npz'}")
    say(f"the first as files: {out / f'sample-00{corpus.suffix}'}, ...")
    say(f"{'beside real ones' if real else 'as a picture'}: {out / 'samples.png'}")
