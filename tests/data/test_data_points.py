"""Points in the plane: their places, and the density that is known of them."""

import math

import pytest
import torch

from zforcing_pyro.data import Points


def test_points_have_their_radii():
    for kind, radii in {"circle": [1.0], "rings": [0.5, 1.0]}.items():
        x = torch.cat([s.x for s in Points(kind, num_train=4000).split("train")])
        radius = x.norm(dim=-1)
        nearest = (radius[:, None] - torch.tensor(radii)).abs().min(1).values
        assert x.shape == (4000, 2) and nearest.max() < 0.12
        assert nearest.square().mean().sqrt().item() == pytest.approx(0.02, rel=0.1)
    spiral = torch.cat([s.x for s in Points("spiral", num_train=4000).split("train")])
    turn = torch.atan2(spiral[:, 1], spiral[:, 0]) / (2 * math.pi) % 1
    error = (spiral.norm(dim=-1) - (2 * turn + 1) / 3).abs()
    assert error.median() < 0.02
    assert Points("spiral").log_prob(spiral) is None


@pytest.mark.parametrize("kind", ["circle", "rings", "mixture"])
def test_density_of_points_is_one_and_that_of_the_data(kind):
    """The density sums to 1 on a grid, and weights the data as their frequencies do."""
    data = Points(kind)
    side = torch.linspace(-2, 2, 2001)
    grid = torch.cartesian_prod(side, side) + 1e-9
    density = data.log_prob(grid).exp() * (4 / 2000) ** 2
    assert density.sum().item() == pytest.approx(1, abs=1e-3)
    entropy = -(density * data.log_prob(grid)).nansum().item()
    x = torch.cat([s.x for s in data.split("train")]).double()
    log_p = data.log_prob(x)
    error = log_p.std() / len(log_p) ** 0.5
    assert abs(-log_p.mean() - entropy) < 4 * error + 1e-3
    right = (density[grid[:, 0] > 0.3]).sum()
    assert (x[:, 0] > 0.3).double().mean().item() == pytest.approx(right.item(), abs=0.015)


def test_points_refuse_and_have_a_floor():
    with pytest.raises(ValueError, match=r"'kind' must be one of .*, got 'square'"):
        Points("square")
    # Normals of variance 1/2 in both coordinates.
    assert Points().floor().nats_per_step == pytest.approx(1 + math.log(math.pi), abs=0.01)
