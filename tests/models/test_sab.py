"""Sparse Attentive Backtracking; numbers are those of its specification's tests."""

import pytest
import torch
from family_cases import EMISSIONS, perturbed
from torch.nn.functional import one_hot
from torch.testing import assert_close

from experiments.memory.__main__ import COLUMNS, train
from zforcing_pyro.data import Sequences, collate
from zforcing_pyro.estimators import TraceELBO
from zforcing_pyro.layers.attention import SparseAttentiveLSTM, sparse_weights
from zforcing_pyro.models import RNN, SAB, VRNN
from zforcing_pyro.models.steps import detached
from zforcing_pyro.training import TrainingOptions
from zforcing_pyro.training.fit import fit

NEVER = 10**5


def close(a, b, tolerance=1e-12):
    assert_close(a, b, rtol=tolerance, atol=tolerance)


def sab(kind="gaussian", **options):
    return perturbed(SAB(EMISSIONS[kind], 3, h_dim=4, embed_dim=3, **options))


def layer(h_dim=4, **options):
    return perturbed(SparseAttentiveLSTM(3, h_dim, **options))


def start(net, num=2):
    return {name: torch.zeros(num, size) for name, size in net.state_dims.items()}


def slopes(value, parameters):
    return torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True)


def rnn_of(net):
    """An RNN with the weights of a SAB whose emission does not read s_t."""
    rnn = RNN(EMISSIONS["gaussian"], 3, h_dim=4, embed_dim=3)
    rnn.rnn, rnn.embed, first = net.rnn.lstm, net.embed, net.emission.mlp.layers[0]
    with torch.no_grad():
        first.weight[:, 4:] = 0  # V2
        rnn.emission.load_state_dict(
            net.emission.state_dict() | {"mlp.layers.0.weight": first.weight[:, :4]}
        )
    return rnn


def test_sab_without_memories_is_an_lstm():
    """1."""
    net = sab(k_att=NEVER, k_trunc=0)
    rnn, x = rnn_of(net), torch.randn(2, 6, 3)
    ours, theirs = (-TraceELBO().bound(n.terms(x)).sum() for n in (net, rnn))
    close(ours, theirs)
    shared = [*net.rnn.lstm.parameters(), *net.embed.parameters()]
    close(slopes(ours, shared), slopes(theirs, shared))
    first, second = net.emission.mlp.layers[0].weight, rnn.emission.mlp.layers[0].weight
    close(slopes(ours, [first])[0][:, :4], slopes(theirs, [second])[0])
    features, _ = net.context(net.batch(x))
    close(features["h"][..., :4], rnn.context(rnn.batch(x))[0]["h"])
    assert (features["h"][..., 4:] == 0).all()


def test_sab_with_all_memories_and_softmax_is_a_dense_attentive_lstm():
    """2. The reference is written naively."""
    net, x = layer(k_trunc=0, k_top=0, k_att=1, sparsify="softmax"), torch.randn(2, 7, 3)
    h, c = torch.zeros(2, 2, 4).unbind()
    memories, outputs = [h], []
    for x_t in x.unbind(1):
        h, c = net.lstm.step(x_t, (h, c))
        read = [net.score((net.key(m) + net.query(h)).tanh()) for m in memories]
        weights = torch.cat(read, -1).softmax(-1)
        s = sum(w[:, None] * m for w, m in zip(weights.T, memories))
        h = h + s
        memories.append(h)
        outputs.append(torch.cat([h, s], -1))
    expected, (ours, _) = torch.stack(outputs, 1), net(x, net.open(start(net)))
    close(ours, expected)
    noise = torch.randn_like(ours)
    pair = (slopes((noise * v).sum(), net.parameters()) for v in (ours, expected))
    close(*pair)


@pytest.mark.parametrize("k_trunc", [1, 3, 4])
def test_truncation_alone_is_that_of_detached_chunks(k_trunc):
    """3. The grid cuts before the steps k, 2k, ..., counted from 1."""
    net = sab(k_att=NEVER, k_trunc=k_trunc)
    rnn, x = rnn_of(net), torch.randn(2, 10, 3)
    ours = -net.terms(x).log_weight.sum()
    theirs, state, begin = 0.0, None, 0
    for end in [*range(k_trunc - 1, 10, k_trunc), 10]:
        if end > begin:
            terms = rnn.terms(x[:, begin:end], state=state)
            theirs, state, begin = theirs - terms.log_weight.sum(), detached(terms.state), end
    close(ours, theirs)
    shared = list(net.rnn.lstm.parameters())
    close(slopes(ours, shared), slopes(theirs, shared))


