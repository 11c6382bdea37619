"""Options of a second player, a critic, and of scheduled sampling."""

from dataclasses import dataclass
from typing import Any, Literal

from ..estimators import SequenceELBO
from .limits import Options, number


@dataclass(frozen=True, kw_only=True)
class AdversaryOptions(Options):
    """A critic as a second player, and scheduled sampling; see docs/critic.md.

    Args:
        adversary: Critic that tells free-running trajectories from teacher-forced ones, or draws of
            the posterior from those of the prior.
        adv_weight: Weight of the critic's opinion, beside nats per sequence; unset is 1, and 0.1
            for latents that also pay their KL.
        adv_warmup: Updates before the opinion counts; a critic of latents learns in them, one of
            trajectories rests.
        adv_updates: Updates after those in which the weight rises from 0.
        gate_low: Accuracy below which the opinion does not count; unset is 0.75, and 0 for latents.
        gate_high: Accuracy above which the critic does not learn; unset is 0.99, and 1 for latents.
        adv_mode: Critic of latents beside their KL, in its place, or as an estimate of it.
        adv_trains: Part that the critic of latents trains.
        critic_reads: A latent with what its prior depends on, or the latent alone.
        critic_pool: One verdict on a trajectory, or one on each step.
        critic_dim: Size of the critic's layers.
        critic_lr: Learning rate of the critic; unset is a tenth of lr, and half of it for latents.
        critic_steps: Steps of the critic in an update.
        teacher_weight: Weight of the critic's opinion on teacher-forced trajectories.
        scheduled_sampling: Share of input frames that are the model's own draws in training (Bengio
            et al., 2015, https://arxiv.org/abs/1506.03099).
        sampling_updates: Updates in which that share rises from 0.
    """

    adversary: Literal["none", "professor", "latent"] = "none"
    adv_weight: float | None = number(None, least=0)
    adv_warmup: int = number(200, least=0)
    adv_updates: int = number(0, least=0)
    gate_low: float | None = number(None, least=0, most=1)
    gate_high: float | None = number(None, least=0, most=1)
    adv_mode: Literal["regularised", "adversarial", "ratio"] = "regularised"
    adv_trains: Literal["posterior", "both"] = "posterior"
    critic_reads: Literal["z", "z_h"] = "z_h"
    critic_pool: Literal["mean", "step"] = "mean"
    critic_dim: int = number(128, least=1, most=2**20)
    critic_lr: float | None = number(None, above=0)
    critic_steps: int = number(1, least=1)
    teacher_weight: float = number(0.0, least=0)
    scheduled_sampling: float = number(0.0, least=0, most=1)
    sampling_updates: int = number(0, least=0)

    @property
    def replaces_kl(self) -> bool:
        """True if the objective has no KL, only a critic's opinion of the latents."""
        return self.adversary == "latent" and self.adv_mode != "regularised"

    @property
    def weight(self) -> float:
        """The weight of the critic's opinion, unless it is set."""
        if self.adv_weight is not None:
            return self.adv_weight
        return 0.1 if self.adversary == "latent" and not self.replaces_kl else 1.0

    @property
    def gates(self) -> tuple[float, float]:
        """The accuracies between which both players learn."""
        low, high = (0.75, 0.99) if self.adversary == "professor" else (0.0, 1.0)
        low = low if self.gate_low is None else self.gate_low
        return low, high if self.gate_high is None else self.gate_high

    def check_adversary(self: Any) -> None:
        """Raises ValueError if options of a whole run make no sense together."""
        for only, names in ONLY.items():
            for name in names:
                if self.adversary != only and getattr(self, name) != getattr(type(self), name):
                    rule = f"must be unset unless 'adversary' is '{only}'"
                    raise ValueError(f"'{name}' {rule}, got {getattr(self, name)!r}")
        if self.adversary != "none" and self.inner_updates:
            raise ValueError(
                f"'inner_updates' must be 0 with 'adversary' {self.adversary}, got "
                f"{self.inner_updates}"
            )
        free = {name: getattr(self, name) for name in ("frame_dropout", "scheduled_sampling")}
        if self.adversary == "professor" and any(free.values()):
            name, value = next(item for item in free.items() if item[1])
            raise ValueError(
                f"'{name}' must be 0 with 'adversary' professor, got {value}: a critic would tell "
                "trajectories by their inputs alone"
            )
        if self.carry_state and (self.adversary == "professor" or self.scheduled_sampling):
            raise ValueError(
                "'carry_state' must be false with 'adversary' professor and with "
                "'scheduled_sampling', got true: windows have no beginning to run freely from"
            )
        kl = {n: getattr(self, n) for n in ("kl_start", "kl_end", "kl_target", "free_bits")}
        if self.replaces_kl and any(kl.values()):
            name, value = next(item for item in kl.items() if item[1])
            raise ValueError(
                f"'{name}' must be unset with 'adv_mode' {self.adv_mode}, which has no KL, got "
                f"{value}"
            )

    def check_bound(self, estimator: SequenceELBO) -> None:
        """Raises ValueError if a critic makes no sense with a bound."""
        name, num = type(estimator).__name__, estimator.num_particles
        if self.adversary != "none" and not hasattr(estimator, "kl_weight"):
            raise ValueError(
                f"'adversary' must be 'none' with {name}, got '{self.adversary}': draws that are "
                "weighted or resampled are not those of one posterior; elbo and stl take a critic"
            )
        if self.adversary == "professor" and num > 1:
            raise ValueError(
                f"'num_particles' must be 1 with 'adversary' professor, got {num}: a critic reads "
                "one trajectory of each sequence"
            )


ONLY = {
    "professor": ("critic_pool", "teacher_weight"),
    "latent": ("adv_mode", "adv_trains", "critic_reads"),
}
"""Options of one kind of critic."""
