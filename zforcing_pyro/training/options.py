"""What can be chosen of a training run."""

import math
from dataclasses import dataclass
from typing import Literal

from ..estimators import SequenceELBO


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained: Adam (eps 1e-5) on nats per sequence, gradients clipped by norm.

    Args:
        batch_size: Sequences in an update, of all devices and accumulated parts together.
        accumulate: Parts that the batch of an update is worked off in, one after the other: the
            same update in less memory.
        lr: Learning rate.
        lr_schedule: Halve it when the validation bound has not improved, keep it, or let it fall
            to its floor along a cosine or a line by the last update.
        lr_floor: The learning rate falls no further.
        lr_warmup: Updates in which the learning rate rises from 0; nothing is halved in them.
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
        early_stop: Validations without an improvement after which training ends; 0 is never. It
            counts from where the weight of the KL has risen to its end.
        checkpoint_every: Updates between checkpoints beside those at each validation; 0 is none.
        checkpoint_minutes: The same by the clock.
        max_skipped: Updates in a row whose gradient is not finite, hence which are skipped, that
            end the run with a diagnosis.
        keep: Whether the run's net is the best on validation, or the last.
        shuffle: Whether every epoch has a new order.
        bucket: Whether batches are of sequences of similar lengths.
        window: Steps of the windows that training sequences are cut into; 0 is whole sequences.
        carry_state: Whether a window starts from the state that the one before left, as a constant
            (truncated back-propagation through time), in place of a new one.
        eval_window: The same for validation and evaluation, with the state reset in each window.
        accelerator: As in Lightning; auto takes a GPU if there is one.
        devices: Devices of each node, or processes on CPUs, that an update's batch is dealt to;
            torchrun's own number where that has started the process.
        nodes: Machines, which share the folder of the run.
        precision: As in Lightning: of weights and, if mixed, of matrix products.
        matmul_precision: Of float32 matrix products, see torch.set_float32_matmul_precision.
        head_mb: Megabytes of a head's widest layer that an update may keep. Where it is larger,
            heads are computed in blocks of steps, and once more for the gradient: the same numbers
            in less memory, for long sequences, many particles or symbols.
        num_threads: CPU threads of torch; 0 leaves its own choice.
    """

    batch_size: int = 32
    accumulate: int = 1
    lr: float = 1e-3
    lr_schedule: Literal["halve", "constant", "cosine", "linear"] = "halve"
    lr_floor: float = 1e-4
    lr_warmup: int = 0
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
    checkpoint_every: int = 0
    checkpoint_minutes: float = 10.0
    max_skipped: int = 10
    keep: Literal["best", "last"] = "best"
    shuffle: bool = True
    bucket: bool = True
    window: int = 0
    carry_state: bool = False
    eval_window: int = 0
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "32-true"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    head_mb: float = 256.0
    num_threads: int = 1

    def __post_init__(self):
        for name in (
            "batch_size",
            "accumulate",
            "lr",
            "clip",
            "kl_step",
            "aux_step",
            "reverse_step",
            "kl_share",
            "max_skipped",
            "devices",
            "nodes",
            "head_mb",
        ):
            if not getattr(self, name) > 0:  # nor NaN
                raise ValueError(f"'{name}' must be positive, got {getattr(self, name)}")
        for name in ("frame_dropout", "ema_decay", "kl_start", "kl_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"'{name}' must be in 0..1, got {getattr(self, name)}")
        for name in (
            "lr_floor",
            "lr_warmup",
            "kl_period",
            "free_bits",
            "patience",
            "weight_decay",
            "validate_every",
            "validate_on",
            "early_stop",
            "checkpoint_every",
            "checkpoint_minutes",
            "window",
            "eval_window",
            "num_threads",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"'{name}' must not be negative, got {getattr(self, name)}")
        if self.batch_size < self.accumulate:
            most = f"'batch_size' {self.batch_size}"
            raise ValueError(f"'accumulate' must be at most {most}, got {self.accumulate}")
        if self.carry_state and not self.window:
            raise ValueError("'window' must be positive for 'carry_state' to carry it, got 0")
        if self.carry_state and self.accumulate > 1:
            raise ValueError(f"'accumulate' must be 1 with 'carry_state', got {self.accumulate}")

    def learning_rate(self, update: int, num_updates: int) -> float | None:
        """The learning rate of an update by its schedule; None where it stays as it is.

        Args:
            update: Of how many that came before.
            num_updates: Of the run in all.

        Example:
            >>> options = TrainingOptions(lr=1.0, lr_floor=0.5, lr_schedule="cosine", lr_warmup=2)
            >>> [options.learning_rate(update, 12) for update in (0, 1, 2, 7, 12)]
            [0.5, 1.0, 1.0, 0.75, 0.5]
        """
        if update < self.lr_warmup:
            return self.lr * (update + 1) / self.lr_warmup
        if self.lr_schedule in ("halve", "constant"):
            return None
        done = (update - self.lr_warmup) / max(1, num_updates - self.lr_warmup)
        left = 1 - done if self.lr_schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
        floor = min(self.lr, self.lr_floor)
        return floor + (self.lr - floor) * left

    def kl_weight(self, update: int, end: float) -> float:
        """The weight of the KL at an update, which rises to ``end``.

        Args:
            update: Of how many that came before.
            end: The estimator's own.
        """
        if self.kl_period:
            return cyclical_weight(update, self.kl_start, self.kl_period, self.kl_share, end)
        return linear_weight(update, self.kl_start, self.kl_step, end) if self.kl_start < 1 else end

    def check(self, estimator: SequenceELBO) -> None:
        """Refuses training aids that make no sense with a bound.

        Raises:
            ValueError: If the KL is annealed, or partly free, within an importance weight, or if
                particles carry states whose weights are gone.
        """
        name = type(estimator).__name__
        if self.carry_state and not hasattr(estimator, "kl_weight"):
            raise ValueError(
                f"'carry_state' must be false with {name}: the terms of windows add up in an ELBO "
                "(elbo, stl); particles that go on without their weights have no bound in common"
            )
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
