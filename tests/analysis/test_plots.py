"""Figures show the numbers they are given, on the axes they are given."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from zforcing_pyro.analysis import plots
from zforcing_pyro.analysis.posterior import PredictiveCheck
from zforcing_pyro.data import FSDD, Arrays, Digits, TextFiles, corpus

RNG = np.random.default_rng(0)
VIEWS = ("image", "pianoroll", "audio", "text", "curve")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    np.save(folder / "x.npy", RNG.normal(size=(12, 9, 2)).astype(np.float32))
    speech, text = FSDD(frame=40), TextFiles("a.txt")
    speech.restore({"mean": 0.0, "std": 1000.0, "frame": 40, "sample_rate": 8000})
    text.restore({"words": ["<eos>", "<unk>", "a", "$b"]})
    curve = Arrays(str(folder / "x.npy"))
    curve.split("train")
    every = Digits(), corpus("jsb"), speech, text, curve
    return dict(zip(VIEWS, every))


@pytest.fixture(scope="module")
def examples():
    """Three sequences by view."""
    lengths = 9, 7, 8
    return {
        "image": [(torch.rand(64, 1) < 0.5).float() for _ in lengths],
        "pianoroll": [(torch.rand(n, 88) < 0.1).float() for n in lengths],
        "audio": [torch.randn(n, 40) for n in lengths],
        "text": [torch.randint(1, 4, (n,)) for n in lengths],
        "curve": [torch.randn(n, 2) for n in lengths],
    }


def check(axis=None, points=()):
    observed = RNG.normal(size=(7, *points))
    replicated = RNG.normal(size=(5, *points))
    return PredictiveCheck(
        name="ink",
        unit="share",
        axis=axis,
        axis_label="lag (steps)",
        observed=observed.mean(0),
        replicated=replicated,
        observed_values=observed,
        replicated_values=RNG.normal(size=(7, *points)),
        p_value=np.full(points, 0.5),
    )


ROWS = [{"step": "10", "bound": "-3", "valid_bound": ""}, {"step": "20", "bound": "-2.5"}]
DRAWN = {
    "training_curves": lambda axes: plots.training_curves({"a": ROWS}, axes=axes),
    "pareto_k": lambda axes: plots.pareto_k([0.1, 0.6, 0.8, -np.inf], axes),
    "bound": lambda axes: plots.bound_against_particles([1, 10], [-3, -2], [0.1, np.nan], -1, axes),
    "rank_histogram": lambda axes: plots.rank_histogram([3, 5], (2, 6), "z", axes),
    "number": lambda axes: plots.predictive_check(check(), axes),
    "curve": lambda axes: plots.predictive_check(check(np.arange(4), (4,)), axes),
    "kl_heat_map": lambda axes: plots.kl_heat_map(RNG.random((6, 3)), axes=axes),
    "kl_by_step": lambda axes: plots.kl_by_step(RNG.random(6), "pixel", axes),
    "kl_by_latent": lambda axes: plots.kl_by_latent(RNG.random(6), axes),
    "r2": lambda axes: plots.r2_by_horizon([0, 1, 2], {"z": [0.3, 0.2, np.nan]}, axes),
    "trajectories": lambda axes: plots.trajectories([RNG.random((5, 2))], ["3"], [0.7, 0.2], axes),
}


@pytest.mark.parametrize("name", DRAWN)
def test_axes_are_labelled_and_may_be_given(name, tmp_path):
    axes = Figure(layout="constrained").subplots()
    assert DRAWN[name](axes) is axes
    new = DRAWN[name](None)
    assert new is not axes and new.get_xlabel() and new.get_ylabel()
    new.figure.savefig(tmp_path / "x.png")


@pytest.mark.parametrize("view", VIEWS)
def test_every_kind_of_sequence_is_drawn(view, corpora, examples, tmp_path):
    xs, known = examples[view], corpora[view]
    assert known.view == view
    axes = Figure().subplots()
    assert plots.sequences(xs, known, axes) is axes
    kl = np.vstack([RNG.random((len(xs[0]), 3)), np.full((2, 3), np.nan)])
    heat = plots.kl_heat_map(kl, xs[0], known)
    (strip,) = heat.child_axes
    assert strip.get_xlim() == heat.get_xlim() == (0, len(xs[0]))
    assert np.array_equal(heat.images[0].get_array(), kl[:-2].T)
    wide = plots.gallery([xs, xs], known, ["a", "b"], ["1", "2", "3"])
    between = plots.interpolation([xs[:2]], known, ["argmax"], [0.0, 1.0])
    for drawn in (axes, heat, wide, between):
        drawn.figure.savefig(tmp_path / "x.png")
    with pytest.raises(ValueError, match="'rows' must be 1 of 3 sequences"):
        plots.gallery([xs[:2]], known, ["a"], ["1", "2", "3"])


@pytest.mark.parametrize("view", ["image", "pianoroll"])
def test_a_gallery_has_each_sequence_in_its_place(view, corpora, examples):
    xs, known = examples[view], corpora[view]
    axes = plots.gallery([xs[:2], [xs[2], xs[0]]], known, ["a", "b"], ["1", "2"])
    assert len(axes.images) == 4
    for image, x, corner in zip(axes.images, (xs[0], xs[1], xs[2], xs[0]), range(4)):
        row, column = divmod(corner, 2)
        left, right, bottom, top = image.get_extent()
        assert left <= axes.get_xticks()[column] <= right
        assert bottom <= axes.get_yticks()[row] <= top
        grid = known.image(x).numpy()[::-1] if view == "image" else x.numpy().T
        assert image.get_array().sum() == grid.sum()
        if view == "image":
            assert np.array_equal(image.get_array(), grid)


def test_a_curve_has_the_values_that_were_written():
    rows = [{"step": "1", "bound": "-900"}]
    rows += [{"step": f"{n}", "bound": f"{-n / 50}", "valid_bound": ""} for n in range(50, 110, 10)]
    rows[-1]["valid_bound"], rows[-2]["valid_bound"] = "-1.5", "nan"
    axes = plots.training_curves({"run": rows})
    training, validation = axes.lines
    assert training.get_xydata()[1:].tolist() == [[n, -n / 50] for n in range(50, 110, 10)]
    assert validation.get_xydata().tolist() == [[100, -1.5]]
    assert axes.get_ylim()[0] > -3  # the first value is far below all others
    both = plots.training_curves({"one": rows, "two": rows}, ["bound"])
    assert [line.get_label() for line in both.lines] == [
        f"{r}: bound, training" for r in ("one", "two")
    ]
    assert len({line.get_color() for line in both.lines}) == 2
    with pytest.raises(ValueError, match=r"'runs' must have a column of \['kl'\]"):
        plots.training_curves({"run": rows}, ["kl"])


def test_shares_of_k_hat_are_counted():
    axes = plots.pareto_k([0.2, -np.inf, 0.5, 0.69, 0.7, 3.0, 0.1, 0.2, 0.3, 0.4])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    shares = [label.split(": ")[1] for label in labels]
    assert shares == ["60%", "20%", "20%"]
    assert sum(len(line.get_xdata()) for line in axes.lines[:3]) == 10


def test_bars_are_counts():
    axes = plots.rank_histogram([3, 5, 0, 8], (1, 7))
    assert [bar.get_height() for bar in axes.containers[0]] == [3, 5, 0, 8]
    assert axes.get_xlim() == (0, 1)
    order = plots.kl_by_latent([0.1, 0.5, 0.2])
    assert [bar.get_height() for bar in order.containers[0]] == [0.5, 0.2, 0.1]
    assert [tick.get_text() for tick in order.get_xticklabels()] == ["1", "2", "0"]


def test_padding_enters_no_mean_and_no_path():
    kl = [[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]]
    assert plots.kl_by_step(kl).lines[0].get_xydata().tolist() == [[0, 2], [1, 2]]
    of_draws = np.array([[kl, kl]])  # (chain, draw, sequence, time), as arviz has it
    assert plots.kl_by_step(of_draws).lines[0].get_xydata().tolist() == [[0, 2], [1, 2]]
    path = np.array([[0, 1], [2, 3], [np.nan, np.nan]])
    assert plots.trajectories([path]).lines[0].get_xydata().tolist() == [[0, 1], [2, 3]]


def test_a_single_latent_or_update_has_a_whole_number():
    heat = plots.kl_heat_map(np.ones((6, 1)))
    curve = plots.training_curves({"a": [{"step": "1", "bound": "-3"}]}, ("bound",))
    for axis in (heat.yaxis, curve.xaxis):
        low, high = axis.get_view_interval()
        shown = [tick for tick in axis.get_major_locator()() if low <= tick <= high]
        assert shown and all(tick == int(tick) for tick in shown)


@pytest.mark.parametrize(("worst", "bottom"), [(-9.0, -0.5), (-0.1, -0.12)])
def test_a_failed_regression_does_not_set_the_scale(worst, bottom):
    axes = plots.r2_by_horizon([0, 1], {"z": [0.3, worst]})
    assert axes.get_ylim()[0] == pytest.approx(bottom, abs=0.01) and axes.get_ylim()[1] > 0.3


def test_a_pixel_has_its_own_kl():
    digits = Digits()
    digits.order = torch.randperm(64)
    x, kl = torch.zeros(64, 1), np.arange(64.0)
    x[5] = 1
    axes = plots.kl_image(kl, x, digits)
    image, nats = (drawn.get_array() for drawn in axes.images)
    assert nats[image == 1] == [5.0] and sorted(nats.reshape(-1)) == list(range(64))


def test_a_full_sine_has_no_decibels_at_its_pitch():
    rate, pitch = 8000, 1000
    wave = np.sin(2 * np.pi * pitch * np.arange(4000) / rate)
    levels = plots.spectrogram(wave, rate)
    loudest = levels.argmax(0)
    assert np.all(loudest * rate / 256 == pitch) and np.allclose(levels.max(0), 0, atol=0.1)
    assert np.all(plots.spectrogram(np.zeros(10), rate) == -100)
