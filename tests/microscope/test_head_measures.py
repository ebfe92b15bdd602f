"""Each measure on heads that are built to have a known value, and on random ones against the matrix."""

import itertools
import math

import pytest
import torch
from benchmarks.measure import peak_bytes

from limelight import InputError, causal, microscope, window
from limelight.microscope import MEASURES, Measure, WatchedAttention, occurrences, pair_sums, watched_attention
from tests.dispatch import Largest
from tests.microscope.models import Causal

OF = {measure.name: measure.of for measure in MEASURES}
REPEATED = torch.tensor([7, 3, 9, 4, 7, 3, 9, 4])  # each token is followed by the same one as before


def looking_at(targets, mask=None, **given):
    """A head in which query i gives all its weight to key targets[i]."""
    n = len(targets)
    given = {"ids": REPEATED[:n], "positions": torch.arange(n)} | given
    return WatchedAttention(torch.eye(n)[targets], torch.eye(n), scale=100.0, mask=mask, **given)


def even(n, mask=None, heads=None, **given):
    """A head that gives each key that a query sees the same weight."""
    q = torch.zeros(n, 2) if heads is None else torch.zeros(heads, n, 2)
    given = {"ids": REPEATED[:n], "positions": torch.arange(n)} | given
    return WatchedAttention(q, torch.zeros_like(q), scale=1.0, mask=mask, **given)


def value(name, P):
    found = OF[name](P)
    assert found.shape == P.shape[:-2]
    return found.item()


def approx(x):
    return pytest.approx(x, abs=1e-5)


def test_entropy_and_effective_keys():
    assert value("entropy", even(8)) == approx(math.log(8))
    assert value("effective_keys", even(8)) == approx(8)
    assert value("entropy", even(4, causal)) == approx(math.log(24) / 4)  # the mean of log 1 … log 4
    assert value("effective_keys", even(4, causal)) == approx(2.5)
    assert value("entropy", looking_at([0, 0, 1, 1])) == approx(0)
    assert value("effective_keys", looking_at([0, 0, 1, 1])) == approx(1)


def test_first_token():
    assert value("first_token", looking_at([0] * 8, causal)) == approx(1)
    assert value("first_token", looking_at(list(range(8)), causal)) == approx(1 / 8)
    assert value("first_token", even(8)) == approx(1 / 8)
    # under a window only the first three queries see the first token
    assert value("first_token", even(8, window(2, 0))) == approx((1 + 1 / 2 + 1 / 3) / 3)
    assert math.isnan(value("first_token", even(8, has_first=False)))


def test_learned_sink():
    P = even(4, sinks=torch.tensor([math.log(4.0)]))
    assert value("learned_sink", P) == approx(0.5)
    assert P.dense().sum(-1).tolist() == approx([0.5] * 4)
    assert P.column_mass().tolist() == approx([0.5] * 4)
    assert value("entropy", P) == approx(math.log(4))
    assert value("first_token", P) == approx(1 / 8)
    assert P.weights_at(torch.tensor([2]), torch.tensor([1])).item() == approx(1 / 8)
    assert P.topk(1).weights[0].item() == approx(1 / 8)
    assert value("learned_sink", even(4)) == 0


def test_separators():
    given = {"ids": torch.tensor([9, 5, 9, 5]), "separators": frozenset({9})}
    assert value("separators", even(4, **given)) == approx(1 / 4)  # the first token does not count
    assert value("separators", looking_at([2, 2, 2, 0], **given)) == approx(3 / 4)
    assert math.isnan(value("separators", even(4)))
    assert math.isnan(value("separators", even(4, separators=frozenset({9}), ids=None)))


