"""The frame facade: roles, grids, units, covariates, files; forecasts against an exact one."""

import json
import math
from decimal import Decimal

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from pandas.testing import assert_frame_equal
from scipy import stats

import zforcing_pyro as zf
from zforcing_pyro.analysis.series import unusual, windowed
from zforcing_pyro.data.own.coding import Coding, family_of, has_trend
from zforcing_pyro.data.own.frames import Layout
from zforcing_pyro.data.own.grid import Grid

pytestmark = pytest.mark.usefixtures("float32")
DAYS = pd.date_range("2024-01-01", periods=60, name="day")
SMALL = {"updates": 2, "sizes": {"h_dim": 4, "hidden_dim": 4, "z_dim": 2}, "verbose": False}


def walk(num=60, seed=0):
    return np.random.default_rng(seed).normal(size=num).cumsum()


def wide():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"level": walk(), "sold": rng.poisson(9.0, 60)}, index=DAYS)
    frame["level"] = frame["level"].mask(frame.index.day.isin([9, 10]))
    return frame


def long():
    parts = [wide().reset_index().assign(shop=shop) for shop in ("north", "south")]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def fitted():
    torch.set_default_dtype(torch.float32)
    return zf.SequenceModel(**SMALL).fit(wide())


# Frames


def test_forecast_has_the_times_and_columns_of_the_frame(fitted):
    result = fitted.forecast(wide(), 3, quantiles=(0.25, 0.75))
    names = [f"{n}{q}" for n in ("level", "sold") for q in ("", "_q0.25", "_q0.75")]
    assert list(result.columns) == names and result.index.name == "day"
    assert list(result.index) == list(pd.date_range("2024-03-01", periods=3))
    assert (result["level_q0.25"] <= result["level_q0.75"]).all()
    assert (result["sold_q0.75"] % 0.25 == 0).all() and result["sold"].between(2, 25).all()


def test_ids_and_times_come_back_from_columns_an_index_and_polars():
    model = zf.SequenceModel(id="shop", **SMALL).fit(long())
    columns = model.forecast(long(), 2)
    assert columns["shop"].tolist() == ["north"] * 2 + ["south"] * 2
    assert columns["day"].tolist() == [*pd.date_range("2024-03-01", periods=2)] * 2
    index = model.forecast(long().set_index(["shop", "day"]), 2)
    assert_frame_equal(index, columns.set_index(["shop", "day"]), check_dtype=False)
    result = model.forecast(pl.from_pandas(long()), 2)
    assert (
        isinstance(result, pl.DataFrame) and result["level"].to_list() == columns["level"].tolist()
    )
    scores = model.score(pl.from_pandas(long()))
    assert (
        scores.columns[:2] == ["shop", "day"] or scores["shop"].to_list() == long()["shop"].tolist()
    )
    fresh = zf.SequenceModel(**SMALL).fit(long().set_index(["shop", "day"]))
    assert (fresh.layout_.id, fresh.layout_.time) == ("shop", "day")


def test_order_of_rows_does_not_matter_and_scores_keep_it(fitted):
    shuffled = wide().sample(frac=1, random_state=0)
    scores = fitted.score(shuffled)
    assert scores.index.equals(shuffled.index)
    assert_frame_equal(scores.sort_index(), fitted.score(wide()), check_freq=False)


def test_rows_without_a_time_are_steps_and_gaps_in_time_are_missing_rows(fitted):
    bare = zf.SequenceModel(**SMALL).fit(pd.DataFrame({"x": walk()}))
    assert bare.forecast(pd.DataFrame({"x": walk()}), 2)["step"].tolist() == [60, 61]
    cut = wide().drop(wide().index[20:23])
    filled = fitted.impute(cut)
    assert list(filled.index) == list(DAYS) and not filled.isna().any(axis=None)
    assert len(fitted.score(cut)) == 57


def test_impute_keeps_what_is_observed_and_draws_differ_where_nothing_is(fitted):
    frame = wide()
    filled = fitted.impute(frame)
    seen = frame["level"].notna()
    assert (filled["level"][seen] == frame["level"][seen]).all() and filled["level"].notna().all()
    assert_frame_equal(filled[["sold"]], frame[["sold"]])
    draws = fitted.impute(frame, draws=3, lag=1)
    spread = draws.groupby("day")["level"].std()
    assert len(draws) == 180 and (spread[seen.to_numpy()] < 1e-12).all()
    assert (spread[~seen.to_numpy()] > 0).all()


