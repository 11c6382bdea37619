"""Data lie in the support of an emission, or an error names both."""

import warnings

import pytest
import torch

from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.models import MODELS
from zforcing_pyro.training.support import check_support

BITS = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
DATA = [BITS, BITS / 3, torch.tensor([[-1.0, 0.25], [0.5, -0.5]])]
SYMBOLS = [torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2])]


def net_of(emission, model="vrnn"):
    return MODELS[model](EMISSIONS[emission], x_dim=2, z_dim=2, h_dim=4)


@pytest.mark.parametrize("name", EMISSIONS)
@pytest.mark.filterwarnings("ignore:.* is a density")
def test_every_emission_takes_its_support_alone(name):
    net, refused = net_of(name), 0
    for x in SYMBOLS if EMISSIONS[name].symbols else DATA:
        if net.emission.support.check(x).all():
            check_support(net, Sequences([x]))
            continue
        refused += 1
        expected = f"{EMISSIONS[name].__name__} takes .*, got .* in sequence 0; 'gmm' suits them"
        with pytest.raises(ValueError, match=f"'emission' must suit the data: {expected}"):
            check_support(net, Sequences([x]), "gmm")
    assert refused or name in ("gaussian", "gmm", "student_t", "columns")


def test_a_density_of_bits_is_warned_of():
    for emission, name in (("gaussian", "DiagNormal"), ("gmm", "GaussianMixture")):
        with pytest.warns(UserWarning, match=f"{name} is a density, without an upper bound"):
            check_support(net_of(emission), Sequences([BITS, BITS]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_support(net_of(emission), Sequences([BITS, BITS / 3]))


def test_few_of_many_sequences_are_read_and_missing_values_passed_over():
    x = torch.tensor([[0.0, torch.nan], [1.0, 0.0]])
    check_support(net_of("bernoulli"), Sequences([x], missing=True))
    num_read = 0

    class Counted(Sequences):
        def __getitem__(self, i):
            nonlocal num_read
            num_read += 1
            return super().__getitem__(i)

    with pytest.raises(ValueError, match=r"got 0\.5 in sequence 9999"):
        check_support(net_of("bernoulli"), Counted([*[BITS] * 9_999, BITS / 2]))
    assert num_read <= 256