def test_the_neighbors():
    assert value("previous_token", looking_at([0, 0, 1, 2], causal)) == approx(1)
    assert value("previous_token", looking_at([0, 1, 2, 2], causal)) == approx(1 / 3)  # one of three queries
    assert value("next_token", looking_at([1, 2, 3, 3])) == approx(1)
    assert value("next_token", even(4, causal)) == 0
    assert value("same_token", looking_at([0, 1, 2, 0])) == approx(3 / 4)
    assert value("same_token", even(4, causal)) == approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    for name in ("previous_token", "next_token", "same_token", "mean_distance", "induction", "duplicate_token"):
        assert math.isnan(value(name, even(4, positions=None))), name
    assert math.isnan(value("previous_token", even(1)))


def test_induction_and_duplicate_tokens():
    assert value("induction", looking_at([0, 0, 0, 0, 1, 2, 3, 4], causal)) == approx(1)
    assert value("duplicate_token", looking_at([0, 0, 0, 0, 1, 2, 3, 4], causal)) == approx(0)
    assert value("duplicate_token", looking_at([0, 0, 0, 0, 0, 1, 2, 3], causal)) == approx(1)
    assert value("induction", looking_at([0, 0, 0, 0, 0, 1, 2, 3], causal)) == approx(0)
    assert value("induction", even(8, causal)) == approx(sum(1 / i for i in (5, 6, 7, 8)) / 4)
    assert math.isnan(value("induction", even(4)))  # no token is repeated
    # several earlier occurrences are added, and a token right after itself is not what followed it
    assert value("duplicate_token", even(3, causal, ids=torch.tensor([1, 1, 1]))) == approx((1 / 2 + 2 / 3) / 2)
    assert value("induction", even(3, causal, ids=torch.tensor([1, 1, 1]))) == approx(1 / 3)


def test_measures_of_positions_start_where_the_queries_stand():
    whole = looking_at([0, 0, 0, 0, 1, 2, 3, 4], causal)
    last = WatchedAttention(
        whole.q[6:], whole.k, scale=100.0, mask=causal.at(6), ids=REPEATED, positions=torch.tensor([6, 7])
    )
    assert value("induction", last) == approx(1)
    assert value("mean_distance", last) == approx(3)
    assert value("same_token", last) == approx(0)


def test_mean_distance():
    assert value("mean_distance", looking_at([0, 0, 0, 0])) == approx(1.5)
    assert value("mean_distance", even(4)) == approx((1.5 + 1 + 1 + 1.5) / 4)


def test_column_mass():
    assert value("largest_key", looking_at([2, 2, 2, 0])) == approx(3 / 4)
    assert value("least_mass", looking_at([2, 2, 2, 0])) == approx(0)
    assert value("least_mass", even(4)) == approx(1)
    assert value("largest_key", even(4)) == approx(1 / 4)


def test_key_norms_alone():
    """With k = c + |c| u the score ⟨c, k⟩ is ½|k|², so that the norms alone give the scores."""
    u = torch.nn.functional.normalize(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    c = torch.tensor([2.0, -1.0, 1.0])
    same = {"ids": REPEATED, "positions": torch.arange(8)}
    for mask in (None, causal):
        for sign in (1, -1):  # short keys, too, may be what a head attends to
            P = WatchedAttention(sign * c.expand(8, 3), c + c.norm() * u, scale=1.0, mask=mask, **same)
            assert value("key_norms", P) == approx(1)
    on_a_sphere = WatchedAttention(3 * u.roll(1, 0), u, scale=1.0, **same)
    assert value("key_norms", on_a_sphere) == 0
    q, k = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(1))
    scores, norms = (q @ k.mT), k.square().sum(-1)
    right = torch.corrcoef(torch.stack([(scores - scores.mean(-1, keepdim=True)).flatten(), norms.repeat(8)]))
    assert value("key_norms", WatchedAttention(q, k, scale=1.0, **same)) == approx(right[0, 1].item() ** 2)
    assert math.isnan(value("key_norms", even(8)))  # equal scores leave nothing to explain


