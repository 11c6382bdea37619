"""Options, types of data and files that a net takes, and those that it refuses."""

import json
import math
from functools import partial
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from family_cases import SIZES, build, models, options_of
from safetensors.torch import save_file
from torch.testing import assert_close

from zforcing_pyro.emissions import Bernoulli, Categorical, DiagNormal
from zforcing_pyro.estimators import TraceELBO
from zforcing_pyro.models import DKF, MODELS, SRNN, VRNN, ZForcing
from zforcing_pyro.models.files import load_net

names = pytest.mark.parametrize("name", models())


def error_of(function, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Options


@pytest.mark.parametrize("name", MODELS)
def test_bad_options_are_named(name):
    new, known = partial(MODELS[name], DiagNormal), options_of(MODELS[name])
    for size in {"x_dim", "z_dim", "h_dim", "hidden_dim"} & known.keys():
        options = {"x_dim": 3} | {size: 0}
        assert error_of(new, **options) == f"'{size}' must be in 1..1,048,576, got 0"
        options[size] = 2**40
        assert error_of(new, **options) == f"'{size}' must be in 1..1,048,576, got {2**40}"
    for number in {"embed_dim", "aux_weight", "reverse_weight", "clamp"} & known.keys():
        for value in (-1, math.nan):
            error = error_of(new, 3, **{number: value})
            assert error == f"'{number}' must not be negative, got {value}"
    for option, action in known.items():
        if get_origin(hint := action._typehint) is Literal:
            error = error_of(new, 3, **{option: "none"})
            assert error == f"'{option}' must be one of {list(get_args(hint))}, got 'none'"
    if MODELS[name].of_vectors:
        return
    error = error_of(MODELS[name], Categorical, 3, embed_dim=0)
    assert error == "'embed_dim' must be positive for symbols, got 0"
    terms = build(name, options={"embed_dim": 0}).terms(torch.zeros(2, 3, 3))
    assert terms.log_weight.isfinite().all()


@names
def test_every_option_has_a_type_and_a_line_of_help(name):
    model, lines = models()[name], models()[name].__doc__.splitlines()
    for option, action in options_of(model).items():
        assert action._typehint is not None
        assert action.help or any(
            option in line.partition(": ")[0].split(", ") for line in map(str.strip, lines)
        )


@pytest.mark.parametrize("hidden_dims", [[0], [-1], [3, 0], [2**40]])
def test_sizes_of_hidden_layers_are_checked(hidden_dims):
    """W19."""
    error = error_of(DiagNormal, 3, 2, hidden_dims=hidden_dims)
    assert error == f"'hidden_dims' must be sizes in 1..{2**20}, got {hidden_dims}"


def test_a_cost_needs_its_network_and_a_network_a_backward_state():
    for model in (SRNN, DKF):
        assert not list(model(DiagNormal, 3).costs.parameters())
        error = error_of(model, DiagNormal, 3, aux_weight=0.1)
        assert error.startswith("'aux_weight' must be 0 without 'aux_network', got 0.1; aux_net")
    for model, option in ((SRNN, {"posterior": "filtering"}), (DKF, {"inference": "left"})):
        error = error_of(model, DiagNormal, 3, **option, reverse_network=True)
        assert error.startswith("'reverse_network' must be False for a ")
    net = ZForcing(Bernoulli, 3, aux_weight=0.0, reverse_weight=0.0, **SIZES)
    assert list(net.costs.auxiliary.parameters()) and list(net.costs.reverse.parameters())


# Data


def both_paths(net, x, lengths):
    """The error of the fast path, which is that of the programs and of an estimator."""
    error = error_of(net.terms, x, lengths)
    assert error_of(net.model, x, lengths) == error
    with pytest.raises(ValueError) as caught:
        TraceELBO().loss(net.model, net.guide, x, lengths)
    # Pyro's trace appends its shapes to what goes wrong in a program.
    assert str(caught.value).splitlines()[0] == error
    return error


NAN = torch.zeros(2, 5, 3, dtype=torch.float64)
NAN[1, 2, 1] = math.nan
SHAPE = "'x' must have shape (batch, time, x_dim) and not be empty, got "
ROWS = "'lengths' must be 2 integers, got "


@names
def test_bad_data_are_named(name):
    net, lengths = build(name), [5, 3]
    for x, error in (
        (torch.zeros(2, 5), SHAPE + "(2, 5)"),
        (torch.zeros(0, 5, 3), SHAPE + "(0, 5, 3)"),
        (torch.zeros(2, 5, 4), "'x' must have x_dim 3, got 4"),
        (torch.zeros(2, 5, 3).long(), "'x' must be of a floating dtype, got torch.int64"),
        (NAN, "'x' must be finite in valid steps, got NaN or infinity; an emission with"),
        ([[1.0], [1.0, 2.0]], "'x' must be a tensor or array of numbers: expected sequence of"),
    ):
        assert both_paths(net, x, lengths).startswith(error)
    for lengths, error in (
        (torch.tensor([5, 0]), "'lengths' must be in 1..5, got [5, 0]"),
        (np.array([5]), ROWS + "torch.int64 of shape (1,)"),
        (torch.tensor([5.0, 5.0], dtype=torch.float32), ROWS + "torch.float32 of shape (2,)"),
        ([True, True], ROWS + "torch.bool of shape (2,)"),
    ):
        assert both_paths(net, torch.zeros(2, 5, 3), lengths) == error
    net = build(name, "categorical")
    for x, error in (
        (torch.zeros(2, 5, 3).long(), SHAPE.replace(", x_dim", "") + "(2, 5, 3)"),
        (torch.zeros(2, 5).int(), "'x' must hold symbols of dtype torch.int64, got torch.int32"),
        (torch.zeros(2, 5), "'x' must hold symbols of dtype torch.int64, got torch.float"),
        (torch.tensor([[0, 3, 2, 0, 0]] * 2), "'x' must hold symbols in 0..2, got 0..3"),
    ):
        assert both_paths(net, x, [5, 5]).startswith(error)


@names
def test_data_may_be_of_many_types(name):
    """C9: lists, arrays, other floating dtypes and no lengths give what tensors give."""
    net, lengths = build(name), torch.tensor([4, 2])
    x = (8 * torch.rand(2, 4, 3)).round() / 8  # which fewer bits hold

    def log_weight(x, lengths):
        torch.manual_seed(1)
        fast = net.terms(x, lengths, inputs=x).log_weight
        torch.manual_seed(1)
        assert_close(net.program_terms(x, lengths, inputs=x).log_weight, fast)
        return fast

    expected = log_weight(x, lengths)
    for other in (x.tolist(), x.numpy(), x.float(), x.half(), x.bfloat16()):
        assert_close(log_weight(other, lengths), expected)
    for other in (lengths.tolist(), lengths.numpy(), lengths.int()):
        assert_close(log_weight(x, other), expected)
    full = torch.tensor([4, 4])
    torch.manual_seed(1)
    expected = net.terms(x, full).log_weight
    torch.manual_seed(1)
    assert_close(net.given(x.numpy()).terms().log_weight, expected)
    half = build(name).float()
    assert half.terms(x).log_weight.dtype == torch.float32
    assert half.generate(2, 5, x.numpy()).dtype == torch.float32


def test_bad_prefixes_and_numbers_to_generate_are_named():
    net = build("vrnn")
    for shape in [(3, 2, 3), (2, 6, 3), (2, 0, 3), (2,)]:
        error = f"'prefix' must be of 2 sequences of 1..5 steps, got shape {shape}"
        assert error_of(net.generate, 2, 5, torch.zeros(shape)) == error
    error = error_of(net.generate, 2, 5, torch.zeros(2, 3, 4))
    assert error == "'prefix' must have x_dim 3, got 4"
    assert error_of(net.generate, 0, 5) == "'num_sequences' must be positive, got 0"
    assert error_of(net.generate, 2, 0) == "'num_steps' must be positive, got 0"


# Files


@pytest.mark.parametrize("name", MODELS)
def test_a_file_gives_the_net_back(name, tmp_path):
    options = {k: v for k, v in SIZES.items() if k in options_of(MODELS[name])}
    net = MODELS[name](partial(DiagNormal, hidden_dims=[3]), 3, **options)
    net.save(tmp_path / "net.safetensors")
    twin, x = load_net(tmp_path / "net.safetensors"), torch.randn(2, 1 if net.of_vectors else 4, 3)
    found = []
    for one in (net, twin):
        torch.manual_seed(1)
        found.append(one.terms(x).log_weight)
    assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.complex64, torch.bfloat16])
