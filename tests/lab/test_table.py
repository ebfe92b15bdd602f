"""Tables of numbers as various programs write them: separators, decimal marks, encodings, an index, line ends."""

import codecs

import numpy as np
import pytest

from limelight.errors import InputError
from limelight.lab.table import read_table

VALUES = np.array([[i / 2 - 3, (i % 7) + 0.25, -1.5 * i] for i in range(20)])


def written(separator=",", mark=".", names=("x", "y", "z"), index=None, end="\n", quoted=False):
    """The values as text."""
    rows = [[f"{x}".replace(".", mark) for x in row] for row in VALUES]
    if index is not None:
        names = [index, *names] if names else names
        rows = [[str(i), *row] for i, row in enumerate(rows)]
    quote = '"{}"'.format if quoted else "{}".format
    return end.join(separator.join(map(quote, row)) for row in ([list(names)] if names else []) + rows) + end


def table(text, encoding="utf-8"):
    return read_table(text if isinstance(text, bytes) else text.encode(encoding), 10, 100)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["Unix", "Windows", "old Mac"])
@pytest.mark.parametrize("names", [("x", "y", "z"), ()])
@pytest.mark.parametrize(
    ("separator", "mark", "told"),
    [
        (",", ".", "separated by commas, with decimal points"),
        (", ", ".", "separated by commas, with decimal points"),
        (";", ",", "separated by semicolons, with decimal commas"),
        (";", ".", "separated by semicolons, with decimal points"),
        ("\t", ".", "separated by tabs, with decimal points"),
        ("\t", ",", "separated by tabs, with decimal commas"),
        (" ", ".", "separated by spaces, with decimal points"),
        ("   ", ",", "separated by spaces, with decimal commas"),
        (" \t", ".", "separated by"),
        ("|", ".", "separated by vertical bars, with decimal points"),
    ],
)
def test_separators_and_decimal_marks_are_recognized_and_reported(separator, mark, told, names, end):
    read = table(written(separator, mark, names, end=end))
    np.testing.assert_array_equal(read.values, VALUES)
    assert told in read.description
    assert "in UTF-8" in read.description
    assert "The first row is read as −3, 0.25, −0." in read.description
    first = "Inputs: “x” and “y”; output: “z”" if names else "Inputs: column 1 and column 2; output: column 3"
    assert first in read.description


