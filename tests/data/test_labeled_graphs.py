"""Labeled graphs: the generated one is as its docstring says, and Cora is read from its files."""

from types import SimpleNamespace

import pytest
import torch

from limelight.data.labeled_graphs import both_ways, community_graph, cora, from_torch_geometric, with_loops
from limelight.errors import InputError, MissingExtraError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_community_graph_has_unequal_classes_and_degrees():
    graph = community_graph(3000, 5, seeded(), degree=8.0, within=0.6)
    sizes = graph.labels.bincount()
    assert sizes.max() / sizes.min() == pytest.approx(3, rel=0.02)
    degrees = graph.edges[0].bincount(minlength=3000)
    assert degrees.float().mean() == pytest.approx(8, rel=0.05)  # a few pairs are drawn twice
    assert degrees.max() > 5 * degrees.float().median()
    same = graph.labels[graph.edges[0]] == graph.labels[graph.edges[1]]
    assert same.float().mean() == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(("within", "expected"), [(0.0, 0.0), (1.0, 1.0)])
def test_all_edges_stay_in_their_class_or_none(within, expected):
    graph = community_graph(200, 3, seeded(), within=within)
    same = graph.labels[graph.edges[0]] == graph.labels[graph.edges[1]]
    assert same.float().mean() == expected


def test_edges_go_both_ways_once_and_to_another_node():
    i, j = community_graph(100, 2, seeded(), degree=20.0).edges.tolist()
    pairs = list(zip(i, j, strict=True))
    assert len({*pairs}) == len(pairs)
    assert {(b, a) for a, b in pairs} == {*pairs}
    assert all(a != b for a, b in pairs)


def test_features_are_around_the_center_of_their_class():
    graph = community_graph(5000, 4, seeded(), width=8, signal=2.0)
    of = [graph.features[graph.labels == label] for label in range(4)]
    assert all(x.std(0).mean() == pytest.approx(1, abs=0.05) for x in of)
    assert torch.stack([x.mean(0) for x in of]).std() == pytest.approx(2, rel=0.4)
    quiet = community_graph(5000, 4, seeded(), signal=0.0)
    assert torch.stack([quiet.features[quiet.labels == label].mean(0) for label in range(4)]).abs().max() < 0.2


def test_the_same_seed_gives_the_same_graph():
    first, again, other = (community_graph(100, 3, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first.edges, again.edges)
    assert torch.equal(first.features, again.features)
    assert not torch.equal(first.labels, other.labels)


def test_the_class_of_a_few_nodes_of_each_class_is_known():
    graph = community_graph(300, 4, seeded())
    told = graph.few_of_each_class(7, seeded(1))
    assert graph.labels[told].bincount().tolist() == [7] * 4
    assert not torch.equal(told, graph.few_of_each_class(7, seeded(2)))
    for count in (0, int(graph.labels.bincount().min())):  # nobody would be left to test
        with pytest.raises(InputError, match="count expects"):
            graph.few_of_each_class(count, seeded())


@pytest.mark.parametrize(
    ("nodes", "classes", "settings"),
    [
        (100, 1, {}),
        (20, 3, {}),
        (100, 3, {"within": 1.5}),
        (100, 3, {"degree": 0.0}),
        (100, 3, {"within": float("nan")}),
    ],
)
def test_impossible_communities_are_refused(nodes, classes, settings):
    with pytest.raises(InputError, match="community graph expects"):
        community_graph(nodes, classes, seeded(), **settings)


def test_loops_are_added_once_for_each_node():
    edges = both_ways(torch.tensor([[0], [1]]), 3)
    assert with_loops(edges, 3).T.tolist() == [[0, 1], [1, 0], [0, 0], [1, 1], [2, 2]]
    assert both_ways(torch.zeros(2, 0, dtype=torch.long), 3).shape == (2, 0)


def write(folder, content, cites):
    (folder / "cora.content").write_text(content)
    (folder / "cora.cites").write_text(cites)


def test_cora_is_read_from_its_files(tmp_path):
    write(
        tmp_path, "31\t1\t0\t1\tTheory\n7\t0\t1\t0\tAgents\n1010\t0\t0\t0\tTheory\n", "31\t7\n7\t31\n31\t99\n1010\t7\n"
    )
    graph = cora(tmp_path)
    assert graph.features.tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0]]
    assert graph.labels.tolist() == [1, 0, 1]
    assert graph.edges.T.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]  # paper 99 is unknown


def test_without_files_the_error_says_where_cora_is(tmp_path):
    with pytest.raises(MissingExtraError, match=r"cora\.content.*cora\.tgz.*pip install torch-geometric"):
        cora(tmp_path)


@pytest.mark.parametrize(
    ("content", "cites"),
    [
        ("", ""),
        ("1 0 A\n2 0 1 A\n", ""),
        ("1 A\n", ""),
        ("1 0 A\n", "1 2 3\n"),
        ("1 x A\n", ""),
        ("1 0 A\n1 1 B\n", ""),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, content, cites):
    write(tmp_path, content, cites)
    with pytest.raises(InputError, match=r"cora\.(content|cites) must have"):
        cora(tmp_path)


def test_a_graph_of_torch_geometric_is_taken_over():
    data = SimpleNamespace(
        x=torch.ones(3, 2, dtype=torch.float64),
        y=torch.tensor([0, 1, 1]),
        edge_index=torch.tensor([[0, 1, 2], [1, 0, 2]]),
    )
    graph = from_torch_geometric(data)
    assert graph.features.dtype == torch.float32
    assert graph.edges.T.tolist() == [[0, 1], [1, 0]]
    data.y = data.y[:2]
    with pytest.raises(InputError, match="a labeled graph expects"):
        from_torch_geometric(data)