@pytest.mark.parametrize(
    ("times", "unit", "size", "after"),
    [
        (pd.date_range("2020-01-31", periods=5, freq="ME"), "months", 1, "2020-06-30"),
        (pd.date_range("2020-01-01", periods=5, freq="QS"), "months", 3, "2021-04-01"),
        (pd.date_range("2020-01-01", periods=5, freq="YS"), "months", 12, "2025-01-01"),
        (pd.date_range("2020-01-02", periods=9, freq="B"), "business days", 1, "2020-01-15"),
        (pd.date_range("2020-01-02", periods=9, freq="15min"), "nanoseconds", 9e11, None),
        (np.array([1.0, 3.0, 7.0, 9.0]), "numbers", 2, 11.0),
        (np.array([0.0, 0.1, 7.0, 7.03]), "rows", 1, None),
    ],
)
def test_grid_is_that_of_the_calendar(times, unit, size, after):
    values = np.asarray(times)
    values = values.astype("datetime64[ns]") if values.dtype.kind == "M" else values
    grid = Grid.of([values])
    assert (grid.unit, grid.size) == (unit, size)
    if unit != "rows":
        places = grid.places(values)
        assert (grid.later(values[0], places) == values).all()
    if after is not None:
        following = grid.later(values[-1], np.array([1]))[0]
        assert following == (np.datetime64(after) if isinstance(after, str) else after)


def test_frames_of_other_libraries_and_index_names_serve(fitted):
    frame = wide().rename_axis(None)
    assert_frame_equal(fitted.forecast(frame, 2), fitted.forecast(wide(), 2))
    table = pl.from_pandas(wide().reset_index()).with_columns(pl.col("day").dt.date())
    model = zf.SequenceModel(**SMALL).fit(table)
    assert model.impute(table).null_count().sum_horizontal().item() == 0
    assert model.forecast(table.to_arrow(), 2).schema.names[:2] == ["day", "level"]
    nullable = wide().astype({"sold": "Int64"})
    nullable.iloc[3, 1] = pd.NA
    assert not fitted.impute(nullable).isna().any(axis=None)
    monthly = wide().set_axis(pd.period_range("2020-01", periods=60, freq="M"))
    result = zf.SequenceModel(**SMALL).fit(monthly).score(monthly)
    assert result.index.equals(monthly.index)


@pytest.mark.parametrize("num", [4, 9])
def test_few_rows_are_enough_to_run(num):
    frame = wide()[["sold"]][:num]
    model = zf.SequenceModel(**SMALL).fit(frame)
    assert np.isfinite(model.forecast(frame, 1).to_numpy()).all()
    assert np.isfinite(model.thresholds_["unusual"])


def test_time_zones_come_back():
    frame = wide().tz_localize("Europe/Berlin")
    result = zf.SequenceModel(**SMALL).fit(frame).forecast(frame, 2)
    assert str(result.index.tz) == "Europe/Berlin" and result.index[0].day == 1


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_days_are_those_of_a_zone_whose_clocks_change(library):
    """The clocks of New York change on 10 March 2024: steps are its days, of 23 hours too."""
    days = pd.date_range("2024-01-20", periods=50, freq="D", tz="America/New_York", name="day")
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=50)}, index=days)
    gap, later = frame.drop(days[[20, 48]]), days.shift(2)[-2:]
    if library == "polars":
        gap = pl.from_pandas(gap.reset_index())
    model = zf.SequenceModel(**SMALL).fit(gap)
    imputed, forecast = model.impute(gap), model.forecast(gap, 2)
    if library == "polars":
        imputed, forecast = (f.to_pandas().set_index("day") for f in (imputed, forecast))
    assert imputed.index.equals(days) and forecast.index.equals(later)
    with pytest.raises(ValueError, match="in a time zone such as America/New_York as in training"):
        model.score(frame.tz_localize(None))


@pytest.mark.parametrize("library", [lambda frame: frame, pl.from_pandas])
@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%I:%M %p", "%j"])
def test_no_order_of_day_and_month_is_guessed(library, form):
    days = pd.date_range("2020-01-01", periods=48, freq="MS").strftime(form)
    frame = pd.DataFrame({"day": days, "a": np.random.default_rng(0).normal(size=48)})
    with pytest.raises(ValueError, match=r"'day' must hold .*ISO dates.*clock times.*, got '\w+"):
        zf.SequenceModel(time="day", **SMALL).fit(library(frame))


