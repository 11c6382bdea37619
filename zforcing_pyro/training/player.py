"""A net with what trains it; a critic is a second player, see :mod:`.adversary`."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ..estimators import SequenceELBO
from ..models import StochasticRNN
from ..models.free_running import free_run
from ..models.given import GivenSequences
from ..models.steps import State, detached, frame_before
from .adversary import GUIDE, Adversary, Compared
from .batches import Part
from .checkpoint import check_weights
from .curves import curve_sums
from .options import TrainingOptions


class Player(nn.Module):
    """A net on its device, its estimator, its optimiser, and the moving average of its weights."""

    def __init__(self, net: StochasticRNN, estimator: SequenceELBO, options: TrainingOptions):
        super().__init__()
        self.net, self.estimator, self.options = net, estimator, options
        self.own_share = 0.0  # of input frames that are the model's draws; set by the loop
        self.average = copy.deepcopy(net).requires_grad_(False) if options.ema_decay else None
        self.optimiser = torch.optim.AdamW(
            net.parameters(), options.lr, eps=1e-5, weight_decay=options.weight_decay, fused=True
        )

    @property
    def kept(self) -> StochasticRNN:
        """The net whose weights are validated and kept."""
        return self.net if self.average is None else self.average

    def given(self, part: Part, carried: State | None) -> GivenSequences:
        """Returns the net with a part of a batch, with some input frames drawn anew or dropped.

        Rows go on from the ``carried`` state unless they begin a sequence; None starts all anew.
        """
        given = self.net.given_batch(part.batch)
        if part.fresh is not None and carried is not None:
            start = given.state or self.net.initial_state(len(given.x))
            fresh = part.fresh.to(given.x.device)[:, None]
            given.state = start | {k: torch.where(fresh, start[k], v) for k, v in carried.items()}
        if self.own_share:
            own = torch.rand(given.x.shape[:2], device=given.x.device) < self.own_share
            given.inputs = free_run(self.net, given.x, given.state, own).x
        if self.options.frame_dropout:
            share = torch.rand(given.x.shape[:2], device=given.x.device)
            frames = given.x if given.inputs is None else given.inputs
            given.inputs = self.net.drop_frames(frames, share < self.options.frame_dropout)
        return given

    def forward(
        self, given: GivenSequences, scale: float, adversary: Adversary | None = None
    ) -> tuple[Tensor, Tensor, State, Compared | None]:
        """Returns the loss of a part of a batch, its sums for the curves, and its last state.

        DDP averages the gradients of a module's forward, so the loss is one. An ``adversary`` adds
        its opinion, and the last result is what it compares.
        """
        with self.moments(given):
            objective = self.estimator.objective(given)
        self.net.observe(objective.terms)
        loss, compared = -objective.value.sum() * scale, None
        if adversary is not None:
            cost, compared = adversary.compare(given, objective.terms)
            loss = loss if cost is None else loss + cost * scale
        # A NaN loss can have finite gradients. Multiply by NaN so that every process skips.
        loss = loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)
        state = detached(objective.terms.state or {})
        return loss, curve_sums(objective, given), state, compared

    @contextmanager
    def moments(self, given: GivenSequences) -> Iterator[None]:
        """Moves the running moments of the costs, if any, to the backward states seen meanwhile."""
        if self.net.costs is None or not self.net.costs.has_moments:
            yield
            return
        states = []
        hook = self.net.backward_rnn.register_forward_hook(lambda *args: states.append(args[-1]))
        with hook:
            yield
        batch = self.net.batch(given.x, given.lengths)
        self.net.costs.observe(states[-1], batch.x, batch.mask, frame_before(given.state))

    def step(self, guide_only: bool = False) -> Tensor:
        """Takes an optimiser step unless a gradient is not finite; returns the gradient's norm.

        With ``guide_only``, of what the guide alone has: posterior, backward network and costs.
        """
        if guide_only:
            for name, parameter in self.net.named_parameters():
                if name.partition(".")[0] not in GUIDE:
                    parameter.grad = None
        twist = [] if self.net.twist is None else list(self.net.twist.parameters())
        ids = set(map(id, twist))
        rest = [p for p in self.net.parameters() if id(p) not in ids]
        norm = clip_grad_norm_(rest, self.options.clip)
        if twist:  # clipped apart, and as finite
            norm = norm + 0 * clip_grad_norm_(twist, self.options.clip)
        if norm.isfinite():
            self.optimiser.step()
        return norm

    @torch.no_grad()
    def average_weights(self, update: int) -> None:
        """Moves the average after so many updates; its decay rises to forget initial weights."""
        if self.average is not None:
            decay = min(self.options.ema_decay, update / (9 + update))
            for average, weight in zip(self.average.parameters(), self.net.parameters()):
                average.lerp_(weight, 1 - decay)
            for kept, buffer in zip(self.average.buffers(), self.net.buffers()):
                kept.copy_(buffer)

    def state(self) -> dict[str, Any]:
        """Returns what :meth:`restore` takes; ``weights`` are those that are kept."""
        state = {"weights": self.kept.state_dict(), "optimiser": self.optimiser.state_dict()}
        return state if self.average is None else state | {"current": self.net.state_dict()}

    def restore(self, state: dict[str, Any], file: Any, name: Any) -> None:
        """Loads a :meth:`state` of a net of class ``name`` from a checkpoint ``file``.

        Raises ValueError if weights do not fit the net. Moments that do not fit, and a state of
        another kind, raise AttributeError, KeyError or TypeError.
        """
        for net, key in ((self.kept, "weights"), (self.net, "current")):
            if key == "weights" or self.average is not None:
                check_weights(net, state[key], file, name)
                net.load_state_dict(state[key])
        moments, rate = state["optimiser"]["state"], state["optimiser"]["param_groups"][0]["lr"]
        shapes = {i: p.shape for i, p in enumerate(self.net.parameters())}
        for key in ("exp_avg", "exp_avg_sq"):
            if moments and {i: moment[key].shape for i, moment in moments.items()} != shapes:
                raise TypeError("moments of other parameters")
        if any(moment["step"].numel() != 1 for moment in moments.values()):
            raise TypeError("moments without steps")
        group = self.optimiser.state_dict()["param_groups"][0] | {"lr": 0.0 + rate}
        self.optimiser.load_state_dict({"state": moments, "param_groups": [group]})


def gathered_rows(state: State | None, fabric: Fabric) -> State | None:
    """Returns the rows of a state of all processes, which were dealt to them in turn."""
    if state is None or fabric.world_size == 1:
        return state
    gather: Any = fabric.all_gather
    rows = {name: gather(value) for name, value in state.items()}  # (world, ...)
    return {name: value.movedim(0, -2).flatten(-3, -2) for name, value in rows.items()}


def own_rows(state: State, fabric: Fabric) -> State:
    """Returns this process's rows of a state of all processes, on its device."""
    mine = slice(fabric.global_rank, None, fabric.world_size)
    return {name: value[..., mine, :].to(fabric.device) for name, value in state.items()}
