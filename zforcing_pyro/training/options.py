"""Options of a training run, in five groups."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

from ..estimators import SequenceELBO
from .adversary_options import AdversaryOptions
from .limits import Options, number
from .schedules import Schedule, Shape


@dataclass(frozen=True, kw_only=True)
class OptimiserOptions(Options):
    """Batches and updates: Adam (eps 1e-5) on nats per sequence, gradients clipped by norm.

    Args:
        batch_size: Sequences in an update, of all devices and accumulated parts together.
        accumulate: Parts of an update's batch, computed one after the other to save memory.
        shuffle: Draw a new order of the sequences in every epoch.
        bucket: Make batches of sequences of similar lengths.
        window: Steps of the windows that training sequences are cut into; 0 keeps them whole.
        carry_state: Start a window from the state that the window before left, as a constant.
        frame_dropout: Share of the recurrence's input frames that are dropped in training.
        transpose: Largest number of keys by which a sequence of piano-rolls is moved in training,
            up or down, drawn anew in each epoch; 0 is none.
        lr: Learning rate.
        lr_schedule: Halve the rate when the validation bound stops improving, keep the rate, or
            let it fall to its floor by the last update.
        lr_floor: Lowest learning rate of a schedule.
        lr_warmup: Updates in which the learning rate rises from 0; nothing is halved in them.
        patience: Validations without an improvement before the rate is halved.
        weight_decay: Decoupled weight decay (AdamW); 0 is plain Adam.
        clip: Largest norm of the gradient of all parameters together.
        ema_decay: Decay of a moving average of the weights, validated and kept; 0 is none.
        inner_updates: Updates of the guide alone, on batches of their own, before each update
            (aggressive inference: He et al., 2019, https://arxiv.org/abs/1901.05534).
        inner_until: Updates after which there are none any more. The paper stops them when the
            mutual information of x and z stops rising; here the number is given.
        max_skipped: Updates in a row with gradients that are not finite, hence skipped, that end
            the run with a diagnosis.
    """

    batch_size: int = number(32, least=1)
    accumulate: int = number(1, least=1)
    shuffle: bool = True
    bucket: bool = True
    window: int = number(0, least=0)
    carry_state: bool = False
    frame_dropout: float = number(0.0, least=0, most=1)
    transpose: int = number(0, least=0)
    lr: float = number(1e-3, above=0)
    lr_schedule: Literal["halve", "constant", "cosine", "linear"] = "halve"
    lr_floor: float = number(1e-4, least=0)
    lr_warmup: int = number(0, least=0)
    patience: int = number(4, least=0)
    weight_decay: float = number(0.0, least=0)
    clip: float = number(100.0, above=0)
    ema_decay: float = number(0.0, least=0, most=1)
    inner_updates: int = number(0, least=0)
    inner_until: int = number(0, least=0)
    max_skipped: int = number(10, least=1)

    def learning_rate(self, update: int, num_updates: int) -> float | None:
        """Returns the scheduled learning rate after ``update`` updates; None leaves it as it is.

        Example:
            >>> options = TrainingOptions(lr=1.0, lr_floor=0.5, lr_schedule="cosine", lr_warmup=2)
            >>> [options.learning_rate(update, 12) for update in (0, 1, 2, 7, 12)]
            [0.5, 1.0, 1.0, 0.75, 0.5]
        """
        if update < self.lr_warmup:
            return self.lr * (update + 1) / self.lr_warmup
        if self.lr_schedule in ("cosine", "linear"):
            floor, falling = min(self.lr, self.lr_floor), max(1, num_updates - self.lr_warmup)
            return Schedule(self.lr, floor, falling, self.lr_schedule)(update - self.lr_warmup)
        return None


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions(Options):
    """Weights of the objective: each goes from its start to its end in some updates.

    Args:
        kl_start: Weight of the KL at the first update; unset is the bound's own weight.
        kl_end: Weight of the KL in the end; unset is the bound's own weight.
        kl_updates: Updates that the change takes, or the period of a cycle.
        kl_shape: Shape of the change; "cyclical" starts again after each period.
        aux_start: Weight of the auxiliary cost at the first update; unset is the model's weight.
        aux_end: Weight of the auxiliary cost in the end; unset is the model's weight.
        aux_updates: Updates that the change takes, or the period of a cycle.
        aux_shape: Shape of the change.
        reverse_start: Weight of the reverse cost at the first update; unset is the model's weight.
        reverse_end: Weight of the reverse cost in the end; unset is the model's weight.
        reverse_updates: Updates that the change takes, or the period of a cycle.
        reverse_shape: Shape of the change.
        kl_target: Nats of KL a step below which a multiplier lowers the weight of the KL, see
            :func:`.schedules.steered`; 0 is none.
        free_bits: Nats of a batch's mean KL that cost nothing, in training only; 0 is none.
        free_bits_per: Give free bits to each step, or to each latent of each step.
    """

    kl_start: float | None = number(None, least=0)
    kl_end: float | None = number(None, least=0)
    kl_updates: int = number(0, least=0)
    kl_shape: Shape = "linear"
    kl_target: float = number(0.0, least=0)
    aux_start: float | None = number(None, least=0)
    aux_end: float | None = number(None, least=0)
    aux_updates: int = number(0, least=0)
    aux_shape: Shape = "linear"
    reverse_start: float | None = number(None, least=0)
    reverse_end: float | None = number(None, least=0)
    reverse_updates: int = number(0, least=0)
    reverse_shape: Shape = "linear"
    free_bits: float = number(0.0, least=0)
    free_bits_per: Literal["step", "latent"] = "step"

    def schedules(self, kl: float, aux: float, reverse: float) -> tuple[Schedule, ...]:
        """Returns the schedules of the three weights; unset ends are the arguments."""
        return tuple(
            Schedule(own if start is None else start, own if end is None else end, updates, shape)
            for own, start, end, updates, shape in (
                (kl, self.kl_start, self.kl_end, self.kl_updates, self.kl_shape),
                (aux, self.aux_start, self.aux_end, self.aux_updates, self.aux_shape),
                (reverse, self.reverse_start, self.reverse_end, self.reverse_updates,
                 self.reverse_shape),
            )
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(Options):
    """Validation, checkpoints and the end of a run.

    Args:
        validate_every: Updates between validations; 0 is once an epoch.
        validate_on: Sequences of validation that are used, a fixed choice; 0 is all.
        eval_window: Steps of the windows, each from a new state, of validation and evaluation; 0
            keeps sequences whole.
        early_stop: Validations without an improvement, from the end of the KL's schedule on, after
            which training ends; 0 is never.
        keep: Keep the weights that were best on validation, or the last ones.
        checkpoint_every: Updates between checkpoints beside those at each validation; 0 is none.
        checkpoint_minutes: Minutes between such checkpoints; 0 is none.
        loggers: Loggers of the curves beside metrics.csv; tensorboard where it is installed.
    """

    validate_every: int = number(0, least=0)
    validate_on: int = number(0, least=0)
    eval_window: int = number(0, least=0)
    early_stop: int = number(0, least=0)
    keep: Literal["best", "last"] = "best"
    checkpoint_every: int = number(0, least=0)
    checkpoint_minutes: float = number(10.0, least=0)
    loggers: list[Literal["csv", "tensorboard", "wandb", "mlflow"]] = field(
        default_factory=lambda: ["tensorboard"] if find_spec("tensorboard") else []
    )


@dataclass(frozen=True, kw_only=True)
class HardwareOptions(Options):
    """Devices, precision and memory.

    Args:
        accelerator: Kind of device; auto takes a GPU if there is one.
        devices: Devices of each machine, or processes on CPUs, that share an update's batch;
            torchrun's own number where torchrun has started the process.
        nodes: Machines, which share the folder of the run.
        precision: Precision of weights and, if mixed, of matrix products.
        matmul_precision: Precision of float32 products, see torch.set_float32_matmul_precision.
        head_mb: Megabytes of a head's widest layer that an update may keep; larger heads are
            computed in blocks of steps, and once more for the gradient.
        num_threads: CPU threads of torch; 0 leaves torch's own choice.
    """

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = number(1, least=1)
    nodes: int = number(1, least=1)
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "32-true"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    head_mb: float = number(256.0, above=0)
    num_threads: int = number(1, least=0)


GROUPS = OptimiserOptions, ScheduleOptions, AdversaryOptions, CheckpointOptions, HardwareOptions


# A dataclass lists the fields of its last base first.
@dataclass(frozen=True, kw_only=True)
class TrainingOptions(
    HardwareOptions, CheckpointOptions, AdversaryOptions, ScheduleOptions, OptimiserOptions
):
    """All options of a training run; each is documented in its group."""

    def __post_init__(self):
        super().__post_init__()
        if self.batch_size < self.accumulate:
            most = f"'batch_size' {self.batch_size}"
            raise ValueError(f"'accumulate' must be at most {most}, got {self.accumulate}")
        if self.carry_state and not self.window:
            raise ValueError("'window' must be positive with 'carry_state', got 0")
        if self.carry_state and self.transpose:
            raise ValueError(f"'transpose' must be 0 with 'carry_state', got {self.transpose}")
        if self.carry_state and self.accumulate > 1:
            raise ValueError(f"'accumulate' must be 1 with 'carry_state', got {self.accumulate}")
        if bool(self.inner_updates) != bool(self.inner_until) or (
            self.inner_updates and self.carry_state
        ):
            raise ValueError(
                "'inner_updates' and 'inner_until' must come together, and without 'carry_state', "
                f"got {self.inner_updates}, {self.inner_until} and {self.carry_state}"
            )
        for name, start, updates in (
            ("kl", self.kl_start, self.kl_updates),
            ("aux", self.aux_start, self.aux_updates),
            ("reverse", self.reverse_start, self.reverse_updates),
        ):
            if start is not None and not updates:
                raise ValueError(f"'{name}_updates' must be positive with '{name}_start', got 0")
        self.check_adversary()

    def schedules(self, kl: float, aux: float, reverse: float) -> tuple[Schedule, ...]:
        return super().schedules(0.0 if self.replaces_kl else kl, aux, reverse)

    def check(self, estimator: SequenceELBO) -> None:
        """Raises ValueError if an option makes no sense with a bound."""
        self.check_bound(estimator)
        name, weighs_kl = type(estimator).__name__, hasattr(estimator, "kl_weight")
        if self.carry_state and not weighs_kl:
            raise ValueError(
                f"'carry_state' must be false with {name}: the terms of windows add up in an ELBO "
                "(elbo, stl); particles that go on without their weights have no common bound"
            )
        if ((self.kl_start, self.kl_end) != (None, None) or self.kl_target) and not weighs_kl:
            raise ValueError(
                f"'kl_start' and 'kl_end' must be unset, and 'kl_target' 0, with {name}, got "
                f"{self.kl_start}, {self.kl_end} and {self.kl_target}: annealing weighs the "
                "KL of an ELBO (elbo, stl); within an importance weight it changes which particles "
                "count, and the result is no bound"
            )
        if self.free_bits and not getattr(estimator, "analytic_kl", False):
            raise ValueError(
                f"'free_bits' must be 0 with {name}, got {self.free_bits}: they are a floor of a "
                "batch's mean KL in closed form (elbo with analytic_kl); an importance weight, and "
                "a draw of log q - log p, has none"
            )