def test_weights_of_other_dtypes_are_refused(dtype, tmp_path):
    """W19."""
    file = tmp_path / "net.safetensors"
    net = VRNN(Bernoulli, 3, **SIZES)
    net.save(file)
    rewrite(file, lambda weights, text: ({n: w.to(dtype) for n, w in weights.items()}, text))
    assert f"got weights of ['{dtype}'], not of float32" in error_of(load_net, file)


def rewrite(file, change):
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        text = opened.metadata()["zforcing_pyro"]
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    weights, text = change(weights, text)
    save_file(weights, file, {"zforcing_pyro": text})


def test_broken_files_and_other_versions_are_refused(tmp_path):
    file = tmp_path / "net.safetensors"

    def changed(**entries):
        VRNN(Bernoulli, 3, **SIZES).save(file)
        rewrite(file, lambda w, text: (w, json.dumps(json.loads(text) | entries)))
        return error_of(load_net, file)

    assert "got format 1, which zforcing_pyro 0.1.0 reads" in changed(format=1, version="0.1.0")
    assert "must be a net that 'save' wrote" in changed(model={"name": "nothing"})
    assert "'z_dim' must be in 1" in changed(model={"name": "vrnn", "x_dim": 3, "z_dim": 2**50})
    assert "must be a net that 'save' wrote" in changed(emission=[[[]]])
    file.write_bytes(b"no such file")
    assert "must be a net that 'save' wrote" in error_of(load_net, file)
    with pytest.raises(FileNotFoundError):
        load_net(tmp_path / "none")
    net = VRNN(lambda in_dim, x_dim: Bernoulli(in_dim, x_dim), 3, **SIZES)
    assert error_of(net.save, file).startswith("'emission' must be one of")