@pytest.mark.parametrize("kind", ["relu", "softmax"])
def test_weights_are_sparse_and_sum_to_one(kind):
    """4."""
    for num in (1, 3, 5, 9):
        for k_top in (1, 3, 5):
            scores = torch.randn(50, num)
            weights = sparse_weights(scores, k_top, kind)
            assert ((weights > 0).sum(-1) == min(k_top, num)).all()
            assert_close(weights.sum(-1), torch.ones(50), rtol=0, atol=1e-3)
            chosen = scores.topk(min(k_top, num)).indices.sort().values
            assert (weights.topk(min(k_top, num)).indices.sort().values == chosen).all()
    best = sparse_weights(scores, 1, kind)
    assert_close(best, one_hot(scores.argmax(-1), 9).double(), rtol=0, atol=1e-4)
    assert (sparse_weights(scores, 0, kind) > 0).all()
    hidden = scores.clone()
    hidden[:, 4:] = -torch.inf  # nothing is there
    close(sparse_weights(hidden, 3, kind)[:, :4], sparse_weights(scores[:, :4], 3, kind))
    assert (sparse_weights(hidden, 3, kind)[:, 4:] == 0).all()


def reached(weights, k_top, k_trunc, k_att, scores):
    """Steps, counted from 1, whose inputs the last output has a gradient to.

    A step reaches those back to the last cut, and through each memory that it reads, or that is at
    the threshold, what the step that wrote the memory reaches.
    """
    todo, done = [len(weights)], set()
    while todo:
        t = todo.pop()
        while t >= 1 and t not in done:
            done.add(t)
            attended = scores[t - 1].topk(min(k_top + 1, len(scores[t - 1]))).indices
            todo += [k_att * int(i) for i in attended if i > 0]
            if t % k_trunc == 0:
                break
            t -= 1
    return done


@pytest.mark.parametrize("seed", range(20))
def test_credit_flows_through_the_attended_memories_only(seed):
    """5. The gradient of a loss at T is not zero at the predicted steps, and at no other."""
    torch.manual_seed(seed)
    k_trunc, k_att, k_top, num_steps = 5, 2, 2, 40
    net = layer(k_top=k_top, k_trunc=k_trunc, k_att=k_att)
    x = torch.randn(1, num_steps, 3, requires_grad=True)
    memory, weights, scores = net.open(start(net, 1)), [], []
    for x_t in x.unbind(1):
        before = memory
        output, row, memory = net.step(x_t, memory)
        h = memory.h - output[:, 4:]  # h before the read
        weights.append(row[0])
        scores.append(net.scores(before, h)[0].detach())
    (slope,) = torch.autograd.grad(output.square().sum(), x)
    got = {t + 1 for t in range(num_steps) if slope[0, t].any()}
    assert got == reached(weights, k_top, k_trunc, k_att, scores)
    alone = layer(k_att=NEVER, k_trunc=k_trunc)
    (slope,) = torch.autograd.grad(
        alone(x, alone.open(start(alone, 1)))[0][:, -1].square().sum(), x
    )
    assert slope[0].any(-1).nonzero().flatten().tolist() == [39]  # step 40 itself: 40 % 5 is 0


@pytest.mark.parametrize("attention", ["content", "additive"])
def test_weights_follow_the_content_of_memories(attention):
    """6. Not so the separable score, whose ranking is the same for every state."""
    net = layer(k_top=3, attention=attention)
    entries, h, order = torch.randn(1, 6, 4), torch.randn(200, 4), [1, 0, 2, 3, 4, 5]
    memory = net.open(start(net, 200))._replace(numbers=torch.arange(6), t=12)

    def scores(entries):
        return net.scores(memory._replace(keys=net.keys(entries.expand(200, -1, -1))), h)

    swapped = scores(entries[:, order])
    close(sparse_weights(swapped, 3)[:, order], sparse_weights(scores(entries), 3))
    rankings = {tuple(row) for row in scores(entries).argsort(-1).tolist()}
    assert len(rankings) > 1 if attention == "content" else len(rankings) == 1


@pytest.mark.parametrize("max_memory", [0, 3])
def test_sab_is_causal_and_reads_no_padding_and_its_chunks_are_the_sequence(max_memory):
    """7."""
    net, x = sab(k_top=2, k_trunc=3, k_att=2, max_memory=max_memory), torch.randn(3, 11, 3)
    full = net.terms(x).log_emission[0]
    for k in range(11):
        moved = x.clone()
        moved[:, k] += 1
        changed = (net.terms(moved).log_emission[0] != full).any(0)
        assert not changed[:k].any() and changed[k]
    lengths = torch.tensor([11, 4, 7])
    padded = x.clone()
    padded[1, 4:], padded[2, 7:] = torch.nan, 1e6
    terms = net.terms(padded, lengths).log_emission[0]
    for row, length in enumerate(lengths):
        close(terms[row, :length], net.terms(x[row : row + 1, :length]).log_emission[0, 0])
        assert (terms[row, length:] == 0).all()
    first = net.terms(x[:, :5])
    close(net.terms(x[:, 5:], state=first.state).log_emission[0], full[:, 5:])


