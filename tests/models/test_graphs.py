"""What surrounds a captured graph, by a stand-in that has its static buffers."""

import pytest
import torch
from test_fused import latents_for, parts
from torch.testing import assert_close

from zforcing_pyro.models.recurrence import recurrence
from zforcing_pyro.models.recurrence.fused import Forced, Recurrence
from zforcing_pyro.models.recurrence.graphs import Graphs


class Replay(torch.autograd.Function):
    """A replayed graph: arguments, results and gradients are in buffers that are used again."""

    @staticmethod
    def forward(ctx, graph, *tensors):
        for buffer, tensor in zip(graph.arguments, tensors):
            buffer.data.copy_(tensor)
        with torch.enable_grad():
            results = graph.function(*graph.arguments)
        if graph.results is None:
            graph.results = [r.detach().clone() for r in results]
        for buffer, result in zip(graph.results, results):
            buffer.copy_(result.detach())
        ctx.graph, ctx.computed = graph, results
        return tuple(buffer.detach() for buffer in graph.results)

    @staticmethod
    def backward(ctx, *d_results):
        graph = ctx.graph
        wanted = [a for a in graph.arguments if a.requires_grad]
        found = iter(torch.autograd.grad(ctx.computed, wanted, d_results))
        gradients = [next(found) if a.requires_grad else None for a in graph.arguments]
        if graph.gradients is None:
            graph.gradients = [None if g is None else g.clone() for g in gradients]
        for buffer, gradient in zip(graph.gradients, gradients):
            if buffer is not None:
                buffer.copy_(gradient)
        return None, *(None if b is None else b.detach() for b in graph.gradients)


class Graph:
    def __init__(self, function, samples):
        self.function, self.arguments = function, samples
        self.results = self.gradients = None

    def __call__(self, *tensors):
        return Replay.apply(self, *tensors)


@pytest.fixture
def graphs(monkeypatch):
    made = Graphs(Recurrence.apply, capture=Graph, largest=2)
    monkeypatch.setattr(recurrence, "GRAPHS", made)
    forced = Graphs(Forced.apply, capture=Graph, largest=2)
    monkeypatch.setattr(recurrence, "FORCED_GRAPHS", forced)
    # Of a device it only matters here that the user asked for graphs.
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    return made


def loss_of(backend, cell, posterior, inputs, future, state, seed):
    torch.manual_seed(seed)
    projected = cell.project(inputs)
    path = recurrence.roll_out(cell, posterior, projected, future, tuple(state), backend=backend)
    return path, path.h.square().sum() + path.c.sum() + path.posterior.mean.exp().sum()


def test_accumulated_gradients_and_kept_results_are_those_without_graphs(graphs):
    cell, posterior, (inputs, future, *state) = parts(clamp=8.0)
    weights, found = [*cell.parameters(), *posterior.parameters()], []
    for backend in ("fused", "graphs"):
        for weight in weights:
            weight.grad = None
        paths = []
        for seed in (1, 2, 3):  # parts of one update
            path, loss = loss_of(backend, cell, posterior, inputs, future, state, seed)
            loss.backward()
            paths.append((path.h, path.c, path.z))
        found.append((paths, [weight.grad.clone() for weight in weights]))
    assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)
    assert len(graphs.captured) == 1


def test_given_latents_have_captures_of_their_own(graphs):
    cell, posterior, (inputs, future, *state) = given = parts(clamp=8.0)
    latents = latents_for(given[-1])
    weights, found = [*cell.parameters(), *posterior.parameters(), latents], []
    for backend in ("fused", "graphs", "graphs"):
        projected = cell.project(inputs)
        path = recurrence.roll_out(
            cell, posterior, projected, future, tuple(state), latents, backend
        )
        loss = path.h.square().sum() + path.c.sum() + path.posterior.mean.exp().sum()
        found.append((path.h, torch.autograd.grad(loss, weights)))
    for other in found[1:]:
        assert_close(other, found[0], rtol=1e-12, atol=1e-12)
    assert not graphs.captured and len(recurrence.FORCED_GRAPHS.captured) == 1


def test_a_capture_for_each_shape_and_the_oldest_goes(graphs):
    for num_updates in (6, 5, 6, 5):
        cell, posterior, (inputs, future, *state) = parts(num_updates=num_updates, clamp=8.0)
        loss_of("graphs", cell, posterior, inputs, future, state, 1)
    assert len(graphs.captured) == 2
    first = next(iter(graphs.captured))
    cell, posterior, (inputs, future, *state) = parts(num_particles=1, clamp=8.0)
    loss_of("graphs", cell, posterior, inputs, future, state, 1)
    assert len(graphs.captured) == 2 and first not in graphs.captured


def test_without_gradients_nothing_is_captured(graphs):
    cell, posterior, (inputs, future, *state) = parts(clamp=8.0)
    with torch.no_grad():
        loss_of("graphs", cell, posterior, inputs, future, state, 1)
    assert not graphs.captured


def test_graphs_are_refused_without_a_gpu():
    cell, posterior, (inputs, future, *state) = parts(clamp=8.0)
    with pytest.raises(ValueError, match="'graphs' here: CUDA graphs need a CUDA device, got cpu"):
        loss_of("graphs", cell, posterior, inputs, future, state, 1)


def test_a_net_trained_with_graphs_is_evaluated_without_a_gpu():
    cell, posterior, (inputs, future, *state) = parts(clamp=8.0)
    with torch.no_grad():
        found = [
            loss_of(backend, cell, posterior, inputs, future, state, 1)[1]
            for backend in ("fused", "graphs")
        ]
    assert_close(*found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_graphs_on_a_gpu_are_the_reference(dtype):
    cell, posterior, (inputs, future, *state) = parts(dtype=dtype, factor=2, clamp=8.0)
    cell, posterior = cell.cuda(), posterior.cuda()
    leaves = [v.detach().cuda().requires_grad_() for v in (inputs, future, *state)]
    weights, found = [*cell.parameters(), *posterior.parameters()], []
    for backend in ("reference", "fused", "graphs", "graphs"):
        path, loss = loss_of(backend, cell, posterior, leaves[0], leaves[1], leaves[2:], 1)
        found.append((path.h, path.z, *torch.autograd.grad(loss, weights)))
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}
    for other in found[1:]:
        assert_close(other, found[0], **tolerance)
