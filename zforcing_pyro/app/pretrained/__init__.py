"""Small trained nets that come with the package, each with a model card ``NAME.md``."""

from pathlib import Path
from typing import Any

from ...data import Corpus, corpus
from ...models import StochasticRNN
from ...models.files import description_of, load_net

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(file.stem for file in FOLDER.glob("*.safetensors")))


def file_of(name: str) -> Path:
    """Returns the file of a net; ValueError if no net has the name."""
    if name not in NAMES:
        raise ValueError(f"'pretrained' must be one of {list(NAMES)}, got '{name}'")
    return FOLDER / f"{name}.safetensors"


def located(place: str) -> str:
    """Returns the file that ``pretrained:NAME`` names, and other places as they are."""
    prefix, _, name = place.partition(":")
    return str(file_of(name)) if prefix == "pretrained" else place


def opened(name: str) -> tuple[StochasticRNN, Corpus, int]:
    """Returns a net, its data set without any file read, and the usual number of its steps."""
    about: dict[str, Any] = description_of(file_of(name))
    return load_net(file_of(name)), corpus(**about["data"]), about["steps"]
