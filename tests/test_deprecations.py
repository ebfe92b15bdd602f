"""`make test-latest` fails if Limelight makes a deprecated call, and reports those of other packages."""

import sys
import warnings
from collections import Counter

import pytest
import torch

from tests import deprecations

SITE = sys.prefix + "/lib/site-packages"


def library(name, code):
    """The importable names of a module of an installed package."""
    names = {"__name__": name, "warnings": warnings, "torch": torch}
    exec(compile(code, f"{SITE}/{name.replace('.', '/')}.py", "exec"), names)
    return names


OLD = library("veteran", """
def names_its_caller():
    warnings.warn("names_its_caller is going", FutureWarning, stacklevel=2)

def names_itself():
    warnings.warn("names_itself is going", DeprecationWarning)

class Layer(torch.nn.Module):
    def forward(self):
        names_its_caller_further()

def names_its_caller_further():
    warnings.warn("Layer is going", FutureWarning, stacklevel=3)

def renamed(function):
    def wrapper(*args, **kwargs):
        warnings.warn("renamed is going", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)
    return wrapper

def documented(function):
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

@documented
@renamed
def decorated():
    pass
""")  # fmt: skip
USER = library("customer.work", """
def uses(call):
    call()
""")  # fmt: skip
CALLS = {
    "names its caller": OLD["names_its_caller"],
    "names itself": OLD["names_itself"],
    "a module": OLD["Layer"](),
    "decorated twice": OLD["decorated"],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_deprecated_call_in_limelight_fails(call):
    found = Counter()
    with deprecations.counted(found), pytest.raises((DeprecationWarning, FutureWarning), match="is going"):
        call()
    assert not found


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_by_another_package_is_counted(call):
    found = Counter()
    with deprecations.counted(found):
        for _ in range(3):
            USER["uses"](call)
    ((package, text), times), *others = found.items()
    assert (package, times, others) == ("customer", 3, [])
    assert "Warning: " in text
    assert text.endswith("is going")


class Odd:
    def __int__(self):
        return True  # `int` warns that this is no plain int; it is written in C, and has no frame


def test_a_warning_from_c_code_belongs_to_the_line_that_called_it():
    found = Counter()
    with deprecations.counted(found):
        library("customer.work", "def uses(value):\n    return int(value)")["uses"](Odd())
    assert [package for package, _ in found] == ["customer"]
    with deprecations.counted(found), pytest.raises(DeprecationWarning, match="__int__ returned non-int"):
        int(Odd())


def test_other_warnings_are_left_to_pytest():
    with deprecations.counted(Counter()), pytest.raises(UserWarning, match="mind"):
        warnings.warn("mind", UserWarning, stacklevel=1)