def test_temperature():
    z = torch.tensor([[-1.0], [1.0]])  # scores of variance one
    P = WatchedAttention(torch.ones(2, 1), z, scale=4.0, positions=torch.arange(2))
    assert value("temperature", P) == approx(1 / 4)
    assert value("temperature", even(4)) == math.inf
    first_rows_see_one_key = WatchedAttention(
        torch.ones(2, 1), z, scale=4.0, mask=causal, positions=torch.arange(2)
    )  # so that only the second counts
    assert value("temperature", first_rows_see_one_key) == approx(1 / 4)


def test_free_energy_is_what_even_weights_lose():
    assert value("free_energy", even(8, mask=causal)) == approx(0)
    assert value("free_energy", looking_at([2] * 4)) == approx(100 - math.log(4) - 100 / 4)
    q, k = random_pairs(1, 12)
    P = WatchedAttention(q[0], k[0], scale=1.5, sinks=torch.tensor([0.3]))
    p = P.dense() / P.dense().sum(-1, keepdim=True)
    assert value("free_energy", P) == approx(-(p.log().mean(-1) + math.log(12)).mean().item())


def test_agreement():
    q = torch.eye(4)
    heads = torch.stack([q, q, q.roll(1, 0)])
    P = WatchedAttention(heads, torch.eye(4).expand(3, 4, 4), scale=100.0, positions=torch.arange(4))
    assert OF["agreement"](P).tolist() == approx([0.5, 0.5, 0.0])
    assert OF["agreement"](even(4, heads=2)).tolist() == approx([1, 1])
    assert math.isnan(value("agreement", even(4)))


def test_symmetry():
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    turned = x @ torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]])  # ⟨x_i, turned_j⟩ turns its sign with i and j
    same = {"positions": torch.arange(8), "scale": 1.0}
    assert value("symmetry", WatchedAttention(x, x, **same)) == approx(1)
    assert value("symmetry", WatchedAttention(x, turned, **same)) == approx(-1)
    chain = WatchedAttention(torch.eye(8)[:, 1:], torch.eye(8)[:, :-1], **same)  # token j + 1 scores j, never back
    assert value("symmetry", chain) == 0
    q, k = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(1))
    S = q @ k.mT
    assert value("symmetry", WatchedAttention(q, k, **same)) == approx(((S * S.mT).sum() / S.square().sum()).item())
    assert math.isnan(value("symmetry", WatchedAttention(q[:3], k, **same | {"positions": torch.arange(5, 8)})))
    assert math.isnan(value("symmetry", WatchedAttention(q, k, scale=1.0)))


def test_detailed_balance_is_that_of_the_walk():
    q, _ = random_pairs(1, 9)
    liked = WatchedAttention(q[0] + 0.7, q[0] - 0.2, scale=0.5, positions=torch.arange(9))
    assert value("detailed_balance", liked) == approx(1)
    assert liked.attention.irreversibility() < 1e-4
    assert value("symmetry", liked) < 0.99
    turned = WatchedAttention(q[0], q[0] @ torch.tensor([[0.0, 1], [-1, 0]]), scale=0.5, positions=torch.arange(9))
    assert value("detailed_balance", turned) == approx(-1)
    assert turned.attention.irreversibility() > 0.05