def test_texts_of_times_are_read():
    noise = np.random.default_rng(0).normal(size=48)
    days = pd.date_range("2020-01-01", periods=50, freq="MS")
    hours = pd.date_range("2024-03-30", periods=50, freq="h", tz="Europe/Berlin")
    quarters = [f"{9 + i // 4}:{15 * (i % 4):02}" for i in range(50)]
    for texts, later in (
        (days.strftime("%Y-%m-%d"), days[48:]),
        ([hour.isoformat() for hour in hours], hours[48:].tz_convert(None)),
        (quarters, ["21:00", "21:15"]),
    ):
        frame = pd.DataFrame({"t": texts[:48], "a": noise})
        model = zf.SequenceModel(time="t", **SMALL).fit(frame)
        assert [*model.forecast(frame, 2)["t"]] == [*later]
    for index in (days.date, days.strftime("%Y-%m-%d")):
        frame = pd.DataFrame({"a": noise}, index=index[:48])
        forecast = zf.SequenceModel(**SMALL).fit(frame).forecast(frame, 2)
        assert pd.DatetimeIndex(forecast.index).equals(days[48:])


def test_forecasts_of_times_on_no_grid_count_steps():
    """Middles and ends of months have no grid; what comes after them is not made up."""
    times = pd.date_range("2018-01-31", periods=44, freq="SME", name="day")
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=44), "u": 1.0}, index=times)
    alone = zf.SequenceModel(**SMALL).fit(frame[["a"]])
    for result in (alone.forecast(frame[["a"]], 2), alone.sample(frame[["a"]], 2, 1)):
        assert [*result["step"]] == [1, 2] and "day" not in [*result, result.index.name]
    model = zf.SequenceModel(future=["u"], **SMALL).fit(frame[:40])
    assert model.forecast(frame[:40], 3, future=frame[30:]).index.equals(times[40:43])
    with pytest.raises(ValueError, match="'future' must have the times of 5 steps after 2019-09"):
        model.forecast(frame[:40], 5, future=frame)


@pytest.mark.parametrize("wrap", [pl.DataFrame, lambda table: pl.DataFrame(table).to_arrow()])
def test_decimals_are_numbers(wrap):
    noise = np.random.default_rng(0).normal(size=48).round(2)
    exact = wrap({"t": range(48), "a": [Decimal(str(v)) for v in noise]})
    model = zf.SequenceModel(time="t", **SMALL).fit(exact)
    plain = wrap({"t": range(48), "a": noise})
    a, b = (nw.from_native(model.score(f), eager_only=True)["surprise"] for f in (exact, plain))
    np.testing.assert_array_equal(a.to_numpy(), b.to_numpy())


def test_nanoseconds_as_integers_are_refused():
    times = 1700000000123456789 + 1000 * np.arange(48)
    frame = pd.DataFrame({"t": times, "a": np.random.default_rng(0).normal(size=48)})
    with pytest.raises(ValueError, match=r"'t' must be below 2\^53 .*pandas.to_datetime"):
        zf.SequenceModel(time="t", **SMALL).fit(frame)
    frame["t"] = pd.to_datetime(frame["t"], unit="ns")
    forecast = zf.SequenceModel(time="t", **SMALL).fit(frame).forecast(frame, 1)
    assert forecast["t"].astype("int64")[0] == times[-1] + 1000


def test_the_start_of_a_series_is_no_fault(fitted):
    """A filter that has read nothing yet, and a spell of fewer than 12 rows, tell nothing."""
    score = fitted.score(wide())
    assert score["unusual"][:8].isna().all() and not score["is_unusual"][:8].any()
    assert score["unusual"][8:].notna().all() and score["surprise"].notna().all()
    calm = {"12": [0.0, 1.0, 2.0]}
    assert (unusual(np.full(30, 9.0), calm)[:11] == 0).all()
    assert (unusual(np.full(30, 9.0), calm)[11:] == 8).all()


def test_a_future_with_gaps_is_refused():
    days = pd.date_range("2024-01-01", periods=50, name="day")
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=50), "u": 1.0}, index=days)
    model = zf.SequenceModel(future=["u"], **SMALL).fit(frame[:48])
    with pytest.raises(ValueError, match="'future' must have no empty entry in 'u' at"):
        model.forecast(frame[:48], 2, future=frame[48:].assign(u=[1.0, np.nan]))


