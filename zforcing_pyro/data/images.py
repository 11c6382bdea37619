"""Images as sequences of pixels or rows."""

from pathlib import Path

from torch import Tensor

from .corpus import Corpus


class ImageCorpus(Corpus):
    """Images of ``image_shape``, read row by row."""

    view = "image"
    suffix = ".png"

    def write(self, x: Tensor, file: Path) -> None:
        from matplotlib.image import imsave  # costs half a second, and only this needs it

        grey = x.reshape(self.image_shape).float().numpy()
        imsave(file, grey, cmap="gray", vmin=0, vmax=1)

    def as_text(self, x: Tensor) -> str:
        shades = " .:-=+*#%@"
        levels = (x.reshape(self.image_shape).clamp(0, 1) * (len(shades) - 1)).round().long()
        return "\n".join("".join(2 * shades[i] for i in row) for row in levels.tolist())
