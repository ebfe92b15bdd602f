"""What moves a unit, against linear units and finite differences, and how wide a known field is."""

import pytest
import torch

from limelight import InputError
from limelight.interpret.receptive_field import effective_side, receptive_fields


def test_the_field_of_a_linear_unit_is_its_squared_filter():
    filters = torch.randn(4, 6, 7)
    found = receptive_fields(lambda x: torch.einsum("uhw,nhw->nu", filters, x), torch.rand(3, 6, 7))
    torch.testing.assert_close(found, filters.square())


def test_the_field_of_a_unit_is_the_mean_of_squared_slopes():
    weight = torch.randn(3, 20, dtype=torch.float64)

    def f(x):
        return torch.relu(x.flatten(1) @ weight.T).square()

    images, step = torch.rand(5, 4, 5, dtype=torch.float64), 1e-6
    found = receptive_fields(f, images)
    for row, column in ((0, 0), (3, 4), (2, 1)):
        moved = images.clone()
        moved[:, row, column] += step
        back = images.clone()
        back[:, row, column] -= step
        slope = (f(moved) - f(back)) / (2 * step)
        torch.testing.assert_close(found[:, row, column], slope.square().mean(0), rtol=1e-5, atol=1e-9)
    assert not images.requires_grad


def test_gradients_are_asked_for_where_they_are_off_and_parameters_get_none():
    layer = torch.nn.Linear(6, 2)
    with torch.no_grad():
        found = receptive_fields(lambda x: layer(x.flatten(1)), torch.rand(2, 2, 3))
    torch.testing.assert_close(found, layer.weight.detach().square().view(2, 2, 3))
    assert layer.weight.grad is None


def test_the_side_of_a_square_is_its_side_at_any_size_of_gradient():
    for side in (1, 3, 8):
        field = torch.zeros(1, 10, 12)
        field[0, 1 : 1 + side, 2 : 2 + side] = 1
        for scale in (1e-30, 1.0, 1e30):
            assert float(effective_side(scale * field)) == pytest.approx(side)
    at = torch.arange(61) - 30.0
    wide = (-(at[:, None] ** 2 + at**2) / (2 * 4.0**2)).exp()
    assert float(effective_side(wide[None])) == pytest.approx((4 * torch.pi) ** 0.5 * 4, rel=1e-3)
    assert effective_side(torch.zeros(1, 3, 3)).isnan().all()


def test_what_has_no_field_is_refused():
    with pytest.raises(InputError, match="images of shape"):
        receptive_fields(lambda x: x.flatten(1), torch.rand(4, 4))
    with pytest.raises(InputError, match="images of shape"):
        receptive_fields(lambda x: x.flatten(1), torch.rand(0, 4, 4))
    with pytest.raises(InputError, match="activations"):
        receptive_fields(lambda x: x, torch.rand(2, 4, 4))
    for wrong in (torch.rand(4, 4), -torch.ones(1, 2, 2), torch.full((1, 2, 2), float("nan"))):
        with pytest.raises(InputError, match="effective_side expects"):
            effective_side(wrong)
