"""Z-Forcing once more, from the paper's equations, one sequence and one step at a time.

Plain PyTorch on purpose: nothing from the package, no Pyro, no distributions, no masks and no
batches, so that it shares no mistake with what it checks. Parameters go by the package's names.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Oracle:
    """One net, given its parameters and options. Values are those of one sequence, in nats."""

    parameters: dict[str, Tensor]
    emission: str
    min_scale: float = 0.0
    aux_weight: float = 0.0
    reverse_weight: float = 0.0
    injection: str = "concat"
    aux_kind: str = "gaussian"
    aux_input: str = "z"
    aux_tanh: bool = True
    reverse_needs_aux: bool = False
    clamp: float = 8.0
    scale: str = "log_scale"

    def objective(
        self,
        x: Tensor,
        noise: Tensor,
        bound: str,
        kl_weight: float = 1.0,
        x_prev: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Bound plus costs, and bound, of one sequence without padding.

        Args:
            x: Observations, ``(time, ...)``.
            noise: Standard normal, ``(particles, time, z_dim)``.
            bound: ``"analytic"``, ``"sampled"`` or ``"iwae"``.
            kl_weight: Weight of the KL in the first two.
            x_prev: The frame before the first.
            inputs: What the forward recurrence reads in place of ``x``.
        """
        runs = [self.run(x, particle, x_prev, inputs) for particle in noise]
        costs = sum(r["auxiliary"] + r["reverse"] for r in runs) / len(runs)
        if bound == "iwae":
            weights = [(r["emission"] + r["prior"] - r["posterior"]).exp() for r in runs]
            value = (sum(weights) / len(weights)).log()
        else:
            values = []
            for r in runs:
                kl = r["kl"] if bound == "analytic" else r["posterior"] - r["prior"]
                values.append(r["emission"] - kl_weight * kl)
            value = sum(values) / len(values)
        return value + costs, value

    def run(self, x: Tensor, noise: Tensor, x_prev: Tensor | None, inputs: Tensor | None) -> dict:
        """The sums over one sequence's steps, for one draw of its latents."""
        sums = dict.fromkeys(("prior", "posterior", "emission", "kl", "auxiliary", "reverse"), 0.0)
        num_steps, b = len(x), self.backward(x)
        h = c = torch.zeros(self.parameters["cell.weight_h"].shape[1])
        for t in range(num_steps):
            # Eqs. 5 and 7: both see h_{t-1}, and not the input of this step.
            mu_p, sigma_p = self.gaussian("prior.mlp", h)
            mu_q, sigma_q = self.gaussian("posterior.mlp", torch.cat([h, b[t]]))
            z = mu_q + sigma_q * noise[t]
            sums["prior"] += log_normal(z, mu_p, sigma_p)
            sums["posterior"] += log_normal(z, mu_q, sigma_q)
            for i in range(len(z)):
                ratio, shift = sigma_q[i] / sigma_p[i], (mu_q[i] - mu_p[i]) / sigma_p[i]
                sums["kl"] += (ratio**2 + shift**2 - 1) / 2 - ratio.log()
            sums["auxiliary"] += self.auxiliary(z, h, b[t])
            frame_before = x_prev if t == 0 else x[t - 1]
            if frame_before is not None:
                sums["reverse"] += self.reverse(b[t], frame_before)
            # Eq. 4: the input of this step is the frame before it.
            if t == 0:
                fed = self.start(x) if x_prev is None else x_prev
            else:
                fed = x[t - 1] if inputs is None else inputs[t - 1]
            h, c = self.forward(self.embed(fed), z, h, c)
            sums["emission"] += self.log_emission("emission.mlp", h, x[t])
        return sums

    def backward(self, x: Tensor) -> dict[int, Tensor]:
        """Eq. 6: b_t has read x_{T-1}, ..., x_t."""
        w_x, w_h, bias_x, bias_h = (
            self.parameters[f"backward_rnn.lstm.{name}_l0"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        states, h = {}, torch.zeros(w_h.shape[1])
        c = h
        for t in reversed(range(len(x))):
            h, c = lstm(w_x @ self.embed(x[t]) + bias_x + w_h @ h + bias_h, c)
            states[t] = h
        return states

    def forward(self, e: Tensor, z: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        w_x, w_h, bias = (self.parameters[f"cell.{n}"] for n in ("weight_x", "weight_h", "bias"))
        if self.injection == "concat":
            return lstm(w_x @ e + self.parameters["cell.weight_z"] @ z + w_h @ h + bias, c)
        gain_x, bias_x, gain_h, bias_h = self.network("cell.condition", z).split(len(bias))
        from_x = (1 + gain_x) * normalized(w_x @ e) + bias_x
        from_h = (1 + gain_h) * normalized(w_h @ h) + bias_h
        return lstm(from_x + from_h + bias, c)

    def auxiliary(self, z: Tensor, h_past: Tensor, b: Tensor) -> Tensor | float:
        """Eq. 8, with nothing flowing into its target."""
        if self.aux_weight == 0:
            return 0.0
        read = torch.cat([h_past, z]) if self.aux_input == "h_z" else z
        target = b.detach()
        if self.aux_kind == "l2":
            mean = self.network("costs.auxiliary", read)
            mean = mean.tanh() if self.aux_tanh else mean
            return -self.aux_weight * ((target - mean) ** 2).sum()
        mean, sigma = self.gaussian("costs.auxiliary.mlp", read)
        mean = mean.tanh() if self.aux_tanh else mean
        return self.aux_weight * log_normal(target, mean, sigma)

    def reverse(self, b: Tensor, frame_before: Tensor) -> Tensor | float:
        """The second cost of Eq. 10."""
        if self.reverse_weight == 0 or (self.reverse_needs_aux and self.aux_weight == 0):
            return 0.0
        return self.reverse_weight * self.log_emission("costs.reverse.mlp", b, frame_before)

    def log_emission(self, name: str, features: Tensor, y: Tensor) -> Tensor:
        output = self.network(name, features)
        if self.emission == "bernoulli":
            return sum(-(1 + (-o if y_i == 1 else o).exp()).log() for o, y_i in zip(output, y))
        if self.emission == "categorical":
            return output[y] - output.exp().sum().log()
        mean, log_sigma = output[: len(y)], output[len(y) :]
        return log_normal(y, mean, log_sigma.exp() + self.min_scale)

    def gaussian(self, name: str, features: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network(name, features)
        if self.clamp:
            output = torch.minimum(output, torch.tensor(self.clamp))
            output = torch.maximum(output, torch.tensor(-self.clamp))
        mean, log = output[: len(output) // 2], output[len(output) // 2 :]
        return mean, log.exp() if self.scale == "log_scale" else log.exp().sqrt()

    def network(self, name: str, v: Tensor) -> Tensor:
        """Affine maps with leaky ReLUs of slope 1/3, clipped to [-3, 3], between them."""
        i = 0
        while f"{name}.layers.{i}.weight" in self.parameters:
            if i > 0:
                v = torch.where(v > 0, v, v / 3)
                v = torch.minimum(torch.maximum(v, torch.tensor(-3.0)), torch.tensor(3.0))
            v = self.parameters[f"{name}.layers.{i}.weight"] @ v
            v = v + self.parameters[f"{name}.layers.{i}.bias"]
            i += 1
        return v

    def embed(self, frame: Tensor) -> Tensor:
        if "embed.table.weight" in self.parameters:
            return self.parameters["embed.table.weight"][frame]
        if "embed.linear.weight" in self.parameters:
            weight, bias = (self.parameters[f"embed.linear.{n}"] for n in ("weight", "bias"))
            return weight @ frame + bias
        return frame

    def start(self, x: Tensor) -> Tensor:
        if "embed.table.weight" in self.parameters:
            return torch.tensor(len(self.parameters["embed.table.weight"]) - 1)
        return torch.zeros(x.shape[1])


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = gates.split(len(c))
    c = c / (1 + (-f).exp()) + g.tanh() / (1 + (-i).exp())
    return c.tanh() / (1 + (-o).exp()), c


def normalized(v: Tensor) -> Tensor:
    centred = v - v.mean()
    return centred / ((centred**2).mean() + 1e-5).sqrt()


def log_normal(x: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    return (-(((x - mean) / sigma) ** 2) / 2 - sigma.log() - math.log(2 * math.pi) / 2).sum()
