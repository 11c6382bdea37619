"""Batches are functions of the update number, the same on any number of processes."""

import pytest
import torch

from zforcing_pyro.data import Sequences
from zforcing_pyro.emissions import Bernoulli, Categorical
from zforcing_pyro.estimators import TraceELBO
from zforcing_pyro.models import VRNN, ZForcing
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.batches import Streams, Updates
from zforcing_pyro.training.fit import fit
from zforcing_pyro.training.player import Player


@pytest.fixture
def data():
    lengths = torch.randint(3, 9, (40,)).tolist()
    return Sequences([torch.rand(n, 1) for n in lengths])


def updates(data, rank=0, world=1, accumulate=1):
    options = TrainingOptions(batch_size=15, accumulate=accumulate)
    return Updates(data, options, 3, rank, world)


def rows(parts):
    return sorted(round(x.sum().item(), 9) for part in parts if part.counts for x in part.batch.x)


def test_an_update_depends_on_its_number_alone(data):
    parts = [updates(data).part(k) for k in range(8)]
    again = updates(data)
    for k in (5, 0, 7, 2):
        assert torch.equal(again.part(k).batch.x, parts[k].batch.x)
    assert sum(part.num for part in parts[:3]) == 40
    assert rows(parts[:3]) == sorted(round(x.sum().item(), 9) for x, *_ in data)
    assert rows(parts[:1]) != rows(parts[3:4])


@pytest.mark.parametrize("world, accumulate", [(2, 1), (1, 3), (3, 2), (8, 2)])
def test_batches_are_the_same_on_any_number_of_processes(data, world, accumulate):
    single, ranks = updates(data), [updates(data, r, world, accumulate) for r in range(world)]
    dealt = [[rank.part(k, t) for t in range(accumulate) for rank in ranks] for k in range(4)]
    for k, parts in enumerate(dealt):
        assert rows(parts) == rows([single.part(k)])
        assert {part.num for part in parts} == {len(rows(parts))}
    assert any(not part.counts for part in dealt[-1]) == (world == 8)


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_of_streams_go_on_where_they_ended(shuffle):
    lengths, window = torch.tensor([7, 2, 5, 9, 1, 4]), 3
    data = Sequences([torch.arange(n)[:, None] + 100.0 * i for i, n in enumerate(lengths)])
    windows, streams = data.windows(window), Streams(lengths, window, 3, shuffle, seed=1)
    epochs = []
    for epoch in range(2):
        streams.epoch = epoch
        batches, before = streams.batches(), [None] * 3
        assert len(batches) == len(streams) == 4  # 12 windows
        for k, batch in enumerate(batches):
            for row, (i, fresh) in enumerate(zip(batch, streams.fresh(k, batch))):
                first = windows[i].x[0].item()
                assert fresh == (k == 0 or first % 100 == 0)
                assert fresh or first == before[row] + 1
                before[row] = windows[i].x[-1].item()
        epochs.append(batches)
        assert sorted(i for batch in batches for i in batch) == list(range(12))
    assert (epochs[0] == epochs[1]) is not shuffle


def test_carried_states_make_windows_one_sequence():
    """For a posterior that filters, bounds of windows add up; without the state they do not."""
    data = Sequences(list((torch.rand(4, 24, 1) < 0.5).double()))
    net = VRNN(Bernoulli, 1, z_dim=2, h_dim=4, hidden_dim=4, embed_dim=0).double()
    options = TrainingOptions(window=6, carry_state=True, batch_size=4, shuffle=False)
    player, updates = Player(net, TraceELBO(), options), Updates(data, options, 0)
    torch.manual_seed(3)
    exact = net.terms(torch.stack([x for x, *_ in data]), data.lengths).log_weight.sum().item()
    for carries in (True, False):
        torch.manual_seed(3)
        total, state = 0.0, None
        for k in range(4):
            terms = player.given(updates.part(k), state if carries else None).terms()
            state = {name: value.detach() for name, value in terms.state.items()}
            state = {name: state[name] for name in net.state_dims}
            total += terms.log_weight.sum().item()
        assert (total == pytest.approx(exact, abs=1e-9)) is carries


def test_frame_dropout_drops_inputs_and_no_observations(data):
    options = TrainingOptions(frame_dropout=0.4, batch_size=40)
    net = ZForcing(Bernoulli, 1, z_dim=2, h_dim=4, hidden_dim=4, embed_dim=0)
    given = Player(net, TraceELBO(), options).given(Updates(data, options, 0).part(0), None)
    dropped = (given.inputs != given.x)[given.x != 0]
    assert 0.2 < dropped.double().mean() < 0.6
    symbols = ZForcing(Categorical, 5, z_dim=2, h_dim=4, hidden_dim=4, embed_dim=3)
    dropped = symbols.drop_frames(torch.ones(1, 2).long(), torch.tensor([[True, False]]))
    assert dropped.tolist() == [[5, 1]]


def test_rolls_move_as_a_whole_and_lose_no_key():
    """By at most 3 keys, among them none that a roll at the end of the piano has no room for."""
    rolls = torch.zeros(40, 6, 88, dtype=torch.uint8)
    rolls[:, :, 40:50] = torch.rand(40, 6, 10) < 0.5
    rolls[::2, 0, 87] = 1
    data, options = Sequences(list(rolls)), TrainingOptions(batch_size=15, transpose=3)
    parts = [Updates(data, options, 3, rank, 2).part(k) for k in range(12) for rank in (0, 1)]
    moves = set()
    for row in torch.cat([part.batch.x for part in parts if part.counts]).byte():
        (move,) = {m for m in range(-4, 5) for roll in rolls if torch.equal(row, roll.roll(m, -1))}
        moves.add((row[0].nonzero().max().item() > 60, move))
    assert moves == {(True, m) for m in range(-3, 1)} | {(False, m) for m in range(-3, 4)}
    again = Updates(data, options, 3).part(4).batch.x
    both = torch.cat([part.batch.x for part in parts[8:10]])
    assert sorted(map(str, again.tolist())) == sorted(map(str, both.tolist()))
    with pytest.raises(ValueError, match="'transpose' must be 0 with 'carry_state', got 3"):
        TrainingOptions(transpose=3, carry_state=True, window=2)
    with pytest.raises(ValueError, match="'transpose' must be 0 for data that are no piano-rolls"):
        fit(VRNN(Bernoulli, 1, z_dim=2, h_dim=4), [torch.zeros(3, 1)] * 2, [torch.zeros(3, 1)],
            options=TrainingOptions(transpose=3))  # fmt: skip
