"""Attention on graphs: each arm is what its name says, and what is measured is what is meant."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from limelight import Attention, Graph
from limelight.claims import attention_on_graphs as claim
from limelight.data.labeled_graphs import LabeledGraph, both_ways, with_loops
from limelight.experiment import catalog
from limelight.experiment.claim_file import load

WIDTH = 6


def seeded(seed=1000):
    return torch.Generator().manual_seed(seed)


def ring(n, classes=2):
    """A ring of nodes whose classes come in runs of equal length, with features that say the class."""
    labels = torch.arange(n) * classes // n
    edges = both_ways(torch.stack([torch.arange(n), (torch.arange(n) + 1) % n]), n)
    return LabeledGraph(F.one_hot(labels).float(), labels, edges)


@pytest.mark.parametrize("arm", claim.WEIGHTS)
def test_the_weights_of_each_arm_by_its_equation(arm):
    z, graph = torch.randn(5, WIDTH), Graph(with_loops(torch.tensor([[0, 1, 2, 4], [1, 2, 0, 0]]), 5), 5)
    allowed = graph.block(slice(0, 5), slice(0, 5), z.device)
    attention = claim.WEIGHTS[arm](WIDTH)
    if arm in (claim.METRIC, claim.EUCLIDEAN):
        image = attention.similarity.similarity.phi(z)
        scores = -torch.cdist(image, image).square() / (2 * math.sqrt(WIDTH))
    elif arm == claim.DOT:
        scores = attention.query(z) @ attention.key(z).T / math.sqrt(WIDTH)
    elif arm == claim.ADDITIVE:
        scores = F.leaky_relu(attention.similarity.query(z) + attention.similarity.key(z).T, 0.2)
    else:
        scores = torch.zeros(5, 5)
    P = scores.masked_fill(~allowed, -math.inf).softmax(-1)
    torch.testing.assert_close(attention(z, graph).dense(), P, atol=1e-5, rtol=1e-4)


def test_a_linear_metric_is_linear_and_the_other_is_not():
    a, b = torch.randn(2, WIDTH)
    for arm, linear in ((claim.EUCLIDEAN, True), (claim.METRIC, False)):
        phi = claim.WEIGHTS[arm](WIDTH).similarity.similarity.phi
        assert torch.allclose(phi(a) + phi(b), phi(a + b), atol=1e-5) == linear


def test_labels_spread_along_the_edges_until_they_meet():
    graph, told = ring(40), torch.zeros(40, dtype=torch.bool)
    told[[10, 30]] = True  # the middle of each run
    found = claim.spread_labels(graph, told).values
    assert found["accuracy"] > 0.9
    assert found["own class"] == pytest.approx(1 - 4 / 80)  # of 80 directed edges 4 lead into the other class
    told[[10, 30]], told[[0, 20]] = False, True  # the first node of each run
    assert claim.spread_labels(graph, told).values["accuracy"] < 0.7


def test_a_network_of_features_alone_sees_no_edges(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 20)
    graph, told = ring(60), torch.arange(60) % 3 == 0
    other = LabeledGraph(graph.features, graph.labels, both_ways(torch.randint(60, (2, 90), generator=seeded()), 60))

    def loss(arm, graph):
        torch.manual_seed(0)
        return claim.trained(arm, graph, told, 0.01, seeded()).arrays["loss"].tolist()

    assert loss(claim.FEATURES, graph) == loss(claim.FEATURES, other)
    assert loss(claim.MEAN, graph) != loss(claim.MEAN, other)


def test_features_that_say_the_class_are_learned_and_noise_costs_accuracy():
    graph, told = ring(200), torch.arange(200) % 5 == 0
    found = claim.trained(claim.FEATURES, graph, told, 0.03, seeded()).values
    assert found["accuracy"] == 1.0
    assert 0 < found["steps"] < claim.STEPS
    assert 0.05 < found["lost"] < 0.5
    assert found["own class"] == 1.0


def test_where_each_class_looks_by_hand():
    # Nodes 0, 1, 2 are of class 0 and node 3 of class 1; node 2 sees 2 and 3, the others themselves alone.
    graph = LabeledGraph(torch.zeros(4, 1), torch.tensor([0, 0, 0, 1]), torch.tensor([[2], [3]]))
    zeros = torch.zeros(4, 1)
    P = Attention(zeros, zeros, mask=Graph(with_loops(graph.edges, 4), 4))
    mixing = claim.class_to_class(P, graph)
    torch.testing.assert_close(mixing, torch.tensor([[2.5 / 3, 0.5 / 3], [0.0, 1.0]]))
    assert claim.own_class(mixing, graph) == pytest.approx(3.5 / 4)
    told = torch.tensor([True, False, False, False])
    assert claim.right(torch.tensor([1, 0, 1, 0]), graph, told) == pytest.approx(1 / 3)


def test_steps_at_one_rate_are_those_of_that_rate(monkeypatch):
    asked = []

    def measure_at(self, arm, rate, seed):
        asked.append(rate)
        return claim.Measurement({"steps": 1000 * rate, "accuracy": 0.5})

    monkeypatch.setattr(claim.AttentionOnGraphs, "measure_at", measure_at)
    one = catalog.claim("attention_on_graphs")
    found = one.measure(claim.METRIC, 0).values
    assert (found["steps"], found["steps at one rate"]) == (3.0, 10.0)
    assert one.measure(claim.DOT, 0).values["steps"] == 10.0
    assert asked == [0.003, 0.01, 0.01]


def test_the_file_of_the_docstring_runs_the_same_on_cora(tmp_path, monkeypatch):
    text = re.search(r"    from limelight.*cora\(.*?\)\n", claim.__doc__, re.DOTALL).group()
    lines = [line.removeprefix("    ") for line in text.splitlines()]
    words = torch.eye(4, dtype=torch.int).repeat(15, 1)
    rows = [f"p{i} {' '.join(map(str, word.tolist()))} field{i % 4}" for i, word in enumerate(words)]
    (tmp_path / "cora.content").write_text("\n".join(rows))
    (tmp_path / "cora.cites").write_text("\n".join(f"p{i} p{(i + 4) % 60}" for i in range(60)))
    path = tmp_path / "attention_on_cora.py"
    path.write_text("\n".join(lines).replace("folder/of/cora", str(tmp_path)))
    monkeypatch.setattr(claim, "TOLD", 5)
    monkeypatch.setattr(claim, "STEPS", 20)
    on_cora = load(str(path))
    assert on_cora.name == "attention_on_cora"
    assert on_cora.graph(seeded()).nodes == 60
    assert on_cora.measure(claim.EDGES, 0).values["accuracy"] > 0.9
    assert 0 <= on_cora.measure(claim.METRIC, 0).values["accuracy"] <= 1
