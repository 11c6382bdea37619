"""The README's model of one's own trains from the command line as the page says."""

import shutil
import subprocess
import sys

import pytest
from family_cases import README, blocks


@pytest.mark.slow
def test_a_new_model_trains_from_the_command_line(tmp_path):
    package = tmp_path / "zforcing_pyro"
    shutil.copytree(README.parent / "zforcing_pyro", package)
    file, line = blocks("A model of your own")
    (package / "models" / "local_level.py").write_text(file)
    registry = package / "models" / "__init__.py"
    text = registry.read_text().replace(
        "MODELS |= {", 'MODELS |= {\n    "local_level": LocalLevel,'
    )
    registry.write_text(line + text)
    command = [sys.executable, "-m", "zforcing_pyro", "train", "--model", "local_level"]
    options = ["--model.z_dim", "2", "--max_updates", "2", "--out", "run"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
