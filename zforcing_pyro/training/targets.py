"""Diagnostics of the costs on a backward state: is the auxiliary target worth predicting?"""

import warnings
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from ..layers.blocks import length_mask
from ..models import StochasticRNN, ZForcing
from ..models.given import GivenSequences

TRIVIAL_R2, TRIVIAL_BETWEEN, ADAM_EPS = 0.9, 0.1, 1e-5


class TargetFit:
    """Context that watches a net's auxiliary target b_t while the net computes terms.

    It sees how well the auxiliary network predicts b_t, how well a linear map of h_{t-1} would
    (of Z-Forcing), and how much of the variance of b_t is between sequences at a fixed step. A
    target that the past predicts, or that is a clock, asks nothing of the latents.
    """

    def __init__(self, net: StochasticRNN):
        self.net = net
        self.hooks: list[Any] = []
        self.sums: dict[str, Tensor] = {}

    def __enter__(self) -> "TargetFit":
        costs = self.net.costs
        is_state = not getattr(self.net, "has_bag", False)  # of a bag nothing is measured
        if costs is not None and costs.auxiliary is not None and is_state:
            self.hooks = [
                self.net.backward_rnn.register_forward_hook(self.see_target),
                costs.auxiliary.register_forward_hook(self.see_mean),
            ]
            if isinstance(self.net, ZForcing):
                self.hooks.append(self.net.prior.register_forward_hook(self.see_past))
        return self

    def __exit__(self, *error) -> None:
        for hook in self.hooks:
            hook.remove()

    def add(self, name: str, value: Tensor) -> None:
        """Adds to a sum over batches; a longer first dim makes the sum longer."""
        value = value.detach().cpu().double()  # in this order: some devices have no float64
        total = self.sums.get(name, value.new_zeros(value.shape))
        if value.dim() and len(total) != len(value):
            size = max(len(total), len(value))
            total, value = (
                torch.cat([v, v.new_zeros(size - len(v), *v.shape[1:])]) for v in (total, value)
            )
        self.sums[name] = total + value

    def see_target(self, module: nn.Module, args: tuple, b: Tensor) -> None:
        """Adds moments of b, ``(batch, time, b_dim)``, by step; ``args`` hold the lengths."""
        self.b, self.mask = b, length_mask(args[1], b.shape[1])
        self.num_seen = self.num_past = 0
        self.add("by_step", torch.where(self.mask[..., None], b, 0).sum(0))
        self.add("counts", self.mask.sum(0))
        self.add("square", b[self.mask].square().sum())

    def see_mean(self, module: nn.Module, args: tuple, output: Any) -> None:
        """Adds the squared error of the auxiliary network, whose ``output`` is a block of steps."""
        costs = self.net.costs
        assert costs is not None
        mean = (output.tanh() if costs.tanh_mean else output) if costs.kind == "l2" else output.mean
        if mean.dim() == 4:  # (particles, batch, time, b_dim), and not a step of a program
            block = slice(self.num_seen, self.num_seen + mean.shape[2])
            b, mask, self.num_seen = self.b[:, block], self.mask[:, block], block.stop
            error = (costs.target(b) - mean) * costs.target_scale
            self.add("error", error[:, mask].square().mean(0).sum())

    def see_past(self, module: nn.Module, args: tuple, output: Any) -> None:
        """Adds the normal equations of b_t on h_{t-1}, all steps or one of a filter."""
        if args[0].dim() == 4:
            h = args[0][0]
            block = slice(self.num_past, self.num_past + h.shape[1])
            b, mask, self.num_past = self.b[:, block], self.mask[:, block], block.stop
            h, b = h[mask].cpu().double(), b[mask].cpu().double()
            h = torch.cat([h, torch.ones_like(h[:, :1])], 1)
            self.add("gram", h.T @ h)
            self.add("cross", h.T @ b)

    def row(self, fabric: Fabric) -> dict[str, float]:
        """Returns the row of the curves, over all processes; empty without a target."""
        if "error" not in self.sums:
            return {}
        if fabric.world_size > 1:
            # Steps of the longest sequence on any process.
            size = torch.tensor(len(self.sums["counts"]), device=fabric.device)
            for value in fabric.all_gather(size).tolist():  # type: ignore[union-attr]
                for name in ("by_step", "counts"):
                    self.add(name, self.sums[name].new_zeros(value, *self.sums[name].shape[1:]))
            self.sums = {
                name: fabric.all_reduce(value.to(fabric.device), reduce_op="sum").cpu()  # type: ignore[union-attr]
                for name, value in sorted(self.sums.items())
            }
        sums, num = self.sums, self.sums["counts"].sum()
        mean = sums["by_step"].sum(0) / num
        total = sums["square"] / num - mean.square().sum()
        step_means = sums["by_step"] / sums["counts"][:, None].clamp(min=1)
        clock = (sums["counts"][:, None] * step_means.square()).sum() / num - mean.square().sum()
        total = total.clamp(min=1e-12)
        row = {
            "valid_target_r2": (1 - sums["error"] / num / total).item(),
            "valid_target_variance": (total / len(mean)).item(),
            "valid_target_between": (1 - clock / total).item(),
        }
        if "gram" in sums:
            ridge = 1e-6 * num * torch.eye(len(sums["gram"]), dtype=torch.float64)
            slope = torch.linalg.solve(sums["gram"] + ridge, sums["cross"])
            explained = (slope * sums["cross"]).sum() / num - mean.square().sum()
            row["valid_target_r2_past"] = (explained / total).item()
        return row


def warn_of_trivial_target(row: dict[str, float]) -> bool:
    """Warns, and returns True, if a row of a validation says that the target is trivial.

    A state h_{t-1} that predicts b_t counts only while no latent is in use: it has read earlier
    latents, and may know the plan from them.
    """
    past, between = row.get("valid_target_r2_past", 0.0), row.get("valid_target_between", 1.0)
    in_use = row.get("valid_latents_in_use", 0)
    if (past <= TRIVIAL_R2 or in_use) and between >= TRIVIAL_BETWEEN:
        return False
    warnings.warn(
        f"The auxiliary target b_t is trivial: h_(t-1) alone explains {past:.2f} of its variance "
        f"(R2), and {between:.2f} of it is between sequences at a fixed step. Latents need no plan "
        "to predict it. What may help: --model.reverse_weight 1 (on speech: with "
        "--model.reverse_unit frame)",
        stacklevel=2,
    )
    return True


def warn_of_faint_costs(net: StochasticRNN, given: GivenSequences) -> None:
    """Warns of a cost whose gradient Adam would not see: below its eps on what it trains."""
    if net.costs is None or not (net.weights.aux or net.weights.reverse):
        return
    with torch.enable_grad():
        terms = given.terms()
        costs = {"aux": terms.auxiliary, "reverse": terms.reverse}
        for name, part in (("aux", net.posterior), ("reverse", net.backward_rnn)):
            weight, parameters = getattr(terms.weights, name), list(part.parameters())
            if not weight or not costs[name].requires_grad:
                continue
            loss = weight * costs[name].sum() / len(given.x)
            slopes = torch.autograd.grad(
                loss, parameters, retain_graph=True, materialize_grads=True
            )
            size = torch.cat([slope.flatten() for slope in slopes]).square().mean().sqrt().item()
            if size < ADAM_EPS:
                warnings.warn(
                    f"The {name} cost does nothing: at weight {weight:g} the root mean square of "
                    f"its gradient is {size:.1e}, below Adam's eps of {ADAM_EPS:g}. Raise "
                    f"--model.{name}_weight, or set it to 0",
                    stacklevel=2,
                )
