"""Attention to the past of an LSTM: its equations, what its memories hold, and its gradients."""

import pytest
import torch

from limelight import InputError
from limelight.models.recurrent_attention import LastStates, RecurrentAttention
from limelight.models.relevancy_screening import RelevancyScreening
from limelight.models.side_by_side import descend_side_by_side

TOKENS, WIDTH, OUTPUTS, STEPS = 6, 8, 4, 12
MEMORIES = {
    "LSTM": None,
    "all": LastStates,
    "window": lambda: LastStates(3),
    "screening": lambda: RelevancyScreening(2, 2),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(memory, seeds=(0,), forget=0.0):
    return RecurrentAttention(TOKENS, WIDTH, OUTPUTS, [seeded(seed) for seed in seeds], memory, forget).double()


def sequences(networks=1, n=5):
    return torch.randint(TOKENS, (networks, n, STEPS), generator=seeded(7))


def test_without_a_memory_it_is_torchs_lstm():
    net = network(None, forget=1.5)
    gates = [0, 1, 3, 2]  # torch's order is input, forget, content, output; ours ends with the content
    lstm = torch.nn.LSTM(TOKENS, WIDTH, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for own, theirs in ((net.input, lstm.weight_ih_l0), (net.recurrent, lstm.weight_hh_l0)):
            parts = own[0].mT.chunk(4)
            theirs.copy_(torch.cat([parts[i] for i in gates]))
        lstm.bias_ih_l0.copy_(torch.cat([net.bias[0, 0].chunk(4)[i] for i in gates]))
        lstm.bias_hh_l0.zero_()
    tokens = sequences()
    expected, _ = lstm(torch.nn.functional.one_hot(tokens[0], TOKENS).double())
    torch.testing.assert_close(torch.stack(net.unrolled(tokens), -2)[0], expected)


def test_attention_is_the_equation_written_out():
    net, tokens = network(LastStates), sequences(n=1)
    found = net.unrolled(tokens)
    s = content = torch.zeros(WIDTH, dtype=torch.float64)
    states = []
    for token in tokens[0, 0]:
        gates = net.input[0, token] + net.bias[0, 0] + s @ net.recurrent[0]
        enter, forget, out, new = gates.chunk(4)
        content = forget.sigmoid() * content + enter.sigmoid() * new.tanh()
        states.append(out.sigmoid() * content.tanh())
        past = torch.stack(states)
        weights = (past @ (s @ net.query[0]) / WIDTH**0.5).softmax(0)
        s = 0.5 * (states[-1] + weights @ past)
    torch.testing.assert_close(torch.stack(found)[:, 0, 0], torch.stack(states))


@pytest.mark.parametrize(
    "memory", [lambda: LastStates(STEPS), lambda: LastStates(STEPS + 5), lambda: RelevancyScreening(STEPS - 3, 3),
               lambda: RelevancyScreening(1, STEPS - 1)],
    ids=["window = T", "window > T", "buffer + kept = T", "buffer of one"],
)  # fmt: skip
def test_a_memory_with_room_for_all_states_is_full_attention(memory):
    tokens = sequences()
    full, other = network(LastStates), network(memory)
    first, second = (net(tokens, last=4) for net in (full, other))
    torch.testing.assert_close(first, second)
    for a, b in zip(*(torch.autograd.grad(x.square().sum(), list(net.parameters())) for x, net in
                      ((first, full), (second, other))), strict=True):  # fmt: skip
        torch.testing.assert_close(a, b)


def test_a_window_holds_the_last_states_to_their_number():
    memory = LastStates(3)
    for number in range(1, 8):
        memory.append(torch.tensor([float(number)]))
        assert remembered(memory) == list(range(max(1, number - 2), number + 1))


def test_one_state_too_few_is_not_full_attention():
    tokens = sequences()
    full = network(LastStates)(tokens, last=2)
    for memory in (lambda: LastStates(STEPS - 3), lambda: RelevancyScreening(4, STEPS - 7)):
        assert (network(memory)(tokens, last=2) - full).abs().max() > 1e-6


def remembered(memory):
    return memory.states()[..., 0].tolist()


def test_screening_keeps_the_states_that_got_the_most_attention_in_the_buffer():
    """A buffer of two and a set of two, with the states 1 to 7 and weights that are given by hand."""
    memory = RelevancyScreening(buffer=2, kept=2)
    given = [
        ([1.0], [1]),
        ([0.25, 0.75], [1, 2]),
        ([0.125, 0.625, 0.25], [1, 2, 3]),  # 1 left with 1.25
        ([0.125, 0.125, 0.5, 0.25], [1, 2, 3, 4]),  # 2 left with 0.75 + 0.625
        ([0.75, 0.0, 0.125, 0.125], [1, 2, 4, 5]),  # 3 left with 0.25 + 0.5, less than 1 and 2, and is forgotten
        ([0.0, 0.0, 0.875, 0.125], [1, 2, 5, 6]),  # 4 left with 0.25 + 0.125
        ([0.0, 0.0, 0.5, 0.5], [1, 2, 6, 7]),  # 5 left with 0.125 + 0.875; what 1 gets in the set does not count
        ([0.0, 0.0, 0.25, 0.75], [1, 2, 7, 8]),  # 6 left with 0.125 + 0.5
        ([0.0, 0.0, 0.5, 0.5], [1, 2, 8, 9]),  # 7 left with 0.5 + 0.25
        ([0.0, 0.0, 1.0, 0.0], [1, 2, 9, 10]),  # 8 left with 0.75 + 0.5, as much as 1, and replaces none
        ([0.0, 0.0, 0.5, 0.5], [9, 2, 10, 11]),  # 9 left with 0.5 + 1, and took the place of 1, the least relevant
    ]
    for number, (weights, expected) in enumerate(given, 1):
        memory.append(torch.tensor([float(number)]))
        assert remembered(memory) == expected
        memory.weigh(torch.tensor(weights))


def test_each_sequence_of_a_batch_has_a_set_of_its_own():
    memory = RelevancyScreening(buffer=1, kept=1)
    for number, weights in enumerate([[[1.0], [1.0]], [[0.0, 2.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]], 1):
        memory.append(torch.full((2, 1), float(number)))
        memory.weigh(torch.tensor(weights))
    memory.append(torch.full((2, 1), 4.0))
    assert remembered(memory) == [[2, 4], [1, 4]]


def test_memory_of_screening_does_not_grow():
    memory, sizes = RelevancyScreening(3, 4), []
    for _ in range(30):
        memory.append(torch.rand(2, 5))
        memory.weigh(torch.rand(2, memory.states().shape[-2]))
        sizes.append(sum(x.numel() for x in memory.tensors()))
    assert sizes[6:] == [2 * (7 * 5 + 3 + 4)] * 24
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("sizes", [(0, 3), (2, -1)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(InputError, match="buffer ≥ 1 and kept ≥ 0"):
        RelevancyScreening(*sizes)
    with pytest.raises(InputError, match="whole number ≥ 1"):
        LastStates(0)


@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_the_gradient_by_a_state_is_what_a_small_change_of_it_does(memory):
    """Central differences in each direction of h_t, with everything else as it is."""
    net, tokens = network(memory), sequences(n=2)
    found = net.gradient_lengths(tokens, lambda said: said.square().sum((-1, -2)), last=2)[0]

    class Changed(type(net.start())):
        def __init__(self, at, by):
            super().__init__(net, None if memory is None else memory())
            self.at, self.by, self.count = at, by, 0

        def moved(self, h):
            self.count += 1
            return h + self.by if self.count - 1 == self.at else h

    def loss(at, by):
        """The losses of both sequences if h_at is moved by this much: in the output, the memory and the next step."""
        reading = Changed(at, by)
        states = [moved_step(reading, x) for x in net.inputs(tokens).unbind(-2)]
        return net.said(states[-2:]).square().sum((-1, -2))[0]

    def moved_step(reading, x):
        """A step like `SequenceState.step`, whose state is moved before anything reads it."""
        gates = torch.baddbmm(x, reading.s.expand(*x.shape[:-1], WIDTH), net.recurrent)
        enter, forget, out, new = gates.chunk(4, -1)
        reading.content = forget.sigmoid() * reading.content + enter.sigmoid() * new.tanh()
        h = reading.moved(out.sigmoid() * reading.content.tanh())
        reading.s = h if reading.memory is None else 0.5 * (h + reading._attended(h, reading.memory))
        return h

    for at in (0, 4, STEPS - 2, STEPS - 1):
        gradient, small = torch.zeros(2, WIDTH), 1e-5
        for direction in range(WIDTH):
            step = small * torch.eye(WIDTH, dtype=torch.float64)[direction]
            with torch.no_grad():
                gradient[:, direction] = (loss(at, step) - loss(at, -step)) / (2 * small)
        assert float(found[at]) == pytest.approx(float(gradient.norm(dim=-1).mean()), rel=1e-4)


@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_networks_side_by_side_do_not_know_of_each_other(memory):
    """Two networks that are trained together become what each becomes alone."""
    tokens = sequences(networks=2)
    targets = tokens[..., :3] % OUTPUTS

    def trained(which):
        net = network(memory, seeds=which)

        def losses():
            said = net(tokens[list(which)], last=3)
            return torch.nn.functional.cross_entropy(
                said.movedim(-1, 1), targets[list(which)], reduction="none"
            ).mean((1, 2))  # fmt: skip

        found = torch.stack(list(descend_side_by_side(net, losses, 8, 0.02)))
        return found, [x.detach() for x in net.parameters()]

    curves, together = trained((0, 1))
    assert (curves[0] - curves[-1] > 0.01).all()
    for one in (0, 1):
        curve, alone = trained((one,))
        torch.testing.assert_close(curves[:, one], curve[:, 0])
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[one], b[0])


def test_a_network_that_diverges_leaves_the_others_alone():
    weights = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor([[1.0], [1.0]]))])
    steps = 0

    def losses():
        nonlocal steps
        steps += 1
        factor = torch.tensor([1.0, torch.inf if steps == 3 else 1.0])
        return (weights[0][:, 0].square() + 1) * factor

    found = torch.stack(list(descend_side_by_side(weights, losses, 6, 0.1)))
    assert found[:, 0].isfinite().all()
    assert found[2:, 1].isnan().all()
    assert found[:2, 1].isfinite().all()
    assert weights[0][0, 0] < 0.6
    assert abs(weights[0][1, 0]) < 0.1, "what Adam's memory of earlier gradients moves it from zero"


def test_long_gradients_are_clipped_for_each_network():
    """Adam's first step does not depend on a gradient's length, but its second moment does."""
    weights = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(2, 1))])
    slopes = iter([(100.0, 0.5), (0.5, 0.5)])

    def losses():
        return weights[0][:, 0] * torch.tensor(next(slopes))

    list(descend_side_by_side(weights, losses, 2, 0.1, clip=1.0))
    expected = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([expected], lr=0.1)
    for gradient in ((1.0, 0.5), (0.5, 0.5)):
        expected.grad = torch.tensor(gradient)
        optimizer.step()
    torch.testing.assert_close(weights[0][:, 0], expected)