def random_pairs(heads, n, d=2):
    return torch.randn(2, heads, n, d, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("n", [4, 40])  # fewer tokens than dimensions of M, and more
def test_definiteness_is_that_of_the_eigenvalues(n):
    q, k = random_pairs(3, n, 5)
    found = OF["definiteness"](WatchedAttention(q, k, scale=1.0, positions=torch.arange(n)))
    s = (q - q.mean(-2, keepdim=True)).double() @ (k - k.mean(-2, keepdim=True)).double().mT
    values = torch.linalg.eigvalsh((s + s.mT) / 2)
    torch.testing.assert_close(found.double(), values.sum(-1) / values.abs().sum(-1), atol=1e-5, rtol=0)


def test_definiteness_of_known_heads():
    q, _ = random_pairs(1, 9)
    for other, right in ((q, 1), (q + 3, 1), (-2 * q, -1), (q * torch.tensor([1.0, -1]), None)):
        found = value("definiteness", WatchedAttention(q[0], other[0], scale=1.0, positions=torch.arange(9)))
        assert abs(found) < 0.9 if right is None else found == approx(right)
    assert math.isnan(OF["definiteness"](even(4)).item())


def test_spectral_gap_and_mixing_time():
    assert value("spectral_gap", even(8)) == approx(1)
    assert value("mixing_time", even(8)) < 0.1
    assert value("spectral_gap", looking_at([0, 1, 2, 3])) == approx(0)
    assert value("mixing_time", looking_at([0, 1, 2, 3], mask=causal)) > 1e5
    assert value("spectral_gap", looking_at([1, 2, 3, 0])) == approx(0)  # it goes round and round
    assert value("spectral_gap", even(8, mask=causal)) == approx(1 / 2)  # token 1 stays with itself in half
    assert value("mixing_time", even(8, mask=causal)) == approx(1 / math.log(2))
    halves = torch.tensor([[1.0, 0]] * 3 + [[0, 1]] * 3)  # within a half with a share of e/(e + 1)
    P = WatchedAttention(halves, halves, scale=1.0, positions=torch.arange(6))
    assert value("spectral_gap", P) == approx(1 - (math.e - 1) / (math.e + 1))


@pytest.mark.parametrize("mask", [None, causal, window(4, 0), window(6, 6)])
def test_the_second_eigenvalue_is_that_of_the_matrix(mask):
    q, k = random_pairs(3, 60, 4)
    sinks = torch.tensor([[0.5], [-1.0], [2.0]])
    P = WatchedAttention(q, k, scale=1.0, mask=mask, sinks=sinks, positions=torch.arange(60))
    p = P.dense().double() / P.dense().double().sum(-1, keepdim=True)
    right = torch.linalg.eigvals(p).abs().sort(-1).values[:, -2]
    assert ((1 - OF["spectral_gap"](P)) - right).abs().max() < 0.02


def test_the_second_eigenvalue_of_a_long_text_takes_products_alone(monkeypatch):
    q, k = random_pairs(3, 30, 2)
    made = [WatchedAttention(q, k, scale=0.3, positions=torch.arange(30)) for _ in range(2)]
    right = OF["spectral_gap"](made[0])
    monkeypatch.setattr(watched_attention, "_STORED", 0)
    torch.testing.assert_close(OF["spectral_gap"](made[1]), right, atol=1e-3, rtol=0)


def test_key_alignment():
    assert value("key_alignment", WatchedAttention(torch.zeros(4, 2), torch.ones(4, 2), scale=1.0)) == approx(1)
    assert value("key_alignment", looking_at([0, 1, 2, 3])) == approx(0)
    opposite = torch.tensor([[1.0, 0], [-3, 0]])
    assert value("key_alignment", WatchedAttention(opposite, opposite, scale=1.0)) == approx(-1)


def test_diffusion():
    assert value("diffusion", looking_at([3, 1, 0, 2])) == approx(0)
    keys = random_pairs(1, 7)[1][0]
    assert value("diffusion", WatchedAttention(0 * keys, keys, scale=1.0, positions=torch.arange(7))) == approx(1)


def test_triangle_defect():
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    same = {"positions": torch.arange(9), "scale": 1.0}
    assert value("triangle_defect", WatchedAttention(x, x, **same)) == 0  # one map for queries and keys
    assert value("triangle_defect", WatchedAttention(1e4 + x, x - 1e4, **same)) == 0  # and biases of each
    assert value("triangle_defect", WatchedAttention(x, -x, **same)) == 1  # all squares are negative
    line = torch.arange(9.0)[:, None] * torch.ones(3)  # no triangle has an area, and two tokens are the same
    line[1] = line[0]
    for offset in (0.0, 1e3):
        assert value("triangle_defect", WatchedAttention(offset + line, offset + line, **same)) == 0
    assert value("triangle_defect", WatchedAttention(torch.zeros(9, 2), torch.ones(9, 2), **same)) == 0
    assert math.isnan(value("triangle_defect", even(2)))
    assert math.isnan(value("triangle_defect", WatchedAttention(x, x, scale=1.0)))


def test_triangle_defect_counts_triples_without_a_triangle():
    """Squares of 1, 1 and 9 on a line of squares: √9 > √1 + √1, but √2.9 < √1 + √1."""
    for square, defect in ((9.0, 1.0), (4.5, 1.0), (3.9, 0.0), (2.9, 0.0)):
        # d_ij = s_ii + s_jj − s_ij − s_ji for s with zeros on the diagonal and −d_ij / 2 beside it
        d = torch.tensor([[0, 1.0, square], [1.0, 0, 1.0], [square, 1.0, 0]])
        P = WatchedAttention(torch.eye(3), -d / 2, scale=1.0, positions=torch.arange(3))
        assert value("triangle_defect", P) == defect
    q, k = torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(1))
    k = k + 3 * q
    d = [[float((a - b) @ (c - e)) for b, e in zip(q, k, strict=True)] for a, c in zip(q, k, strict=True)]
    triples = list(itertools.combinations(range(12), 3))
    wrong = sum(not is_triangle(d[i][j], d[j][m], d[i][m]) for i, j, m in triples)
    assert 0 < wrong < len(triples)
    P = WatchedAttention(q, k, scale=1.0, positions=torch.arange(12))
    assert value("triangle_defect", P) == approx(wrong / len(triples))


