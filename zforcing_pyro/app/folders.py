"""Folders that commands write samples and examples to."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITTEN = ".zforcing.json"
"""File of names and checksums that the last call wrote: only those files are replaced."""


def check_output(option: str, file: Any, inputs: dict[str, Any]) -> None:
    """Raises ValueError if a file to write is one of the inputs, or lies in a run's folder."""
    from ..training.folder import MARKER

    out = Path(file).expanduser().resolve()
    for name, place in inputs.items():
        if place and Path(place).expanduser().resolve() == out:
            raise ValueError(f"'{option}' must be another file than '{name}', got '{file}'")
    if any((folder / MARKER).exists() for folder in out.parents):
        raise ValueError(f"'{option}' must be outside of the folders of runs, got '{file}'")


@contextmanager
def writing(folder: Path, inside: Path | None = None) -> Iterator[Path]:
    """Yields an empty folder whose files are moved to ``folder`` at the end, each one whole.

    Files of an earlier call are replaced, if they are as that call left them; ``folder`` may hold
    no others. No link is followed ``inside`` the run's folder, if ``folder`` lies there.
    """
    from ..data.corpus import digest
    from ..data.writing import refuse_links, replacing

    if inside is not None:
        refuse_links(folder, inside)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = sorted(folder.iterdir())
        names = [path.name for path in paths if path.name != WRITTEN or path.is_symlink()]
        text = (folder / WRITTEN).read_text("utf-8") if (folder / WRITTEN).is_file() else "{}"
        ours = dict(json.loads(text))
        foreign = [
            name
            for name in names
            if (folder / name).is_symlink() or ours.get(name) != digest(folder / name)
        ]
    except (OSError, TypeError, ValueError) as error:
        rule = "must be a folder that can be written"
        reason = getattr(error, "strerror", None) or f"'{WRITTEN}' is broken"
        raise ValueError(f"'--out' {rule}, got '{folder}': {reason}") from error
    if foreign:
        rule = "must be a new or an empty folder, or as an earlier call left it"
        raise ValueError(f"'--out' {rule}, got '{folder}', which holds '{foreign[0]}'")
    with tempfile.TemporaryDirectory(prefix="zforcing-") as new:
        try:
            yield Path(new)
        except OSError as error:
            if error.errno and error.filename is None:  # such as of a full disk
                raise OSError(error.errno, error.strerror, new) from error
            raise
        files = sorted(Path(new).iterdir())
        for file in files:
            with open(file, "rb") as source, replacing(folder / file.name, inside) as target:
                shutil.copyfileobj(source, target)
        with replacing(folder / WRITTEN, inside) as target:
            target.write(json.dumps({file.name: digest(file) for file in files}).encode())
        for name in {*names} - {file.name for file in files}:
            (folder / name).unlink()
