"""Data are what an emission is a distribution of, or it says so."""

import pytest
import torch

from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import EMISSIONS
from zforcing_pyro.models import MODELS
from zforcing_pyro.training.support import check_support

BITS = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
DATA = {
    "bits": BITS,
    "real": BITS / 3,
    "grid": torch.tensor([[-1.0, 0.25], [0.5, -0.5]]),
    "symbols": torch.tensor([0, 1, 1]),
    "more symbols": torch.tensor([0, 1, 2]),
}


@pytest.mark.parametrize("name", EMISSIONS)
@pytest.mark.parametrize("data", DATA)
@pytest.mark.filterwarnings("ignore:.* is a density")
def test_every_emission_takes_its_own_and_names_the_rest(name, data):
    x, symbols = DATA[data], EMISSIONS[name].symbols
    if (x.dim() == 1) != symbols:
        return  # of another shape, which is another check's
    net = MODELS["vrnn"](EMISSIONS[name], x_dim=2, z_dim=2, h_dim=4)
    sequences = Sequences([x])
    if net.emission.support.check(x).all():
        check_support(net, sequences)
        return
    expected = f"{EMISSIONS[name].__name__} takes .*, got .* in sequence 0; 'gmm' suits them"
    with pytest.raises(ValueError, match=f"'emission' must suit the data: {expected}"):
        check_support(net, sequences, "gmm")


@pytest.mark.parametrize("model", MODELS)
def test_every_model_says_what_its_emission_takes(model):
    net = MODELS[model](EMISSIONS["bernoulli"], x_dim=2)
    check_support(net, Sequences([BITS]))
    with pytest.raises(ValueError, match="Bernoulli takes"):
        check_support(net, Sequences([BITS, BITS / 2]))


@pytest.mark.parametrize("emission, name", [("gaussian", "DiagNormal"), ("gmm", "GaussianMixture")])
def test_a_density_of_bits_is_warned_of(emission, name):
    net = MODELS["vrnn"](EMISSIONS[emission], x_dim=2, z_dim=2, h_dim=4)
    with pytest.warns(UserWarning, match=f"{name} is a density, without an upper bound on data"):
        check_support(net, Sequences([BITS, BITS]))
    check_support(net, Sequences([BITS, BITS / 3]))


def test_missing_values_are_passed_over():
    net = MODELS["vrnn"](EMISSIONS["bernoulli"], x_dim=2, z_dim=2, h_dim=4)
    x = torch.tensor([[0.0, torch.nan], [1.0, 0.0]])
    check_support(net, Sequences([x], missing=True))


def test_a_few_of_many_sequences_are_looked_at():
    net = MODELS["vrnn"](EMISSIONS["bernoulli"], x_dim=2, z_dim=2, h_dim=4)
    parts = [BITS] * 9_999

    class Counted(Sequences):
        looked = 0

        def __getitem__(self, i):
            Counted.looked += 1
            return super().__getitem__(i)

    with pytest.raises(ValueError, match=r"got 0\.5 in sequence 9999"):
        check_support(net, Counted([*parts, BITS / 2]))
    assert Counted.looked <= 256
