"""``zforcing decompress``."""

from pathlib import Path

from ..folders import writing
from ..terminal import Parser, Progress, show, user_path


def decompress(args: list[str]) -> None:
    """Writes the files of an archive that 'zforcing compress' made."""
    parser = Parser("decompress", description=decompress.__doc__)
    parser.add_argument("archive", metavar="ARCHIVE", help="file that 'zforcing compress' wrote")
    parser.add_argument("--run", required=True, help="folder of the run that coded it")
    parser.add_argument("--out", required=True, help="folder for the files")
    parser.add_shared("--data_dir")
    arguments = parser.parse_args(args)
    from ...data.formats.files import check_regular, check_room
    from ..archive import read_archive, unpack
    from ..experiment import opened

    file = Path(user_path(arguments.archive, "ARCHIVE"))
    check_regular(file)
    check_room(4 * file.stat().st_size, file)
    archive = file.read_bytes()
    read_archive(archive, str(file))  # before a net is loaded
    _, net, corpus = opened(arguments.run, arguments.data_dir, check=False)
    out = Path(user_path(arguments.out, "--out"))
    with Progress() as progress, writing(out) as folder:
        report = lambda done, total: progress.report("sequences", done, total)  # noqa: E731
        names = unpack(archive, str(file), net, corpus, folder, report)
    show(f"{len(names)} files: {out / names[0]}" + (", ..." if len(names) > 1 else ""))