def test_ends_of_business_months_are_a_grid():
    times = pd.date_range("2018-01-31", periods=46, freq="BME", name="day")
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=46)}, index=times)
    model = zf.SequenceModel(**SMALL).fit(frame[:44].drop(times[7]))
    assert model.forecast(frame[:44], 2).index.equals(times[44:])
    assert model.impute(frame[:44].drop(times[7])).index.equals(times[:44])


def test_hours_of_a_zone_go_through_a_change_of_its_clocks():
    hours = pd.date_range("2024-03-09", periods=60, freq="h", tz="America/New_York", name="hour")
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=60)}, index=hours)
    forecast = zf.SequenceModel(**SMALL).fit(frame[:20]).forecast(frame[:20], 12)
    assert forecast.index.equals(hours[20:32])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: pd.concat([f, f[:1]]), "each time must have one row, got two at 2024-01-01"),
        (lambda f: f.assign(sort="a"), r"'targets' must be columns of numbers, got \['sort'\]"),
        (lambda f: f.assign(level=np.inf), "'targets' must have finite values"),
        (lambda f: f.assign(sold=np.nan), "must have finite values, got none before validation"),
        (lambda f: f[:0], "'frame' must have rows, got none"),
        (lambda f: f.to_dict(), "'frame' must be of pandas, polars or Arrow, got a dict"),
    ],
)
def test_frames_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        zf.SequenceModel(**SMALL).fit(change(wide()))


def test_use_before_fit_and_of_other_columns_is_refused(fitted):
    with pytest.raises(ValueError, match="must be fitted or loaded"):
        zf.SequenceModel().forecast(wide(), 2)
    with pytest.raises(ValueError, match="'frame' must have the columns"):
        fitted.score(wide().rename(columns={"sold": "bought"}))
    with pytest.raises(ValueError, match="'quantiles' must be between 0 and 1"):
        fitted.forecast(wide(), 2, quantiles=[10])
    with pytest.raises(ValueError, match="'horizon' must be positive, got 0"):
        fitted.forecast(wide(), 0)


# Kinds, units, covariates


@pytest.mark.parametrize(
    ("values", "family"),
    [
        ([0.0, 1, 1, 0], "bernoulli"),
        ([3.0, 5, 4, np.nan, 4], "poisson"),
        ([3.0, 50, 0, 120], "negative_binomial"),
        ([0.1, 0.9, 0.4], "beta"),
        ([-1.0, 2.0, 3.5], "gaussian"),
        (np.random.default_rng(0).standard_t(2, 500), "student_t"),
    ],
)
def test_family_is_told_by_look(values, family):
    assert family_of([np.array(values)], "auto")[0] == family
    assert family_of([np.array(values)], "student_t") == ("student_t", "as 'kind' says")


def test_kinds_that_do_not_suit_are_refused_and_choices_are_printed(capsys):
    with pytest.raises(ValueError, match="'kind' must suit the values, got 'counts' for -"):
        zf.SequenceModel(kind={"level": "counts"}, **SMALL).fit(wide())
    zf.SequenceModel(**SMALL | {"verbose": True}).fit(wide())
    out = capsys.readouterr().out
    assert (
        "'sold': negative_binomial, since all are whole numbers" in out
        and "validation: the last 12" in out
    )
    assert has_trend([np.arange(50.0)]) and not has_trend([np.sin(np.arange(50.0))])


def test_scores_are_in_the_units_of_the_data(fitted):
    """Surprise of centimetres is log 100 nats above that of metres; that of counts is the same."""
    metres, centimetres = wide(), wide().assign(level=100 * wide()["level"])
    other = zf.SequenceModel(**SMALL).fit(centimetres)
    a, b = fitted.score(metres), other.score(centimetres)
    gain = (b["level_surprise"] - a["level_surprise"]).dropna()
    np.testing.assert_allclose(gain, math.log(100), atol=1e-3)
    np.testing.assert_allclose(b["sold_surprise"], a["sold_surprise"], atol=1e-3)
    levels = [m.forecast(f, 2)["level"] for m, f in ((other, centimetres), (fitted, metres))]
    np.testing.assert_allclose(levels[0], 100 * levels[1], rtol=1e-3)
    assert a["level_surprise"].isna().equals(metres["level"].isna())