@pytest.mark.parametrize(
    ("encoding", "mark", "told"),
    [
        ("utf-8-sig", b"", "UTF-8"),
        ("utf-16", b"", "UTF-16"),
        ("utf-16-le", b"", "UTF-16"),
        ("utf-16-be", b"", "UTF-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "UTF-16"),
        ("utf-32", b"", "UTF-32"),
        ("cp1252", b"", "Windows-1252"),
    ],
)
def test_encodings_are_recognized_and_reported(encoding, mark, told):
    read = table(mark + written(";", ",", ("Größe", "Höhe", "Z")).encode(encoding))
    np.testing.assert_array_equal(read.values, VALUES)
    assert read.names == ("Größe", "Höhe", "Z")
    assert f"in {told}." in read.description


def test_a_byte_that_windows_does_not_have_is_latin_1():
    assert "in Latin-1." in table(written(names=("a\x81", "b", "c")).encode("latin-1")).description


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "\n\nsep=;"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_that_names_the_separator_is_followed(line, encoding):
    np.testing.assert_array_equal(table(line + "\r\n" + written(";", ","), encoding).values, VALUES)


def test_a_separator_of_its_own_is_followed_where_a_line_names_it():
    read = table("sep=:\n" + written(":"))
    np.testing.assert_array_equal(read.values, VALUES)
    assert "separated by “:”" in read.description


def test_decimal_commas_in_quotes_between_commas():
    np.testing.assert_array_equal(table(written(",", ",", quoted=True)).values, VALUES)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(("index", "why"), [("", "has no name"), ("row", "counts the rows"), ("#", "counts the rows")])
def test_an_index_is_left_out_and_reported(separator, index, why):
    read = table(written(separator, index=index))
    np.testing.assert_array_equal(read.values, VALUES)
    assert f"The first column {why} and is left out." in read.description
    assert "Inputs: “x” and “y”" in read.description


def test_an_index_of_words_as_r_writes_it():
    lines = written(" ").splitlines()
    text = "\n".join([lines[0], *(f'"row {i}" {line}' for i, line in enumerate(lines[1:]))])
    np.testing.assert_array_equal(table(text).values, VALUES)


def test_an_index_without_any_names():
    read = table(written(names=(), index=""))
    np.testing.assert_array_equal(read.values, VALUES)
    assert "Inputs: column 2 and column 3; output: column 4." in read.description


def test_four_columns_of_which_none_is_an_index_are_refused():
    with pytest.raises(InputError, match="Row 2 has 4 columns; three are expected"):
        table("a,b,c,d\n" + "5,1,2,3\n" * 20)


@pytest.mark.parametrize("before", ["# x y z\n", "# made by a spectrometer\n# on Monday\n\n"])
def test_comments_before_the_table_are_skipped(before):
    np.testing.assert_array_equal(table(before + written(" ", names=())).values, VALUES)


def test_an_end_of_empty_cells_and_blank_rows_are_skipped():
    text = written(";", ",").replace("\n", ";;\n") + ";;;;\n\n;;\n"
    np.testing.assert_array_equal(table(text).values, VALUES)


def test_names_may_hold_other_separators_and_line_ends():
    read = table('"length, in m";"a\nb";z\n' + written(";", ",", names=()))
    assert read.names == ("length, in m", "a\nb", "z")


@pytest.mark.parametrize("minus", ["-", "−"])
def test_numbers_with_signs_and_exponents(minus):
    rows = [f"{minus}1.5e{minus}3,+2,.5\n"] * 20
    assert table("".join(rows)).values[0].tolist() == [-0.0015, 2.0, 0.5]


def test_numbers_alike_under_every_reading_are_shown_as_they_were_read():
    told = table("1,234;2;3\n" * 20).description
    assert "decimal commas" in told
    assert "1.234, 2, 3" in told


BODY = "x,y,z\n" + "1.5,2,3\n" * 20


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "0 rows of data"),
        (" \n\n", "0 rows of data"),
        ("1,2,3", "1 row of data"),
        ("x,y,z\n1,2,3", "1 row of data"),
        ("sep=;", "0 rows of data"),
        (BODY + "1,two,3\n", "Row 22 has “two” where a number"),
        (BODY + "1,<script>alert(1)</script>,3\n", "where a number is expected"),
        (BODY + "1,,3\n", "Row 22 has an empty cell where a number"),
        (BODY + "1,nan,3\n", "only finite numbers"),
        (BODY + "1,-inf,3\n", "only finite numbers"),
        (BODY + "1,1e300,3\n", "below 1e30"),
        (BODY + "1,1e999,3\n", "below 1e30"),
        (BODY + "1,1_000,3\n", "“1_000” where a number"),
        (BODY + "1,2\n", "Row 22 has 2 columns"),
        ("1,5,2,5,3,5\n" * 20, "Row 1 has 6 columns.*separate columns by semicolons"),
        ("1.5;2,5;3\n" * 20, "Row 1 has “1.5” and row 1 has “2,5”: one decimal mark"),
        ("1.234,5;2;3\n" * 20, "“1.234,5” where a number"),
        ("1,2,3\n" * 102, "more than 100 rows"),
        ("1 2 3 " * 60_000, "1 row of data"),
        ('1,2,"3\n' + "1,2,3\n" * 30_000, "not CSV from row.*quotation mark"),
        (b"PK\x03\x04\x14\x00", "a spreadsheet or an archive"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"\xff\xfe\x00\xd8\x00", "begins with the byte order mark of UTF-16"),
        (b"\x89PNG\r\n\x1a\n", "not text"),
        ("1,2,3\n" * 20 + "\0", "not text"),
    ],
)
def test_an_invalid_table_raises_one_sentence(text, told):
    with pytest.raises(InputError, match=told):
        table(text)


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_raises_only_input_errors(seed):
    generator = np.random.default_rng(seed)
    wholes = [written(";", ",").encode("utf-16"), written(index="").encode(), ("sep=\t\r" + written("\t")).encode()]
    for _ in range(200):
        data = bytearray(wholes[generator.integers(len(wholes))])
        for _ in range(generator.integers(1, 20)):
            data[generator.integers(len(data))] = generator.integers(256)
        try:
            read = table(bytes(data[: generator.integers(1, len(data) + 1)]))
        except InputError:
            continue
        assert np.isfinite(read.values).all()
        assert read.values.shape[1] == 3
        assert read.description