def is_triangle(*squares):
    if min(squares) < 0:
        return False
    short, middle, long = sorted(map(math.sqrt, squares))
    return long <= short + middle


def test_triangle_defect_of_a_long_text_is_that_of_some_of_its_tokens():
    q, k = torch.randn(2, 200, 4, generator=torch.Generator().manual_seed(2))
    k = k + 3 * q
    taken = torch.linspace(0, 199, 32).round().long()
    long, some = (
        value("triangle_defect", WatchedAttention(q[at], k[at], scale=1.0, positions=torch.arange(len(at))))
        for at in (torch.arange(200), taken)
    )
    assert 0 < long == some


def test_key_rank_is_the_number_of_directions_of_equal_spread():
    corners = torch.cat([torch.eye(5), -torch.eye(5)])  # five directions, the same in each
    for scale in (1e-3, 1.0, 1e3):
        P = WatchedAttention(corners, 7 + scale * corners, scale=1.0)
        assert value("key_rank", P) == pytest.approx(5, abs=1e-2)
    line = WatchedAttention(corners, torch.arange(10.0)[:, None] * torch.ones(5), scale=1.0)
    assert value("key_rank", line) == pytest.approx(1, abs=1e-2)
    assert math.isnan(value("key_rank", even(4)))  # equal keys differ in no direction


def test_drift():
    k = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    same = {"positions": torch.arange(6), "scale": 1.0}
    assert value("drift", WatchedAttention(torch.zeros(6, 6), k, **same)) == approx(1)  # all go to the mean
    sunk = WatchedAttention(torch.zeros(6, 6), k, **same, sinks=torch.tensor([3.0]))
    assert value("drift", sunk) == approx(1)
    stays = WatchedAttention(100 * torch.eye(6), torch.eye(6), **same)
    assert value("drift", stays) == approx(0)
    swapped = torch.eye(6).roll(3, 0)  # tokens i and i + 3 change places, with |k_i − k_j|² = 2 each
    right = 6 * 2 / (6 * (1 - 1 / 6))
    assert value("drift", WatchedAttention(100 * swapped, torch.eye(6), **same)) == approx(right)
    assert math.isnan(value("drift", even(4, positions=None)))


def copying_of(layer):
    x = torch.randn(1, 5, 8)
    with torch.no_grad(), microscope.attach(layer) as scope:
        layer(x, x, x)
    return scope.table()["copying"]