def test_covariates_of_the_future_are_read_and_asked_for():
    frame = long().assign(price=1.0, region=lambda f: f["shop"] + "ern", level=walk(120))
    model = zf.SequenceModel("shop", "day", ["level"], ["price"], ["region"], **SMALL).fit(frame)
    assert model.coding_.covariates["region"] == ["northern", "southern"]
    assert model.net_.emission.unscored == 3 + 4  # price, two regions, two harmonics of the week
    with pytest.raises(ValueError, match=r"'future' must be a frame with \['price'\], got None"):
        model.forecast(frame, 2)
    days = pd.date_range("2024-03-01", periods=2)
    later = pd.DataFrame({"shop": ["north"] * 2 + ["south"] * 2, "day": [*days, *days]})
    cheap, dear = (model.forecast(frame, 2, future=later.assign(price=p)) for p in (0.0, 9.0))
    assert (cheap["level"] != dear["level"]).all()
    with pytest.raises(ValueError, match="'future' must have the times of series 'south'"):
        model.forecast(frame, 2, future=later[:3].assign(price=1.0))
    with pytest.raises(ValueError, match=r"'region' must be one of .* got"):
        model.score(frame.assign(region="east"))


def test_series_that_are_many_hold_out_some():
    frames = [pd.DataFrame({"id": k, "t": range(9 + k), "x": walk(9 + k, k)}) for k in range(12)]
    model = zf.SequenceModel("id", "t", **SMALL).fit(frame := pd.concat(frames))
    assert model.choices_[-1] == "validation: 1 of 12 series"
    result = model.forecast(frame, 2)
    assert result["t"].tolist() == [9 + k + j for k in range(12) for j in (0, 1)]


def test_changes_are_modelled_where_levels_move_and_summed_up_again():
    frame = pd.DataFrame({"x": 1000 + np.arange(80.0) + 0.1 * walk(80)})
    model = zf.SequenceModel(**SMALL | {"updates": 60}).fit(frame)
    assert model.coding_.relative == [True]
    forecast = model.forecast(frame, 5)["x"]
    assert forecast.between(1075, 1092).all()
    frame.loc[40:43, "x"] = np.nan
    assert model.impute(frame)["x"][40:44].between(1035, 1050).all()
    assert model.score(frame)["surprise"].isna().tolist() == [
        i in (0, 40, 41, 42, 43) for i in range(80)
    ]


# Numbers


@pytest.mark.slow
def test_forecast_and_scores_of_an_autoregression_are_near_the_exact_ones():
    """AR(1), x_t = 0.9 x_{t-1} + e_t: mean 0.9^k x_T, variance (1 - 0.81^k) / 0.19."""
    rng, x = np.random.default_rng(1), [0.0]
    for e in rng.normal(size=1_200):
        x.append(0.9 * x[-1] + e)
    frame = pd.DataFrame({"x": x})
    model = zf.SequenceModel(updates=400, sizes={"h_dim": 16}, verbose=False).fit(frame[:900])
    ends = [*range(950, 1_200, 25)]
    mean, width = [], []
    for end in ends:
        result = model.forecast(frame[:end], 4, (0.1, 0.9), draws=400)
        mean.append(result["x"])
        width.append(result["x_q0.9"] - result["x_q0.1"])
    k, last = np.arange(1, 5), np.array([x[end - 1] for end in ends])
    error = np.array(mean) - 0.9**k * last[:, None]
    assert np.sqrt((error**2).mean(0)).max() < 0.4  # of a deviation of 2.3
    exact = 2 * stats.norm.ppf(0.9) * np.sqrt((1 - 0.81**k) / 0.19)
    np.testing.assert_allclose(np.array(width).mean(0), exact, rtol=0.12)
    surprise = model.score(frame)["surprise"][900:]
    e = frame["x"].diff()[900:] + 0.1 * frame["x"].shift()[900:]
    exact = -stats.norm.logpdf(e)
    assert abs(surprise.mean() - exact.mean()) < 0.06
    assert np.corrcoef(surprise, exact)[0, 1] > 0.9


def test_unusual_is_a_distance_in_deviations_and_a_calm_spell_is_one():
    calm = {"1": [-1.0, 0.0, 2.0], "12": [-0.5, 0.0, 0.5]}
    surprise = np.array([0.0] * 12 + [4.0] + [np.nan] + [-2.0] * 20)
    score = unusual(surprise, calm)
    assert score[0] == 0 and score[12] == pytest.approx(2.0) and np.isnan(score[13])
    assert score[-1] == pytest.approx(4.0)
    assert windowed(np.array([1.0, np.nan]), 1)[0] == 1


# Files


