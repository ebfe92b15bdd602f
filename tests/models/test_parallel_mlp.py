"""Networks that are trained at once learn what each would learn alone."""

import torch

from limelight.models.mlp import mlp
from limelight.models.parallel_mlp import ParallelMLP, cross_entropy
from limelight.models.training import descend


def alone(parallel, which):
    """A fully connected network with the weights of one of the networks."""
    network = mlp(parallel.first.shape[1], parallel.first.shape[2], parallel.last.shape[2])
    with torch.no_grad():
        for layer, weight, bias in (
            (network[0], parallel.first, parallel.first_bias),
            (network[2], parallel.last, parallel.last_bias),
        ):
            layer.weight.copy_(weight[which].T)
            layer.bias.copy_(bias[which, 0])
    return network


def test_each_network_is_a_fully_connected_one():
    torch.manual_seed(0)
    parallel, x = ParallelMLP(4, 6, 5, 3), torch.randn(4, 7, 6)
    for which in range(4):
        torch.testing.assert_close(parallel(x)[which], alone(parallel, which)(x[which]))


def test_each_network_learns_as_if_it_were_alone():
    torch.manual_seed(0)
    parallel, x, labels = ParallelMLP(3, 6, 5, 4), torch.randn(3, 20, 6), torch.randint(4, (3, 20))
    singles = [alone(parallel, which) for which in range(3)]
    list(descend(parallel, lambda: cross_entropy(parallel(x), labels), 20, 0.01))
    for which, single in enumerate(singles):
        learn(single, x[which], labels[which])
        torch.testing.assert_close(parallel(x)[which], single(x[which]), rtol=1e-3, atol=1e-4)


def test_the_loss_is_the_sum_of_the_networks_losses():
    logits, labels = torch.randn(3, 20, 4), torch.randint(4, (3, 20))
    single = [torch.nn.functional.cross_entropy(logits[which], labels[which]) for which in range(3)]
    torch.testing.assert_close(cross_entropy(logits, labels), torch.stack(single).sum())


def learn(network, x, labels):
    list(descend(network, lambda: torch.nn.functional.cross_entropy(network(x), labels), 20, 0.01))


def test_networks_start_differently_and_within_the_range_of_a_linear_layer():
    parallel = ParallelMLP(2, 16, 8, 3)
    assert not torch.equal(parallel.first[0], parallel.first[1])
    assert 0.2 < float(parallel.first.detach().abs().max()) <= 0.25
