"""Building blocks against PyTorch's own, explicit formulas, and loops over single sequences."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from zforcing_pyro.layers.blocks import MLP, VectorEmbedding, reverse_padded
from zforcing_pyro.layers.lstm import BackwardLSTM, ConditionalLayerNormLSTMCell, LSTMCell

LENGTHS = torch.tensor([5, 1, 3])


@pytest.mark.parametrize("event_shape", [(), (2,), (2, 3)])
def test_reversal_is_within_the_length_and_undoes_itself(event_shape):
    x = torch.randn(3, 5, *event_shape)
    reversed_x = reverse_padded(x, LENGTHS)
    for sequence, reversed_sequence, n in zip(x, reversed_x, LENGTHS):
        assert_close(reversed_sequence[:n], sequence[:n].flip(0), rtol=0, atol=0)
        assert_close(reversed_sequence[n:], sequence[n:], rtol=0, atol=0)
    assert_close(reverse_padded(reversed_x, LENGTHS), x, rtol=0, atol=0)


@pytest.mark.parametrize("hidden_dims", [(), (4,), [4, 5]])
def test_mlp_has_its_activation_between_layers_only(hidden_dims):
    mlp, x = MLP(2, hidden_dims, 3), 10 * torch.randn(6, 7, 2)
    layers = list(mlp.layers)
    assert [(a.in_features, a.out_features) for a in layers] == list(
        zip([2, *hidden_dims], [*hidden_dims, 3])
    )
    expected = layers[0](x)
    for layer in layers[1:]:
        slope = torch.where(expected > 0, expected, expected / 3)
        expected = layer(torch.minimum(torch.maximum(slope, -torch.tensor(3.0)), torch.tensor(3.0)))
    assert_close(mlp(x), expected)
    assert_close(mlp.tail(layers[0](x)), expected)


def random_cell(cls, *args):
    """A cell whose biases are no zeros either."""
    cell = cls(*args)
    for parameter in cell.parameters():
        nn.init.normal_(parameter)
    return cell


def test_lstm_cell_is_that_of_pytorch_on_the_concatenated_input():
    cell, theirs = random_cell(LSTMCell, 3, 2, 4), nn.LSTMCell(5, 4)
    theirs.load_state_dict(
        {
            "weight_ih": torch.cat([cell.weight_x, cell.weight_z], dim=1),
            "weight_hh": cell.weight_h,
            "bias_ih": cell.bias,
            "bias_hh": torch.zeros(16),
        }
    )
    x, z, h, c = torch.randn(6, 3), torch.randn(6, 2), torch.randn(6, 4), torch.randn(6, 4)
    assert_close(cell(x, z, (h, c)), theirs(torch.cat([x, z], -1), (h, c)))


CELLS = [(LSTMCell, (3, 2, 4)), (ConditionalLayerNormLSTMCell, (3, 2, 4, 5))]


@pytest.mark.parametrize(("cls", "sizes"), CELLS)
def test_cells_start_orthogonal_bounded_and_without_forget_bias(cls, sizes):
    cell = cls(*sizes)
    assert_close(cell.weight_h.T @ cell.weight_h, torch.eye(4))
    for weight in [cell.weight_x, *([cell.weight_z] if cls is LSTMCell else [])]:
        assert 0.25 < weight.abs().max() <= 0.5  # 1 / sqrt(4)
    assert (cell.bias == 0).all()


def test_deferred_features_are_features():
    for x_dim, defers in ((2, True), (40, False)):
        embed, x = VectorEmbedding(x_dim, 8), torch.randn(5, 6, x_dim)
        cell, rnn = LSTMCell(8, 2, 3), BackwardLSTM(8, 3)
        values, layer = embed.deferred(x)
        assert (layer is not None) == defers
        lengths = torch.tensor([6, 1, 5, 2, 6])
        assert_close(cell.project(values, layer), cell.project(embed(x)))
        assert_close(rnn(values, lengths, layer), rnn(embed(x), lengths))
