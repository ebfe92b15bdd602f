"""The scaling of a visitor's file, and the errors for invalid ones. (test_table.py tests how it is read.)"""

import base64
import math

import numpy as np
import pytest
import torch

from limelight.errors import InputError
from limelight.lab import upload
from limelight.lab.upload import require_rows, upload_of

ROWS = [f"{i},{i % 7},{i * i}" for i in range(50)]


def sent(text):
    data = text if isinstance(text, bytes) else text.encode()
    return "data:text/csv;base64," + base64.b64encode(data).decode()


@pytest.mark.parametrize("head", ["", "a,b,c\n", "\ufeffx, y, z\n", "\n\n"])
def test_rows_are_scaled_to_the_drawn_data(head):
    read = upload_of(sent(head + "\n".join(ROWS) + "\n"))
    rows = torch.tensor(read.rows)
    assert rows.shape == (50, 3)
    assert rows[:, 0].aminmax() == (-2, 2)
    assert rows[:, 1].aminmax() == (-2.5, 2.5)
    assert abs(float(rows[:, 2].mean())) < 1e-6
    assert math.isclose(float(rows[:, 2].std(correction=0)), 1, rel_tol=1e-5)
    assert require_rows(rows.tolist()).shape == (50, 3)
    assert read.description.startswith("50 rows, separated by commas")


@pytest.mark.parametrize("unit", [1e-200, 1e-30, 1e26])
def test_the_unit_of_a_column_changes_nothing(unit):
    rows = [[float(i), i % 7, i * i] for i in range(50)]
    same, other = (
        upload_of(sent("\n".join(",".join(repr(x * unit) for x in row) for row in rows))).rows for unit in (1.0, unit)
    )
    np.testing.assert_allclose(other, same, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "0 rows of data"),
        ("\n".join(f"{i},1,{i}" for i in range(50)), "second input is 1 in every row"),
        ("\n".join(ROWS * 401), "more than 20,000 rows"),
    ],
)
def test_an_invalid_file_raises_one_sentence(text, told):
    with pytest.raises(InputError, match=told):
        upload_of(sent(text))


def test_a_file_that_is_too_large_is_not_decoded():
    with pytest.raises(InputError, match="larger than 2 MB"):
        upload_of("data:text/csv;base64," + "A" * (2 * upload.SIZE))


@pytest.mark.parametrize("contents", ["nonsense", "data:,!!!", "", "data:,é"])
def test_an_invalid_upload_is_refused(contents):
    with pytest.raises(InputError):
        upload_of(contents)


@pytest.mark.parametrize(
    "given",
    [
        None, "x", 3, {"a": 1}, [], [[1, 2, 3]], [[1, 2]] * 20, [[1, 2, "x"]] * 20, [[1, 2, math.nan]] * 20,
        [["1", "2", "3"]] * 20, [[-(2**63), 0, 0]] * 20, [[1e300, 0, 0]] * 20, [[1e9, 0, 0]] * 20,
        [[0.0, 1, 2]] * 20_001, [[10**400, 0, 0]] * 20, [[10**400, 0.5, 0]] * 20,
    ],
)  # fmt: skip
def test_rows_sent_without_an_upload_are_checked_too(given):
    with pytest.raises(InputError, match="rows of three numbers"):
        require_rows(given)