def test_rows_that_began_at_different_steps_share_a_batch():
    """7. As where windows are carried: each row has its own ring, cuts and memories."""
    net, x = sab(k_top=2, k_trunc=3, k_att=2, max_memory=3), torch.randn(2, 12, 3)
    states = [net.terms(x[:1, :5]).state, net.terms(x[1:, :2]).state]
    state = {name: torch.cat([s[name] for s in states], -2) for name in net.state_dims}
    state["x_prev"] = torch.stack([x[0, 4], x[1, 1]])
    both = torch.stack([x[0, 5:9], x[1, 2:6]])
    terms = net.terms(both, state=state)
    close(terms.log_emission[0, 0], net.terms(x[:1, :9]).log_emission[0, 0, 5:])
    close(terms.log_emission[0, 1], net.terms(x[1:, :6]).log_emission[0, 0, 2:])
    more = net.terms(torch.stack([x[0, 9:12], x[1, 6:9]]), state=terms.state)
    close(more.log_emission[0, 0], net.terms(x[:1]).log_emission[0, 0, 9:])
    close(more.log_emission[0, 1], net.terms(x[1:, :9]).log_emission[0, 0, 6:])


def test_a_long_ring_keeps_all_memories():
    """7."""
    x = torch.randn(2, 9, 3)
    torch.manual_seed(1)
    free = sab(k_att=2)
    torch.manual_seed(1)
    ring = sab(k_att=2, max_memory=5)
    close(ring.terms(x).log_emission, free.terms(x).log_emission)
    attention = free.attention(x)
    assert attention.shape == (2, 9, 5)
    assert_close(attention.sum(-1)[:, 2:], torch.ones(2, 7), rtol=0, atol=1e-4)
    assert (attention[:, :2, 1:] == 0).all()  # the first memory is written at the second step


@pytest.mark.parametrize("kind", ["relu", "softmax"])
@pytest.mark.parametrize("k_top", [1, 2, 5])
def test_weights_have_the_gradient_of_differences(kind, k_top):
    """8. Away from ties; the threshold has a gradient too."""
    scores = torch.randn(4, 5, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: sparse_weights(a, k_top, kind), scores)
    if kind == "relu" and k_top == 2:
        weights = sparse_weights(scores, k_top, kind)
        (slope,) = torch.autograd.grad(weights.square().sum(), scores)
        assert ((slope != 0).sum(-1) == 3).all()


def test_tied_scores_are_finite():
    """At the threshold of all: s_t is 0, and so is no gradient NaN."""
    scores = torch.zeros(2, 6, requires_grad=True)
    weights = sparse_weights(scores, 2)
    assert (weights == 0).all()
    (slope,) = torch.autograd.grad(weights.sum(), scores)
    assert slope.isfinite().all()
    assert (sparse_weights(scores, 2, "softmax").sum(-1) == 1).all()


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(3))
def test_sab_copies_where_truncated_backpropagation_fails(seed, tmp_path):
    """9 and 10. Some 20 minutes a seed; results of longer sequences are recorded, not asserted."""
    torch.set_default_dtype(torch.float32)
    accuracy = {}
    for arm in ("sab", "tbptt"):
        rows = train("copy-30", arm, seed, 0, tmp_path)[-3:]
        accuracy[arm] = [float(row[COLUMNS.index("accuracy")]) for row in rows]
    print(seed, accuracy)
    assert accuracy["sab"][0] > 0.99 and accuracy["tbptt"][0] < 0.4


# Inputs of their own, and what is scored


@pytest.mark.parametrize("model", [SAB, VRNN])
def test_only_scored_steps_count(model):
    """For latents too: their KL counts everywhere, as the bound given the inputs needs."""
    net = perturbed(model(EMISSIONS["gaussian"], 3, h_dim=4, embed_dim=3))
    x, inputs = torch.randn(2, 2, 6, 3).unbind()
    scored = torch.rand(2, 6) > 0.5
    data = Sequences(list(x), inputs=list(inputs), scored=list(scored))
    given = net.given_batch(collate(list(data)))
    torch.manual_seed(1)
    terms = given.terms(3)
    torch.manual_seed(1)
    full = net.terms(x, num_particles=3, inputs=inputs)
    close(terms.log_emission, torch.where(scored, full.log_emission, 0.0))
    close(terms.kl, full.kl)
    filtered = given.filtered(3, lambda *_: None)
    assert (filtered.log_emission != 0).any(0).tolist() == scored.tolist()
    assert given.counted.tolist() == scored.tolist()
    net.__class__ = type("Programs", (model,), {"model": lambda *args: None})
    with pytest.raises(ValueError, match="'scored' must be None to filter by programs"):
        given.filtered(3, lambda *_: None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"k_att": 0}, "'k_att' must be in 1..1,048,576, got 0"),
        ({"k_top": -1}, "'k_top' must not be negative, got -1"),
        ({"sparsify": "max"}, r"'sparsify' must be one of \['relu', 'softmax'\], got 'max'"),
    ],
)
def test_sab_refuses(option, message):
    with pytest.raises(ValueError, match=message):
        sab(**option)


def test_memories_without_a_limit_cannot_be_carried():
    data = Sequences(list(torch.randn(4, 8, 3)))
    options = TrainingOptions(batch_size=2, window=4, carry_state=True)
    with pytest.raises(ValueError, match=r"'carry_state' must be False for SAB .*max_memory"):
        fit(sab(), data, data, options=options, max_updates=2)
    fitted = fit(sab(max_memory=3), data, data, options=options, max_updates=4)
    assert fitted.bound < 0
