"""Columns of several families against each family alone, and the two new families against scipy."""

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from zforcing_pyro.emissions import Beta, Columns, StudentT

FAMILIES = ["poisson", "gaussian", "beta", "negative_binomial", "student_t", "poisson"]
UNITS = [5.0, 1.0, 1.0, 20.0, 1.0, 1.0]
X = torch.tensor([3 / 5, -1.5, 0.25, 41 / 20, 9.0, 2.0, 123.0, -7.0])


def make(**options):
    options = {"families": FAMILIES, "units": UNITS, "unscored": 2} | options
    return Columns(4, len(FAMILIES) + options["unscored"], **options), torch.randn(3, 4)


def test_log_densities_are_those_of_each_family_and_add_up():
    emission, features = make()
    distribution, logs = emission(features), {}
    for family, head in emission.heads.items():
        base = head(features).base_dist
        for k, place in enumerate(emission.places[family]):
            x, unit = X[place], UNITS[place]
            if family == "poisson":
                expected = stats.poisson.logpmf(
                    round(float(x * unit)), base.rate[:, k].detach() * unit
                )
            elif family == "negative_binomial":
                r, mean = base.total_count[:, k].detach(), base.mean[:, k].detach() * unit
                expected = stats.nbinom.logpmf(round(float(x * unit)), r, r / (r + mean))
            elif family == "beta":
                a, b = base.concentration1[:, k], base.concentration0[:, k]
                expected = stats.beta.logpdf(x, a.detach(), b.detach())
            elif family == "student_t":
                options = (v[:, k].detach() for v in (base.df, base.loc, base.scale))
                expected = stats.t.logpdf(x, *options)
            else:
                expected = stats.norm.logpdf(x, base.loc[:, k].detach(), base.scale[:, k].detach())
            logs[place] = torch.as_tensor(expected)
    each = distribution.log_of_columns(X)
    assert_close(each[:, :6], torch.stack([logs[i] for i in range(6)], -1), rtol=1e-6, atol=1e-6)
    assert (each[:, 6:] == 0).all()
    assert_close(distribution.log_prob(X), each.sum(-1))


def test_draws_are_in_their_units_and_unscored_entries_are_zero():
    emission, features = make()
    draws = emission(features).sample((500,))
    counts = draws[..., [0, 3, 5]] * torch.tensor([5.0, 20.0, 1.0])
    assert_close(counts, counts.round()) and (counts >= 0).all()
    assert (draws[..., 6:] == 0).all() and draws[..., 2].min() > 0 and draws[..., 2].max() < 1
    assert emission(features).log_prob(draws).isfinite().all()


def test_missing_numbers_of_every_family_cost_nothing_and_leave_gradients():
    emission, features = make(missing=True)
    x = X.clone()
    x[[0, 2]] = torch.nan
    each = emission(features).log_of_columns(x)
    assert_close(each[:, [1, 3, 4, 5]], emission(features).log_of_columns(X)[:, [1, 3, 4, 5]])
    x[:6] = torch.nan
    log_prob = emission(features).log_prob(x)
    assert (log_prob == 0).all()
    (log_prob.sum() + each.sum()).backward()
    assert all(p.grad.isfinite().all() for p in emission.parameters())


def test_student_and_beta_have_means_and_learn():
    """A step of the gradient raises the likelihood of data beyond what a Gaussian allows."""
    for family, x in ((StudentT, torch.tensor([[30.0]])), (Beta, torch.tensor([[0.999]]))):
        emission, features = family(2, 1), torch.ones(1, 2)
        before = emission(features).log_prob(x)
        (-before).backward()
        with torch.no_grad():
            for p in emission.parameters():
                p -= 0.05 * p.grad
        assert emission(features).log_prob(x) > before
        assert emission(features).mean.isfinite()


@pytest.mark.parametrize(
    "options",
    [{"families": ["gaussian"]}, {"units": [1.0]}, {"families": [*FAMILIES[:5], "cauchy"]}],
)
def test_columns_without_a_family_or_a_unit_are_refused(options):
    with pytest.raises(ValueError, match="'families' and 'units' must be 6, families of"):
        make(**options)
    with pytest.raises(ValueError, match=r"'unscored' must be in 0\.\.7, got 8"):
        Columns(4, 8, unscored=8)
