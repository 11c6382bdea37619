"""What can be chosen of a training run."""

from dataclasses import dataclass
from typing import Literal

from ..estimators import SequenceELBO


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained: Adam (eps 1e-5) on nats per sequence, gradients clipped by norm.

    Args:
        batch_size: Sequences in an update.
        lr: Learning rate.
        lr_schedule: Halve it when the validation bound has not improved, or keep it.
        lr_floor: Halving stops there.
        patience: Validations without an improvement that are waited for before halving.
        weight_decay: Decoupled weight decay (AdamW); 0 is plain Adam.
        clip: Largest norm of the gradient of all parameters together.
        kl_start: Weight of the KL at the first update; 1 is no annealing.
        kl_step: What an update adds to it, up to 1 ("kla" in the paper: 0.2 and 5e-5).
        kl_period: Updates of a cycle of annealing, from kl_start to 1 and again (Fu et al., 2019),
            in place of one rise by kl_step; 0 is none.
        kl_share: Share of a cycle in which the weight rises; then it stays.
        free_bits: Nats that a KL may have for free, of a batch's mean; 0 is none. Training only.
        free_bits_per: Whether each step has them, or each dimension of the latents of a step.
        aux_start: Weight of the auxiliary cost at the first update; a negative one is no annealing.
        aux_step: What an update adds to it, up to the model's own weight.
        reverse_start: Weight of the reverse cost at the first update; negative is no annealing.
        reverse_step: What an update adds to it, up to the model's own weight.
        frame_dropout: Share of the recurrence's input frames that are dropped in training.
        ema_decay: Decay of an exponential moving average of the weights, which is then what is
            validated and kept; 0 is none.
        validate_every: Updates between validations; 0 is once an epoch.
        validate_on: Sequences of validation that are looked at, a fixed choice; 0 is all.
        early_stop: Validations without an improvement after which training ends; 0 is never.
        keep: Whether the run's net is the best on validation, or the last.
        shuffle: Whether every epoch has a new order.
        bucket: Whether batches are of sequences of similar lengths.
        window: Steps of the windows that training sequences are cut into; 0 is whole sequences.
        eval_window: The same for validation and evaluation, with the state reset in each window.
        accelerator: As in Lightning; auto takes a GPU if there is one.
        precision: As in Lightning: of weights and, if mixed, of matrix products.
        matmul_precision: Of float32 matrix products, see torch.set_float32_matmul_precision.
        num_threads: CPU threads of torch; 0 leaves its own choice.
    """

    batch_size: int = 32
    lr: float = 1e-3
    lr_schedule: Literal["halve", "constant"] = "halve"
    lr_floor: float = 1e-4
    patience: int = 4
    weight_decay: float = 0.0
    clip: float = 100.0
    kl_start: float = 1.0
    kl_step: float = 5e-5
    kl_period: int = 0
    kl_share: float = 0.5
    free_bits: float = 0.0
    free_bits_per: Literal["step", "latent"] = "step"
    aux_start: float = -1.0
    aux_step: float = 5e-5
    reverse_start: float = -1.0
    reverse_step: float = 5e-5
    frame_dropout: float = 0.0
    ema_decay: float = 0.0
    validate_every: int = 0
    validate_on: int = 0
    early_stop: int = 0
    keep: Literal["best", "last"] = "best"
    shuffle: bool = True
    bucket: bool = True
    window: int = 0
    eval_window: int = 0
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "32-true"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    num_threads: int = 1

    def __post_init__(self):
        for name in ("batch_size", "lr", "clip", "kl_step", "aux_step", "reverse_step", "kl_share"):
            if getattr(self, name) <= 0:
                raise ValueError(f"'{name}' must be positive, got {getattr(self, name)}")
        for name in ("frame_dropout", "ema_decay", "kl_start", "kl_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"'{name}' must be in 0..1, got {getattr(self, name)}")
        for name in (
            "lr_floor",
            "kl_period",
            "free_bits",
            "patience",
            "weight_decay",
            "validate_every",
            "validate_on",
            "early_stop",
            "window",
            "eval_window",
            "num_threads",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"'{name}' must not be negative, got {getattr(self, name)}")

    def check(self, estimator: SequenceELBO) -> None:
        """Refuses training aids that make no sense with a bound.

        Raises:
            ValueError: If the KL is annealed, or partly free, within an importance weight.
        """
        name = type(estimator).__name__
        if (self.kl_start != 1 or self.kl_period) and not hasattr(estimator, "kl_weight"):
            raise ValueError(
                f"'kl_start' must be 1 and 'kl_period' 0 with {name}, got {self.kl_start} and "
                f"{self.kl_period}: annealing weighs the KL of an ELBO (elbo, stl); within an "
                "importance weight it changes which particles count, and what is left is no bound"
            )
        if self.kl_period and self.kl_start == 1:
            raise ValueError("'kl_start' must be below 1 for 'kl_period' to anneal from, got 1.0")
        if self.free_bits and not getattr(estimator, "analytic_kl", False):
            raise ValueError(
                f"'free_bits' must be 0 with {name}, got {self.free_bits}: they are a floor of a "
                "batch's mean KL in closed form (elbo with analytic_kl); an importance weight, and "
                "a draw of log q - log p, has none"
            )


def linear_weight(update: int, start: float, step: float, end: float) -> float:
    """A weight that goes from ``start`` to ``end`` by ``step`` an update.

    Example:
        >>> [linear_weight(update, 0.2, 0.3, 1.0) for update in (0, 2, 9)]
        [0.2, 0.8, 1.0]
    """
    return min(end, start + step * update)


def cyclical_weight(update: int, start: float, period: int, share: float, end: float) -> float:
    """A weight that goes from ``start`` to ``end`` in the first ``share`` of each ``period``.

    Example:
        >>> [cyclical_weight(update, 0.0, 10, 0.5, 1.0) for update in (0, 3, 5, 9, 10, 13)]
        [0.0, 0.6, 1.0, 1.0, 0.0, 0.6]
    """
    return min(end, start + (end - start) * (update % period) / (share * period))
