"""A net and its model card, written to the Hugging Face Hub."""

import json
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from .._version import __version__
from ..models.files import description_of
from ..models.hub import FILE, check_name, package

CARD = """{front}
# {name}

A `{model}` network with the emission `{emission}` and {size:,} weights.
{about}

```python
import zforcing_pyro as zf

net = zf.load("hub:{name}")  # weights and plain values: nothing in the file is executed
```

What it is built from:

```json
{options}
```
"""


def push(net: Any, name: str, about: str = "", private: bool = False) -> str:
    """Writes a net and its model card to the hub, as one commit, and returns the commit's address.

    Args:
        net: A model, or a :class:`.SequenceModel`.
        name: OWNER/NAME; the repository is made if it is not there.
        about: Sentences for the card, in Markdown: data, bound and protocol, licence.
        private: Hides a new repository.

    Raises:
        ValueError: If the name is none, or the net cannot be saved, see :meth:`save`.
    """
    check_name(name)
    hub = package()
    with tempfile.TemporaryDirectory(prefix="zforcing-") as folder:
        net.save(file := Path(folder, FILE))
        facts = description_of(file)
        front = hub.ModelCardData(library_name="zforcing_pyro", tags=["pyro", "time-series"])
        text = CARD.format(
            front=f"---\n{front.to_yaml()}\n---",
            name=name,
            model=facts["model"]["name"],
            emission=facts["emission"]["name"],
            size=sum(weight.numel() for weight in load_file(file).values()),
            about=f"\n{about}" if about else "",
            options=json.dumps(facts, indent=1),
        )
        Path(folder, "README.md").write_text(text, encoding="utf-8")
        hub.create_repo(name, private=private, exist_ok=True)
        return hub.upload_folder(
            repo_id=name, folder_path=folder, commit_message=f"zforcing_pyro {__version__}"
        ).commit_url
