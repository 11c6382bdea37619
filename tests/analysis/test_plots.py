"""Figures show the numbers they are passed, on the axes they are passed."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from zforcing_pyro.analysis import plots
from zforcing_pyro.analysis.plots.axes import plain
from zforcing_pyro.analysis.posterior import PredictiveCheck
from zforcing_pyro.data import FSDD, Arrays, Digits, TextFiles, corpus

RNG = np.random.default_rng(0)
HOSTILE = "_$x_{$\x1b[31m<b>" + "n" * 200
"""A name that a formula, a terminal, a page and a legend would each take amiss."""


def check(axis=None, points=()):
    values = [RNG.normal(size=(n, *points)) for n in (7, 5, 7)]
    p_value, mean = np.full(points, 0.5), values[0].mean(0)
    fields = HOSTILE, "share", axis, "lag (steps)", mean, values[1], values[0], values[2], p_value
    return PredictiveCheck(*fields)


ROWS = [{"step": "10", "bound": "-3", "valid_bound": ""}, {"step": "20", "bound": "-2.5"}]
PATHS = [RNG.random((5, 2))]
DRAWN = {
    "training_curves": lambda axes: plots.training_curves({HOSTILE: ROWS, "b": ROWS}, axes=axes),
    "over_seeds": lambda axes: plots.curves_over_seeds(
        {HOSTILE: [[(1, -3.0), (2, -2.0)], [(1, -4.0)]]}, "nats", axes
    ),
    "intervals": lambda axes: plots.intervals({HOSTILE: (1.0, 0.5, 1.5)}, "nats", axes),
    "pareto_k": lambda axes: plots.pareto_k([0.1, 0.6, 0.8, -np.inf], axes),
    "bound": lambda axes: plots.bound_against_particles([1, 10], [-3, -2], [0.1, np.nan], -1, axes),
    "rank_histogram": lambda axes: plots.rank_histogram([3, 5], (2, 6), HOSTILE, axes),
    "number": lambda axes: plots.predictive_check(check(), axes),
    "curve": lambda axes: plots.predictive_check(check(np.arange(4), (4,)), axes),
    "kl_heat_map": lambda axes: plots.kl_heat_map(RNG.random((6, 3)), axes=axes),
    "kl_by_step": lambda axes: plots.kl_by_step(RNG.random(6), "pixel", axes),
    "kl_by_latent": lambda axes: plots.kl_by_latent(RNG.random(6), axes),
    "r2": lambda axes: plots.r2_by_horizon([0, 1, 2], {"$z_{$": [0.3, 0.2, np.nan]}, axes),
    "trajectories": lambda axes: plots.trajectories(PATHS, [HOSTILE], [0.7, 0.2], axes),
}


@pytest.mark.parametrize("name", DRAWN)
def test_figures_have_labels_and_take_axes_and_any_name(name, tmp_path):
    """C5: a name with dollars, escapes or an underscore is drawn as it is."""
    axes = Figure(layout="constrained").subplots()
    assert DRAWN[name](axes) is axes
    new = DRAWN[name](None)
    assert new is not axes and new.get_xlabel() and new.get_ylabel()
    new.figure.savefig(tmp_path / "x.svg")
    if name in ("training_curves", "trajectories"):
        assert "x_{" in new.get_legend().get_texts()[0].get_text()


def test_plain_labels_are_one_short_line():
    assert plain("ink") == "ink" and plain("$a$") == r"\$a\$" and len(plain("n" * 200)) == 60
    assert plain("_a\n\x1b") == " _a\ufffd\ufffd"


class NamedArrays(Arrays):
    columns = (HOSTILE, "$y_{$")


def example(view, folder):
    """A corpus and three of its sequences."""
    lengths = 9, 7, 8
    if view == "image":
        return Digits(), [(torch.rand(64, 1) < 0.5).float() for _ in lengths]
    if view == "pianoroll":
        return corpus("jsb"), [(torch.rand(n, 88) < 0.1).float() for n in lengths]
    if view == "audio":
        source = FSDD(frame=40)
        source.restore({"mean": 0.0, "std": 1000.0, "frame": 40, "sample_rate": 8000})
        return source, [torch.randn(n, 40) for n in lengths]
    if view == "text":
        source = TextFiles("a.txt")
        source.restore({"words": ["<eos>", "<unk>", "a", "$b_{$"]})
        return source, [torch.randint(1, 4, (n,)) for n in lengths]
    np.save(folder / "x.npy", RNG.normal(size=(12, 9, 2)).astype(np.float32))
    source = NamedArrays(str(folder / "x.npy"))
    source.split("train")
    return source, [torch.randn(n, 2) for n in lengths]


@pytest.mark.parametrize("view", ["image", "pianoroll", "audio", "text", "curve"])
def test_sequences_of_every_view_are_drawn(view, tmp_path):
    source, xs = example(view, tmp_path)
    assert source.view == view
    axes = Figure().subplots()
    assert plots.sequences(xs, source, axes) is axes
    kl = np.vstack([RNG.random((len(xs[0]), 3)), np.full((2, 3), np.nan)])
    heat = plots.kl_heat_map(kl, xs[0], source)
    assert heat.child_axes[0].get_xlim() == (0, 1) and heat.get_xlim() == (0, len(xs[0]))
    assert np.array_equal(heat.images[0].get_array(), kl[:-2].T)
    table = plots.gallery([xs[:2], [xs[2], xs[0]]], source, ["a", "b"], ["1", "2"])
    both = plots.real_and_generated(source, xs, xs)
    for figure in (axes.figure, heat.figure, table.figure, both):
        figure.savefig(tmp_path / "x.png")
    if view == "audio":
        assert axes.get_xlim() == (0, 9 * 40 / 8000) and axes.get_xlabel() == "time (s)"
        height = np.ptp(axes.lines[0].get_ydata()) / np.ptp(source.samples(xs[0]))
        peak = max(np.abs(source.samples(x)).max() for x in xs)
        assert height == pytest.approx(1 / 2.2 / peak, rel=0.01)  # traces do not touch
    assert len(table.images) == (4 if view in ("image", "pianoroll") else 0)
    for i, (image, x) in enumerate(zip(table.images, (xs[0], xs[1], xs[2], xs[0]))):
        x0, x1, y0, y1 = image.get_extent()
        assert x0 <= table.get_xticks()[i % 2] <= x1 and y0 <= table.get_yticks()[i // 2] <= y1
        assert image.get_array().sum() == x.sum()
        if view == "image":
            assert np.array_equal(image.get_array(), source.image(x).numpy()[::-1])
    with pytest.raises(ValueError, match="'rows' must be 1 of 3 sequences"):
        plots.gallery([xs[:2]], source, ["a"], ["1", "2", "3"])


def test_training_curves_draw_the_values_of_the_file():
    rows = [{"step": "1", "bound": "-900"}]
    rows += [{"step": f"{n}", "bound": f"{-n / 50}", "valid_bound": ""} for n in range(50, 110, 10)]
    # A diverged run has -1e308, whose margin would overflow.
    for row, value in zip(rows[-3:], ("-1e308", "nan", "-1.5")):
        row["valid_bound"] = value
    training, validation = plots.training_curves({"run": rows}).lines
    assert training.get_xydata()[1:].tolist() == [[n, -n / 50] for n in range(50, 110, 10)]
    assert validation.get_xydata().tolist() == [[100, -1.5]]
    assert training.axes.get_ylim()[0] > -3  # the first value is far below all others
    one, two = plots.training_curves({"one": rows, "two": rows}, ["bound"]).lines
    assert one.get_label() == "one: bound, training" and one.get_color() != two.get_color()
    with pytest.raises(ValueError, match=r"'runs' must have a column of \['kl'\]"):
        plots.training_curves({"run": rows}, ["kl"])


@pytest.mark.parametrize(
    ("k", "counts"),
    [
        ([0.2, -np.inf, 0.5, 0.69, 0.71, 3.0, 0.1, 0.2, 0.3, 0.4], [6, 2, 2]),
        ([0.1, 0.2, np.inf, np.inf], [2, 0, 2]),
        ([np.nan, np.inf], [0, 0, 2]),
    ],
)
def test_pareto_k_counts_and_draws_every_sequence(k, counts):
    """W8: infinity and NaN are not to be relied on, and have a marker above all others."""
    axes = plots.pareto_k(k)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [label.split(": ")[1] for label in labels] == [f"{n} of {len(k)}" for n in counts]
    heights = [line.get_ydata() for line in axes.lines[:3]]
    assert [len(h) for h in heights] == counts
    low, high = axes.get_ylim()
    assert all(low < h < high for group in heights for h in group)
    assert min(heights[2]) > max([0.7, *heights[0], *heights[1]])


def test_bars_are_counts():
    axes = plots.rank_histogram([3, 5, 0, 8], (1, 7))
    assert [bar.get_height() for bar in axes.containers[0]] == [3, 5, 0, 8]
    order = plots.kl_by_latent([0.1, 0.5, 0.2])
    assert [bar.get_height() for bar in order.containers[0]] == [0.5, 0.2, 0.1]
    assert [tick.get_text() for tick in order.get_xticklabels()] == ["1", "2", "0"]


def test_padding_enters_no_mean_and_no_path():
    kl = [[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]]
    draws = np.array([[kl, kl]])  # (chain, draw, sequence, time), as arviz has it
    for values in (kl, draws):
        assert plots.kl_by_step(values).lines[0].get_xydata().tolist() == [[0, 2], [1, 2]]
    path = np.array([[0, 1], [2, 3], [np.nan, np.nan]])
    assert plots.trajectories([path]).lines[0].get_xydata().tolist() == [[0, 1], [2, 3]]


def test_kl_image_puts_each_value_at_its_pixel():
    digits = Digits()
    digits.order = torch.randperm(64)
    x, kl = torch.zeros(64, 1), np.arange(64.0)
    x[5] = 1
    image, nats = (drawn.get_array() for drawn in plots.kl_image(kl, x, digits).images)
    assert nats[image == 1] == [5.0] and sorted(nats.reshape(-1)) == list(range(64))


def test_spectrogram_of_a_full_sine_is_zero_decibels_at_its_pitch():
    levels = plots.spectrogram(np.sin(2 * np.pi * 1000 * np.arange(4000) / 8000), 8000)
    assert np.all(levels.argmax(0) * 8000 / 256 == 1000)
    assert np.allclose(levels.max(0), 0, atol=0.1)
    assert np.all(plots.spectrogram(np.zeros(10), 8000) == -100)