def head_that_writes(*maps):
    """Two heads: W_V takes half of the width each, and W_O writes it back times a matrix."""
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad():
        layer.in_proj_weight[16:] = torch.eye(8)
        layer.out_proj.weight.copy_(torch.block_diag(*maps))
    return layer


def test_copying():
    turn = torch.block_diag(*2 * [torch.tensor([[0.0, -1], [1, 0]])])  # eigenvalues i and −i
    assert copying_of(head_that_writes(torch.eye(4), -2 * torch.eye(4))) == approx([1, -1])
    assert copying_of(head_that_writes(turn, torch.diag(torch.tensor([3.0, 1, -1, 0])))) == approx([0, 3 / 5])
    model, x = Causal(), torch.randn(1, 5, 8)
    with torch.no_grad(), microscope.attach(model) as scope:
        model(x)
    assert all(map(math.isnan, scope.table()["copying"]))  # this layer has no output projection


@pytest.mark.parametrize(
    ("name", "value_of", "output_of"),
    [
        ("llama", "model.layers.1.self_attn.v_proj", "model.layers.1.self_attn.o_proj"),
        ("bert", "bert.encoder.layer.1.attention.self.value", "bert.encoder.layer.1.attention.output.dense"),
        ("gpt2", "transformer.h.1.attn.c_attn", "transformer.h.1.attn.c_proj"),
    ],
)
@torch.no_grad()
def test_copying_from_the_whole_map_of_a_model(name, value_of, output_of):
    tiny = pytest.importorskip("tests.huggingface.tiny")
    model = tiny.model(name)
    with microscope.attach(model) as scope:
        model(**tiny.tokens())
    value, output = (model.get_submodule(name).weight for name in (value_of, output_of))
    if name == "gpt2":
        value, output = value.mT[64:], output.mT
    for head in (0, 1, 2, 3):
        shared = head // (4 * 8 // len(value))
        whole = output[:, 8 * head : 8 * head + 8] @ value[8 * shared : 8 * shared + 8]  # D × D
        found = torch.linalg.eigvals(whole.double())
        right = (found.sum() / found.abs().sum()).real.item()
        P = scope.select(text=0)[1, head]
        assert OF["copying"](P).item() == pytest.approx(right, abs=1e-4)
        assert scope.select(text=0).table()["copying"][4 + head] == pytest.approx(right, abs=1e-4)


def test_every_measure_says_what_it_is():
    assert len({measure.name for measure in MEASURES}) == len(MEASURES) == 28
    for measure in MEASURES:
        assert measure.equation, measure.name
        assert measure.range, measure.name
        assert measure.meaning.endswith("."), measure.name
        assert measure.source, measure.name


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_a_measure_of_all_heads_is_that_of_each(measure):
    """In float64, with a sink, a window and heads that share nothing."""
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 3, 40, 4, dtype=torch.float64, generator=generator)
    sinks = torch.randn(3, 1, dtype=torch.float64, generator=generator)
    given = {"scale": 0.7, "mask": window(9, 0), "positions": torch.arange(40), "ids": torch.arange(40) % 7}
    given["separators"] = frozenset({3})
    together = measure.of(WatchedAttention(q, k, sinks=sinks, **given))
    if measure.name == "agreement":
        return
    for head in range(3):
        apart = measure.of(WatchedAttention(q[head], k[head], sinks=sinks[head], **given))
        torch.testing.assert_close(together[head], apart, atol=1e-9, rtol=0, equal_nan=True)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_no_measure_depends_on_how_many_rows_are_taken_at_a_time(measure, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 3, 40, 4, generator=generator)
    given = {"scale": 0.7, "mask": causal, "positions": torch.arange(40), "ids": torch.arange(40) % 7}
    given["separators"] = frozenset({3})
    whole = measure.of(WatchedAttention(q, k, **given))
    for module, name, value in ((watched_attention, "_NUMBERS", 500), (pair_sums, "_ENTRIES", 3 * 16 * 7)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(pair_sums, "_WIDTH", 16)
    monkeypatch.setattr(occurrences, "_PAIRS", 9)
    torch.testing.assert_close(measure.of(WatchedAttention(q, k, **given)), whole, atol=1e-5, rtol=1e-5, equal_nan=True)


def seen():
    model, x = Causal(), torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), microscope.attach(model) as scope:
        model(x)
    return scope


