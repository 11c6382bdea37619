"""Published bounds by data set, as the papers print them."""

from typing import NamedTuple


class Published(NamedTuple):
    """Numbers of papers on one data set.

    Args:
        unit: Unit and direction.
        rows: Model and number.
        source: The papers, and how these numbers compare with those of this package.
    """

    unit: str
    rows: list[tuple[str, str]]
    source: str

    @property
    def caption(self) -> str:
        return f"Published: {self.source}"


ZFORCING = "Goyal et al. (2017)"
SPEECH = [
    ("RNN-Gauss", "3539", "-1900"),
    ("RNN-GMM", "7413", "26643"),
    ("VRNN-I-Gauss", ">= 8933", ">= 28340"),
    ("VRNN-Gauss", ">= 9223", ">= 28805"),
    ("VRNN-GMM", ">= 9392", ">= 28982"),
    ("SRNN (smooth, resq)", ">= 11991", ">= 60550"),
    ("Z-Forcing, no costs", ">= 14435", ">= 68132"),
    ("Z-Forcing + kla", ">= 14226", ">= 68903"),
    ("Z-Forcing + aux", ">= 15430", ">= 69530"),
    ("Z-Forcing + kla, aux", ">= 15024", ">= 70469"),
]
"""Table 1: Blizzard, TIMIT."""
MUSIC = [
    ("DMM (Krishnan 2017)", "6.388 (6.926)", "2.770 (2.964)", "7.835 (7.980)", "6.831 (6.989)"),
    ("DMM-Aug", "6.288 (6.773)", "2.679 (2.856)", "7.591 (7.721)", "6.356 (6.476)"),
    ("STORN, as quoted there", "6.91", "2.85", "7.13", "6.16"),
    ("RNN", "8.71", "4.46", "8.37", "8.13"),
    ("RNN-NADE", "5.19", "2.31", "7.05", "5.60"),
]
IMDB = [
    ("Z-Forcing, alpha = 0", "0.12", "53.93 / 52.40", "54.67 / 53.11"),
    ("Z-Forcing, alpha = 0.0025", "3.03", "55.71 / 52.54", "56.57 / 53.37"),
    ("Z-Forcing, alpha = 0.005", "9.82", "65.03 / 58.13", "65.84 / 58.83"),
]
"""Table 2: KL in nats a sentence, perplexity of validation and test, ELBO / IWAE-25."""


def music(column: int) -> Published:
    """Returns the rows of one corpus of piano-rolls."""
    return Published(
        "nats per step, lower is better: importance-sampled (bound)",
        [(row[0], row[column]) for row in MUSIC],
        "minus log p(x), total over total steps, whole songs, as quoted in Krishnan et al. (2017).",
    )


PUBLISHED = {
    "timit": Published(
        "nats per test sequence",
        [(name, value) for name, _, value in SPEECH],
        f"{ZFORCING}, Table 1, on the full corpus, first frame not scored, no floor of the scale. "
        "Numbers on a sample of it do not compare.",
    ),
    "blizzard": Published(
        "nats per window of 0.5 s",
        [(name, value) for name, value, _ in SPEECH],
        f"{ZFORCING}, Table 1, first frame not scored, no floor of the scale.",
    ),
    "binarized_mnist": Published(
        "nats per image, lower is better",
        [
            ("Z-Forcing, no costs", "<= 80.60"),
            ("Z-Forcing + aux", "<= 80.09"),
            ("Professor Forcing (3 layers)", "79.58"),
            ("PixelRNN (1 layer)", "80.75"),
            ("PixelRNN (7 layers)", "79.20"),
            ("DRAW", "<= 80.97"),
            ("MatNets", "78.50"),
            ("NADE", "88.33"),
        ],
        f"{ZFORCING}: minus log p(x), pixel by pixel, the fixed binarisation.",
    ),
    "imdb": Published(
        "perplexity of test, ELBO / IWAE-25",
        [(name, value) for name, _, _, value in IMDB],
        f"{ZFORCING}, Table 2. The paper's sentences and tokens were never published, so that "
        "perplexities do not compare.",
    ),
    "jsb": music(1),
    "nottingham": music(2),
    "piano": music(3),
    "muse": music(4),
}
