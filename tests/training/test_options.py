"""Options and schedules: their values, and what is refused."""

import pytest

from zforcing_pyro.training import GROUPS, Schedule, TrainingOptions


def test_schedule_values():
    for schedule, expected in (
        (Schedule(0.2, 1.0, 8), {0: 0.2, 3: 0.5, 8: 1.0, 100: 1.0}),
        (Schedule(1.0, 0.2, 8), {0: 1.0, 3: 0.7, 8: 0.2, 100: 0.2}),
        (Schedule(0.2, 1.0, 8, "cosine"), {0: 0.2, 2: 1.0 - 0.4 * (1 + 0.5**0.5), 4: 0.6, 9: 1.0}),
        (Schedule(0.0, 1.0, 20, "cyclical"), {0: 0.0, 5: 0.5, 10: 1.0, 19: 1.0, 20: 0.0, 26: 0.6}),
        (Schedule(0.3, 0.7), {0: 0.7, 5: 0.7}),
    ):
        assert {update: schedule(update) for update in expected} == pytest.approx(expected)


def test_schedules_end_at_the_own_weight_unless_told():
    options = TrainingOptions(aux_start=0.1, aux_updates=5, reverse_end=0.0, kl_end=0.5)
    kl, aux, reverse = options.schedules(1.0, 0.05, 0.05)
    assert (kl(0), aux, reverse(0)) == (0.5, Schedule(0.1, 0.05, 5), 0.0)


def test_learning_rates_warm_up_and_fall():
    options = {"lr": 0.1, "lr_floor": 0.02, "lr_warmup": 4}
    for schedule, half in (("cosine", 0.06), ("linear", 0.06), ("constant", None), ("halve", None)):
        rate = TrainingOptions(**options, lr_schedule=schedule).learning_rate
        assert [rate(u, 24) for u in (0, 1, 3)] == pytest.approx([0.025, 0.05, 0.1])
        assert rate(14, 24) == (half and pytest.approx(half))
        assert rate(24, 24) == (half and pytest.approx(0.02))
    quarter = TrainingOptions(**options, lr_schedule="cosine").learning_rate(9, 24)
    assert quarter == pytest.approx(0.02 + 0.08 * (1 + 0.5**0.5) / 2)


def test_options_out_of_range_are_refused():
    """W19."""
    for options, message in (
        ({"lr": -1}, "'lr' must be positive, got -1"),
        ({"clip": float("nan")}, "'clip' must be finite, got nan"),
        ({"kl_start": -1, "kl_updates": 3}, "'kl_start' must not be negative, got -1"),
        ({"frame_dropout": 2}, "'frame_dropout' must be in 0..1, got 2"),
        ({"batch_size": 2.5}, "'batch_size' must be an integer, got 2.5"),
        ({"lr": "1e-3"}, "'lr' must be a number, got '1e-3'"),
        ({"shuffle": "no"}, r"'shuffle' must be one of \[False, True\], got 'no'"),
        ({"loggers": ["csv", "print"]}, "'loggers' must be one of .*, got "),
        ({"kl_start": 0.2}, "'kl_updates' must be positive with 'kl_start', got 0"),
        ({"accumulate": 99}, "'accumulate' must be at most 'batch_size' 32, got 99"),
    ):
        with pytest.raises(ValueError, match=message):
            TrainingOptions(**options)


def test_each_option_is_documented_in_one_group():
    names = [name for group in GROUPS for name in group.__dataclass_fields__]
    assert sorted(names) == sorted(set(names)) == sorted(TrainingOptions.__dataclass_fields__)
    for group in GROUPS:
        assert all(f"\n        {name}: " in group.__doc__ for name in group.__dataclass_fields__)
