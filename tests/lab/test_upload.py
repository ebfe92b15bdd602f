"""A visitor's file: what is taken, and the sentence for what is not."""

import base64
import math

import pytest
import torch

from limelight.errors import InputError
from limelight.lab import upload
from limelight.lab.upload import require_rows, rows_of

ROWS = [f"{i},{i % 7},{i * i}" for i in range(50)]


def sent(text):
    data = text if isinstance(text, bytes) else text.encode()
    return "data:text/csv;base64," + base64.b64encode(data).decode()


@pytest.mark.parametrize("head", ["", "a,b,c\n", "\ufeffx, y, z\n", "\n\n"])
def test_rows_are_scaled_to_the_drawn_data(head):
    rows = torch.tensor(rows_of(sent(head + "\n".join(ROWS) + "\n")))
    assert rows.shape == (50, 3)
    assert rows[:, 0].aminmax() == (-2, 2)
    assert rows[:, 1].aminmax() == (-2.5, 2.5)
    assert abs(float(rows[:, 2].mean())) < 1e-6
    assert math.isclose(float(rows[:, 2].std(correction=0)), 1, rel_tol=1e-5)
    assert require_rows(rows.tolist()).shape == (50, 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "0 rows of data"),
        ("1,2,3", "1 row of data"),
        ("x,y,z\n1,2,3", "1 row of data"),
        ("\n".join([*ROWS, "1,two,3"]), "Row 51 has “two” where a number"),
        ("\n".join([*ROWS, "1,<script>alert(1)</script>,3"]), "where a number is expected"),
        ("\n".join([*ROWS, "1,nan,3"]), "only finite numbers"),
        ("\n".join([*ROWS, "1,1e300,3"]), "below 1e30"),
        ("\n".join([*ROWS, "1,2"]), "Row 51 has 2 columns"),
        ("\n".join(f"{i},1,{i}" for i in range(50)), "second input is 1 in every row"),
        ("\n".join(ROWS * 401), "more than 20,000 rows"),
        (b"\xff\xfe\x00\x01", "no text in UTF-8"),
    ],
)
def test_what_is_no_such_file_gets_one_sentence(text, told):
    with pytest.raises(InputError, match=told):
        rows_of(sent(text))


def test_a_file_that_is_too_large_is_not_decoded():
    with pytest.raises(InputError, match="larger than 2 MB"):
        rows_of("data:text/csv;base64," + "A" * (2 * upload.SIZE))


@pytest.mark.parametrize("contents", ["nonsense", "data:,!!!", ""])
def test_what_is_no_upload_is_refused(contents):
    with pytest.raises(InputError):
        rows_of(contents)


@pytest.mark.parametrize(
    "given",
    [
        None, "x", 3, {"a": 1}, [], [[1, 2, 3]], [[1, 2]] * 20, [[1, 2, "x"]] * 20, [[1, 2, math.nan]] * 20,
        [["1", "2", "3"]] * 20, [[-(2**63), 0, 0]] * 20, [[1e300, 0, 0]] * 20, [[1e9, 0, 0]] * 20,
        [[0.0, 1, 2]] * 20_001,
    ],
)  # fmt: skip
def test_rows_that_come_another_way_are_checked_too(given):
    with pytest.raises(InputError, match="rows of three numbers"):
        require_rows(given)
