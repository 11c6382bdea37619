"""Columns of different kinds in one observation; families of heavy tails and of bounds."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from ..data.checks import check_range
from ..layers.blocks import MLP, full_precision
from .base import Emission
from .normal import PartlyObserved
from .simple import Bernoulli, DiagNormal, NegativeBinomial, Poisson

SMALL, EDGE = 1e-3, 1e-6
"""Least scale of a Student-t variable and concentration of a Beta variable; and its edges."""


class StudentT(Emission):
    """Features to independent Student-t variables over a vector, with more than 2 degrees each.

    Args:
        in_dim, x_dim: Sizes of features and vector.
        hidden_dims: Sizes of hidden layers between features and vector.
        min_scale: Floor of the scale, added to it.
        missing: Whether NaN in a vector is a missing value, see :class:`PartlyObserved`.
    """

    num_outputs = 3
    """Outputs of the network for each number."""

    def __init__(
        self,
        in_dim: int,
        x_dim: int,
        hidden_dims: Sequence[int] = (),
        min_scale: float = SMALL,
        missing: bool = False,
    ):
        super().__init__()
        check_range(0, min_scale=min_scale)
        self.x_dim, self.min_scale, self.missing = x_dim, min_scale, missing
        self.mlp = MLP(in_dim, hidden_dims, self.num_outputs * x_dim)

    def forward(self, features: Tensor) -> dist.Distribution:
        variables = self.variables(*full_precision(self.mlp(features)).chunk(self.num_outputs, -1))
        return PartlyObserved(variables) if self.missing else variables.to_event(1)

    def variables(self, *outputs: Tensor) -> dist.StudentT | dist.Beta:
        """Returns the distribution of each number for the network's outputs, ``(..., x_dim)``."""
        df, loc, raw_scale = outputs
        return dist.StudentT(
            2 + softplus(df + 2) + SMALL, loc, softplus(raw_scale) + self.min_scale
        )


class Beta(StudentT):
    """Features to independent Beta variables over a vector of numbers between 0 and 1.

    Args:
        in_dim, x_dim: Sizes of features and vector.
        hidden_dims: Sizes of hidden layers between features and vector.
        missing: Whether NaN in a vector is a missing value, see :class:`PartlyObserved`.
    """

    num_outputs = 2
    support = dist.constraints.unit_interval

    def __init__(
        self, in_dim: int, x_dim: int, hidden_dims: Sequence[int] = (), missing: bool = False
    ):
        super().__init__(in_dim, x_dim, hidden_dims, missing=missing)

    def variables(self, *outputs: Tensor) -> dist.StudentT | dist.Beta:
        mean, total = outputs[0].sigmoid(), softplus(outputs[1] + 2)
        return BoundedBeta(mean * total + SMALL, (1 - mean) * total + SMALL)


