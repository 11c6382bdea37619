"""Folders that commands write samples and examples to."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(folder: Path, pattern: str, inside: Path | None = None) -> Iterator[Path]:
    """Yields an empty folder whose files are moved to ``folder`` at the end, each one whole.

    Older files of a series, such as sample-*, are replaced; no others than by the ``pattern`` of
    their names may be in ``folder``. No link is followed ``inside`` the run's folder, if ``folder``
    lies there.
    """
    from ..data.writing import refuse_links, replacing

    if inside is not None:
        refuse_links(folder, inside)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        rule = "must be a folder that can be written"
        raise ValueError(f"'--out' {rule}, got '{folder}': {error.strerror}") from error
    if foreign := [name for name in names if not re.fullmatch(pattern, name)]:
        rule = "must be a new or an empty folder"
        raise ValueError(f"'--out' {rule}, got '{folder}', which holds '{foreign[0]}'")
    with tempfile.TemporaryDirectory(prefix="zforcing-") as new:
        yield Path(new)
        files = sorted(Path(new).iterdir())
        for file in files:
            with open(file, "rb") as source, replacing(folder / file.name, inside) as target:
                shutil.copyfileobj(source, target)
        series = {file.name.partition("-")[0] for file in files if "-" in file.name}
        for name in {*names} - {file.name for file in files}:
            if name.partition("-")[0] in series:
                (folder / name).unlink()