def test_saved_model_has_the_same_numbers_and_the_file_is_tensors_and_json(fitted, tmp_path):
    file = tmp_path / "model.safetensors"
    fitted.save(file)
    loaded = zf.SequenceModel.load(file)
    assert_frame_equal(loaded.forecast(wide(), 3), fitted.forecast(wide(), 3))
    assert_frame_equal(loaded.score(wide()), fitted.score(wide()))
    assert loaded.thresholds_ == fitted.thresholds_ and loaded.choices_ == fitted.choices_
    size = int.from_bytes(file.read_bytes()[:8], "little")
    about = json.loads(json.loads(file.read_bytes()[8 : 8 + size])["__metadata__"]["zforcing_pyro"])
    assert about["series"]["layout"]["targets"] == ["level", "sold"]
    assert zf.load(file).emission.x_dim == fitted.net_.emission.x_dim
    net = zf.VRNN(zf.emissions.DiagNormal, 2, z_dim=2, h_dim=4)
    net.save(tmp_path / "net")
    with pytest.raises(ValueError, match="must be a file that SequenceModel"):
        zf.SequenceModel.load(tmp_path / "net")


def test_options_are_those_of_an_estimator():
    from sklearn.base import clone

    model = clone(zf.SequenceModel(model="srnn", seed=3))
    assert model.get_params()["model"] == "srnn" and "seed=3" in repr(model)
    with pytest.raises(ValueError, match="'model' must read what came before"):
        zf.SequenceModel(**SMALL, model="dkf").fit(wide())
    with pytest.raises(ValueError, match="'model' must be one of"):
        zf.SequenceModel(**SMALL | {"model": "vrn"}).fit(wide())


@pytest.mark.parametrize("name", ["srnn", "zforcing", "storn"])
def test_other_models_of_the_family_serve(name):
    frame = wide()
    model = zf.SequenceModel(model=name, **SMALL).fit(frame)
    assert np.isfinite(model.forecast(frame, 2).to_numpy()).all()
    assert np.isfinite(model.impute(frame).to_numpy()).all()


def test_layout_and_coding_read_back_what_they_wrote():
    layout = Layout()
    (series,) = layout.read(wide())
    coding, _ = Coding.learnt([series], layout, "auto", True, False)
    coded = coding.coded(series, layout.targets)
    np.testing.assert_allclose(coding.decoded(coded), wide().to_numpy())
    assert coding.relative == [True, False] and np.isnan(coding.read(coded)[0, 0])


def test_mistakes_of_frames_are_told():
    days = pd.date_range("2024-02-20", periods=80, name="day")
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=80)}, index=days)
    named = frame.reset_index().assign(id=["x"] * 79 + [None])
    model = zf.SequenceModel(updates=2, verbose=False)
    for wrong, options, message in (
        (frame[:2], {}, "must have a series of 3 steps at least, got 2"),
        (
            named.fillna("x"),
            {"id": "id", "targets": ["a"], "future": ["a"]},
            r"\['a'\] must have one",
        ),
        (frame.assign(b=[*range(80)]), {"static": ["b"]}, "'static' column 'b' .* has 80"),
        (frame, {"kind": {"A": "student_t"}}, r"'kind' must name columns of \['a'\], got \['A'\]"),
        (named, {"id": "id", "time": "day"}, "'id' must name each row's series, got an empty"),
    ):
        with pytest.raises(ValueError, match=message):
            zf.SequenceModel(**{"updates": 2, "verbose": False} | options).fit(wrong)
    counts = frame.assign(a=[k % 7 for k in range(80)])
    model.fit(counts)
    with pytest.raises(ValueError, match=r"'a' must suit '\w+', its family in training, got -1"):
        model.score(counts.assign(a=-1.0))


def test_a_large_level_is_not_lost_in_float32():
    """Changes of 0.1 about 1e8: as near to the last value as without the level."""
    days = pd.date_range("2024-01-01", periods=80, name="day")
    walk = 0.1 * np.random.default_rng(0).normal(size=80).cumsum()
    ends = {}
    for level in (0.0, 1e8):
        frame = pd.DataFrame({"a": walk + level}, index=days)
        model = zf.SequenceModel(updates=5, verbose=False, difference=True).fit(frame)
        ends[level] = model.forecast(frame, 3)["a"].to_numpy() - level
    np.testing.assert_allclose(ends[1e8], ends[0.0], atol=1e-3)
    with pytest.raises(ValueError, match=r"'a' must be within 100,000 times .* subtract a level"):
        model.forecast(frame - 1e8, 3)