class BoundedBeta(dist.Beta):
    """A Beta variable whose density at 0 and 1 is that at ``EDGE`` from there, hence finite."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return super().log_prob(value.clamp(EDGE, 1 - EDGE))


FAMILIES: dict[str, type[Emission]] = {
    "gaussian": DiagNormal,
    "student_t": StudentT,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "beta": Beta,
}
"""Families of independent numbers that a column may have."""
COUNTS, CLOSE = ("poisson", "negative_binomial"), 1e-3
"""Families of counts, and the relative error that the division by a unit may leave."""


class Columns(Emission):
    """Features to a vector of independent numbers, each of a family of its own.

    The last entries of the vector may be ``unscored``: covariates that networks read.

    Args:
        in_dim, x_dim: Sizes of features and vector.
        hidden_dims: Sizes of hidden layers between features and vector.
        families: Family of each scored number, of ``FAMILIES``; () is Gaussian everywhere.
        units: Unit of each scored number: a count divided by its unit is read and drawn. () is 1.
        unscored: Number of last entries that are given, not scored, and drawn as 0.
        min_scale: Floor of the scale of Gaussian and Student-t numbers, added to it.
        missing: Whether NaN in a scored number is a missing value.
    """

    def __init__(
        self,
        in_dim: int,
        x_dim: int,
        hidden_dims: Sequence[int] = (),
        families: Sequence[str] = (),
        units: Sequence[float] = (),
        unscored: int = 0,
        min_scale: float = 0.0,
        missing: bool = False,
    ):
        super().__init__()
        check_range(0, x_dim - 1, unscored=unscored)
        num = x_dim - unscored
        families = list(families) or ["gaussian"] * num
        units = list(units) or [1.0] * num
        if len(families) != num or len(units) != num or not {*families} <= FAMILIES.keys():
            raise ValueError(
                f"'families' and 'units' must be {num}, families of {list(FAMILIES)}, got "
                f"{families} and {units}"
            )
        self.x_dim, self.unscored, self.missing = x_dim, unscored, missing
        self.places = {f: [i for i, g in enumerate(families) if g == f] for f in families}
        self.units = {f: [units[i] for i in places] for f, places in self.places.items()}
        floors = {family: {"min_scale": min_scale} for family in ("gaussian", "student_t")}
        self.heads = nn.ModuleDict(
            {
                f: FAMILIES[f](in_dim, len(places), hidden_dims, **floors.get(f, {}))
                for f, places in self.places.items()
            }
        )

    def forward(self, features: Tensor) -> dist.Distribution:
        parts = {}
        for family, head in self.heads.items():
            variables = head(features).base_dist
            unit = features.new_tensor(self.units[family])
            if family == "poisson":
                variables = dist.Poisson(variables.rate * unit)
            elif family == "negative_binomial":
                logits = variables.logits + unit.log()
                variables = dist.NegativeBinomial(variables.total_count, logits=logits)
            parts[family] = variables
        units = {f: features.new_tensor(u) for f, u in self.units.items() if f in COUNTS}
        return IndependentColumns(parts, self.places, units, self.unscored, self.missing)


class IndependentColumns(TorchDistribution):
    """Independent numbers of several families beside unscored entries, see :class:`Columns`.

    Args:
        parts: Distribution of the numbers of each family, ``(..., numbers)``.
        places: Places of the numbers of each family in the vector.
        units: Unit of each number of a family of counts.
        unscored: Number of last entries, whose log-density is 0.
        missing: Whether NaN is integrated out.
    """

    arg_constraints: dict = {}
    support = dist.constraints.real_vector

    def __init__(
        self,
        parts: dict[str, Distribution],
        places: dict[str, list[int]],
        units: dict[str, Tensor],
        unscored: int = 0,
        missing: bool = False,
    ):
        self.parts, self.places, self.units = parts, places, units
        self.unscored, self.missing = unscored, missing
        self.order = torch.tensor([i for f in parts for i in places[f]]).argsort()
        shape = next(iter(parts.values())).batch_shape[:-1]
        super().__init__(shape, torch.Size([len(self.order) + unscored]), validate_args=False)

    def expand(self, batch_shape, _instance=None) -> "IndependentColumns":
        parts = {
            f: variables.expand((*batch_shape, variables.batch_shape[-1]))
            for f, variables in self.parts.items()
        }
        return IndependentColumns(parts, self.places, self.units, self.unscored, self.missing)

    def log_of_columns(self, value: Tensor) -> Tensor:
        """Returns log p of each entry, ``(..., x_dim)``; 0 where it is unscored or missing."""
        logs, read = [], value.nan_to_num() if self.missing else value
        for family, variables in self.parts.items():
            x = read[..., self.places[family]]
            if family in self.units:
                x = x * self.units[family]
                near = (x - x.round()).abs() < CLOSE * (1 + x.abs())
                x = torch.where(near, x.round(), x)
            logs.append(variables.log_prob(x))
        log_prob = torch.cat(logs, -1)[..., self.order]
        if self.missing:
            log_prob = log_prob.masked_fill(value[..., : log_prob.shape[-1]].isnan(), 0.0)
        return torch.nn.functional.pad(log_prob, (0, self.unscored))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_of_columns(value).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape=torch.Size()) -> Tensor:
        draws = []
        for family, variables in self.parts.items():
            x = variables.sample(sample_shape)
            draws.append(x / self.units[family] if family in self.units else x)
        return torch.nn.functional.pad(torch.cat(draws, -1)[..., self.order], (0, self.unscored))
