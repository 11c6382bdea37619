"""``zforcing compress``."""

from pathlib import Path

from ..folders import check_output
from ..terminal import Parser, Progress, say, show, user_path

EPILOG = """Files are of the kind of the run's data: .npy (0 and 1, symbols, or samples divided by
128), .wav of 8 bits, .mid, .png in black and white, .txt. 'zforcing decompress' gives them back
byte for byte, on the same machine with the same packages and the same run."""


def compress(args: list[str]) -> None:
    """Writes files into one archive, coded by the model of a run."""
    parser = Parser("compress", description=compress.__doc__, epilog=EPILOG)
    parser.add_argument("files", metavar="FILE", nargs="+", help="file to compress")
    parser.add_argument("--run", required=True, help="folder of the run whose model codes")
    parser.add_argument("--out", required=True, help="archive to write")
    parser.add_argument("--batch_size", type=int, default=1, help="sequences coded side by side: "
                        "more are faster and make small archives larger")  # fmt: skip
    parser.add_argument("--content_only", action="store_true", help="take files of which a model "
                        "reads a part, such as songs without their tempo")  # fmt: skip
    parser.add_shared("--data_dir")
    arguments = parser.parse_args(args)
    from ...data.writing import replacing
    from ..archive import MAGIC, pack
    from ..experiment import opened

    files = [Path(user_path(file, "FILE")) for file in arguments.files]
    out = Path(user_path(arguments.out, "--out"))
    check_output("--out", out, {str(file): file for file in files})
    if out.is_file() and out.stat().st_size and not out.read_bytes().startswith(MAGIC):
        raise ValueError(f"'--out' must be a new file or an archive to replace, got '{out}'")
    _, net, corpus = opened(arguments.run, arguments.data_dir, check=False)
    with Progress() as progress:
        archive, sizes = pack(
            net,
            corpus,
            files,
            arguments.batch_size,
            arguments.content_only,
            lambda done, total: progress.report("sequences", done, total),
        )
    with replacing(out) as file:
        file.write(archive)
    rest = sizes.archive - sizes.code - sizes.initial
    show(f"{sizes.archive:,} bytes for {sum(f.stat().st_size for f in files):,} in {out}")
    show(f"  {sizes.sequences:,} sequences of {sizes.steps:,} steps: {sizes.code:,.0f} bytes, "
         f"{sizes.code / sizes.bound - 1:+.2%} from the model's bound")  # fmt: skip
    show(f"  header and checksum {rest:,.0f} bytes, initial bits {sizes.initial:,} bytes")
    say(f"next: zforcing decompress {out} --run {arguments.run} --out DIR")