def test_a_table_is_a_dict_of_columns():
    table = seen().table()
    assert list(table)[:5] == ["step", "text", "layer", "name", "head"]
    assert list(table)[5:] == [measure.name for measure in MEASURES] == list(table.measures)
    assert {len(column) for column in table.values()} == {4}
    assert table["layer"] == [0, 0, 1, 1]
    assert table["name"] == ["layers.0", "layers.0", "layers.1", "layers.1"]
    assert table.rows[3]["head"] == 1
    best = table.strongest("entropy", 2)
    assert best[0]["entropy"] == max(table["entropy"])
    assert table.strongest("induction") == []
    with pytest.raises(InputError, match="no measure 'entrpy'"):
        table.strongest("entrpy")


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_pandas_and_polars_take_the_table(name):
    library = pytest.importorskip(name)
    table = seen().table()
    assert library.DataFrame(table).shape == (4, len(table))


def test_a_measure_of_ones_own():
    scope = seen()
    last = Measure("last_key", lambda P: P.column_mass()[..., -1] / P.shape[-2])
    table = scope.table([*MEASURES, last])
    assert table["last_key"] == approx([P.dense()[h].mean(0)[-1].item() for P in scope for h in (0, 1)])
    with pytest.raises(InputError, match=r"'wrong' must return one number for each head, \(2,\), got \(2, 5\)"):
        scope.table([Measure("wrong", lambda P: P.entropy())])
    with pytest.raises(InputError, match="expects Measure objects, got 'entropy'"):
        scope.table(["entropy"])
    with pytest.raises(InputError, match="'entropy' twice"):
        scope.table([MEASURES[0], MEASURES[0]])
    with pytest.raises(InputError, match=r"'half' must return one number .* got 0\.5, which is no tensor"):
        scope.table([Measure("half", lambda P: 0.5)])
    with pytest.raises(InputError, match="'head' twice"):
        scope.table([Measure("head", lambda P: P.entropy().mean(-1))])


@pytest.mark.slow
def test_four_thousand_tokens_without_the_matrix():
    """The largest tensor that any measure makes is far smaller than one head's matrix."""
    model, x = Causal(), torch.randn(1, 4096, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), Largest() as largest, microscope.attach(model) as scope:
        model(x)
        table = scope.table()
    assert largest.entries <= 4096 * 4096 // 4
    assert all(0 < x < math.log(4096) for x in table["entropy"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_thirty_thousand_tokens_take_memory_linear_in_them():
    """All measures of a small Llama on 32,768 tokens: twice the tokens take at most 2.6 times the memory."""
    half, whole = (peak_bytes(_long_text, "cpu", tokens) for tokens in (1 << 14, 1 << 15))
    assert whole <= 2.6 * half
    assert whole <= 600e6  # one matrix of one head has 4 GB


def _long_text(tokens):
    """A job that watches two layers with two heads on so many tokens, in a process of its own."""
    import transformers as hf

    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = hf.LlamaConfig(**size, vocab_size=500, max_position_embeddings=tokens)
    model = hf.LlamaModel(config).eval()
    ids = torch.randint(500, (1, tokens), generator=torch.Generator().manual_seed(0))

    def run(x=ids):
        with torch.no_grad(), microscope.attach(model) as scope:
            model(x, use_cache=False)
        table = scope.table()
        assert all(0 < entropy <= math.log(x.shape[1]) for entropy in table["entropy"])
        assert all(math.isfinite(x) for name in ("induction", "drift", "agreement") for x in table[name])

    run(ids[:, :64])  # what is imported and allocated once is not counted
    return run
