"""A result's name changes if the code that computed the result changes, and only then."""

import ast
import copy
import os
import re
import subprocess
import sys
import textwrap

import pytest

import limelight
import limelight.figures
from limelight.experiment import catalog, fingerprint
from limelight.experiment.fingerprint import digest_in, source_digest, sources_reach
from limelight.experiment.provenance import sources
from limelight.experiment.provenance.definitions import ALL_MODULES, Definitions, measuring
from limelight.experiment.provenance.reach import Reach
from limelight.experiment.provenance.scopes import bound_names
from limelight.experiment.provenance.sources import EVERYTHING, Definition, Source, Sources, split_assignment
from tests.experiment.toy import Faulty, Toy

# A small package with every construct that can be between a claim and the code that it uses.
LABORATORY = {
    "lab/__init__.py": """
        import lazy_loader
        __version__ = "1.0"
        __getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
        """,
    "lab/__init__.pyi": """
        from . import tools
        from .kernels import Kernel
        """,
    "lab/errors.py": '''
        class LabError(Exception):
            """Every error."""

        class InputError(LabError, ValueError):
            """Bad input."""
            def __init__(self, what):
                super().__init__(f"bad {what}")

        class KeepsError(LabError):
            def __init__(self, step):
                self.step = step

        class CodedError(LabError):
            code = 3
        ''',
    "lab/kernels/__init__.py": """
        from lab.kernels.base import Kernel
        from lab.kernels.other import Unused
        """,
    "lab/kernels/base.py": '''
        from dataclasses import dataclass
        from typing import TYPE_CHECKING, ClassVar
        from lab.tables import KINDS
        if TYPE_CHECKING:
            from lab.kernels.other import Unused

        LEAST, MOST = 1, 9

        class Base:
            def bound(self):
                return MOST

        @dataclass
        class Kernel(Base):
            """A kernel."""
            width: int = 3
            def run(self, x: "Unused"):
                from lab.tools import halve  # when it is needed
                return halve(x) * self.width * len(KINDS)
        ''',
    "lab/kernels/other.py": """
        from lab.tables import enter

        class Unused:
            pass

        def unused():
            return 1

        @enter
        class Entered:
            size = 1
        """,
    "lab/tables.py": """
        KINDS = []
        QUIET = []

        def enter(kind):
            KINDS.append(kind)
            return kind

        def hush(kind):
            QUIET.append(kind)
            return kind
        """,
    "lab/tools.py": '''
        import math as m
        from lab.errors import CodedError, InputError, KeepsError

        def halve(x):
            """Half of it."""
            if x < 0:
                raise InputError("a size below zero")
            if x > 1000:
                raise KeepsError(7)
            if x > 500:
                raise CodedError("large")
            y: int = third(x)
            return m.floor(y)

        def third(x: int) -> int:
            return x / 3

        def alone(x):
            return x
        ''',
    "lab/data.py": """
        POINTS = [1, 2, 3]
        """,
    "lab/pictures.py": """
        from lab.tables import KINDS
        def draw(x):
            return x
        """,
    "lab/claims.py": '''
        """A page."""
        from lab import Kernel, pictures, tools
        from lab.data import POINTS
        from outside import Claim

        STEPS, THRESHOLD = 10, 0.5

        class Size(Claim):
            """A claim."""
            name = "size"
            title = "Size matters"
            arms = {"one": "a word"}

            def measure(self, arm, seed):
                return self.total(seed) + sum(helper(point) for point in POINTS)

            def total(self, seed):
                return Kernel(STEPS).run(seed)

            def judge(self, results):
                return results < THRESHOLD

            def figures(self, results):
                return pictures.draw(results)

        def helper(x):
            return tools.third(x)
        ''',
}


class Texts(Sources):
    """Sources from a dictionary of files."""

    def __init__(self, files):
        super().__init__({path.partition("/")[0].removesuffix(".py") for path in files} | {"outside"}, {"outside"})
        self.files = {path: textwrap.dedent(text) for path, text in files.items()}

    def text(self, module, stub=False):
        stem = module.replace(".", "/")
        ending = ".pyi" if stub else ".py"
        for path, package in ((f"{stem}/__init__{ending}", True), (f"{stem}{ending}", False)):
            if path in self.files:
                return self.files[path], package
        return None

    def all_modules(self):
        stems = [path.removesuffix(".py").removesuffix("/__init__") for path in self.files if path.endswith(".py")]
        return iter(sorted(stem.replace("/", ".") for stem in stems))


def reached(files, module="lab.claims", claim="Size"):
    return Reach(Texts(files), ["lab.pictures"]).reached([measuring(module, claim)])


def digest(files, module="lab.claims", claim="Size"):
    return Reach(Texts(files), ["lab.pictures"]).digest([measuring(module, claim)])


def changed(path, old, new):
    """The small package with one file changed; if there is nothing to replace, the new text is added."""
    text = textwrap.dedent(LABORATORY[path])
    assert old in text
    return LABORATORY | {path: text.replace(old, new) if old else text + textwrap.dedent(new)}


NAME = digest(LABORATORY)


def test_what_is_reached_is_found_through_exports_stubs_and_helpers():
    found = {f"{module}.{name}" for module, name in reached(LABORATORY)}
    assert found == {
        "lab.claims.Size:measuring:measure", "lab.claims.STEPS", "lab.claims.helper", "lab.data.POINTS",
        "lab.kernels.base.Base", "lab.kernels.base.Kernel", "lab.kernels.base.MOST", "lab.kernels.other.Entered",
        "lab.tables.KINDS", "lab.tables.enter", "lab.tools.halve", "lab.tools.third", "lab.errors.InputError",
        "lab.errors.KeepsError", "lab.errors.CodedError", "lab.errors.LabError",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("lab/__init__.py", '"1.0"', '"2.0"'),
        ("lab/__init__.pyi", "", "from .kernels.other import Unused\n"),
        ("lab/errors.py", "f\"bad {what}\"", "f\"this is bad: {what}\""),
        ("lab/errors.py", "", "class NewError(LabError):\n    pass\n"),
        ("lab/kernels/__init__.py", "", "from lab.kernels.base import Base\n"),
        ("lab/kernels/base.py", '"""A kernel."""', '"""Another text."""'),
        ("lab/kernels/base.py", "# when it is needed", "# or now"),
        ("lab/kernels/base.py", 'x: "Unused"', "x: int"),
        ("lab/kernels/base.py", "width: int", "width: float"),
        ("lab/kernels/base.py", "LEAST, MOST = 1,", "LEAST, MOST = 2,"),
        ("lab/kernels/base.py", "", "\nclass New(Base):\n    def run(self, x):\n        return x\n"),
        ("lab/kernels/other.py", "def unused", "def renamed"),
        ("lab/kernels/other.py", "", "from lab.tables import hush\n@hush\nclass Hushed:\n    pass\n"),
        ("lab/kernels/other.py", "", "if __name__ == '__main__':\n    enter(1)\n"),
        ("lab/tools.py", '"a size below zero"', '"a size that is negative"'),
        ("lab/tools.py", '"""Half of it."""', '"""A half."""'),
        ("lab/tools.py", "return x\n", "return x + 1\n"),
        ("lab/tools.py", "y: int =", "y ="),
        ("lab/tools.py", "x: int) -> int", "x)"),
        ("lab/pictures.py", "return x", "return 2 * x"),
        ("lab/pictures.py", "", "KINDS.append(0)\n"),  # a module that only reads results
        ("lab/claims.py", "10, 0.5", "10, 0.7"),
        ("lab/claims.py", "< THRESHOLD", "> THRESHOLD"),
        ("lab/claims.py", "draw(results)", "draw(-results)"),
        ("lab/claims.py", "Size matters", "Does size matter?"),
        ("lab/claims.py", "a word", "other words"),
        ("lab/claims.py", '"""A page."""', '"""Another page."""'),
        ("lab/claims.py", "from lab.data import POINTS", "from lab.data import POINTS as POINTS"),
    ],
)  # fmt: skip
def test_what_changes_no_measurement_keeps_the_name(path, old, new):
    assert digest(changed(path, old, new)) == NAME


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("lab/errors.py", "(LabError, ValueError)", "(LabError)"),
        ("lab/errors.py", "self.step = step", "self.step = step + 1"),
        ("lab/errors.py", "code = 3", "code = 4"),
        ("lab/kernels/base.py", "self.width", "self.width ** 2"),
        ("lab/kernels/base.py", "= 1, 9", "= 1, 8"),
        ("lab/kernels/base.py", "int = 3", "int = 4"),
        ("lab/kernels/base.py", "width: int", "width: ClassVar[int]"),
        ("lab/kernels/base.py", "return MOST", "return -MOST"),
        ("lab/kernels/base.py", "Kernel(Base)", "Kernel"),
        ("lab/kernels/base.py", "import halve ", "import alone as halve "),
        ("lab/kernels/other.py", "size = 1", "size = 2"),
        ("lab/kernels/other.py", "", "@enter\nclass Second:\n    pass\n"),
        ("lab/kernels/other.py", "", "enter(3)\n"),
        ("lab/kernels/other.py", "", "from lab.tables import KINDS\nfor kind in (1, 2):\n    KINDS.append(kind)\n"),
        ("lab/kernels/other.py", "", "from lab.kernels.base import Kernel\nKernel.width = 5\n"),
        ("lab/kernels/other.py", "", "from lab import tables\ntables.KINDS = [1]\n"),
        ("lab/kernels/other.py", "", "x = enter(3)\n"),
        ("lab/tools.py", "KeepsError(7)", "KeepsError(8)"),
        ("lab/tools.py", "x / 3", "x / 4"),
        ("lab/tools.py", "m.floor", "m.ceil"),
        ("lab/tools.py", "import math as m", "import cmath as m"),
        ("lab/tools.py", "x < 0", "x <= 0"),
        ("lab/data.py", "3", "4"),
        ("lab/claims.py", "= 10,", "= 20,"),
        ("lab/claims.py", "tools.third(x)", "tools.third(x) + 1"),
        ("lab/claims.py", "tools.third(x)", "tools.alone(x)"),
        ("lab/claims.py", ".run(seed)", ".run(seed + 1)"),
        ("lab/claims.py", "helper(point)", "helper(arm)"),
    ],
)
def test_what_changes_a_measurement_changes_the_name(path, old, new):
    assert digest(changed(path, old, new)) != NAME


def test_definitions_may_move_and_be_renamed():
    moved = {path.replace("lab/tools", "lab/utilities"): text for path, text in LABORATORY.items()}
    moved = {path: re.sub(r"\btools\b", "utilities", text) for path, text in moved.items()}
    assert digest(moved) == NAME
    renamed = {path: re.sub(r"\bthird\b", "one_of_three", text) for path, text in LABORATORY.items()}
    renamed = {path: re.sub(r"\b(Kernel|Base)\b", r"The\1", text) for path, text in renamed.items()}
    assert digest(renamed) == NAME
    parts = textwrap.dedent(LABORATORY["lab/tools.py"]).split("def third")
    split = changed("lab/tools.py", "", "") | {
        "lab/tools.py": f"from lab.thirds import alone, third\n{parts[0]}",
        "lab/thirds.py": f"def third{parts[1]}",
    }
    assert digest(split) == NAME


def test_two_functions_of_one_text_are_distinguished_by_what_calls_them():
    one = "def f(x):\n    return x + {}\ndef g(x):\n    return x * {}\n"
    main = "from outside import Claim\nfrom a import f, g\nclass C(Claim):\n    def measure(self): return f(g(1))\n"

    def named(first, second):
        return digest({"a.py": one.format(first, second), "c.py": main}, "c", "C")

    assert named(1, 2) == named(1, 2)
    assert named(1, 2) != named(2, 1)
    swapped = main.replace("f, g", "f as g, g as f")
    assert digest({"a.py": one.format(1, 2), "c.py": swapped}, "c", "C") != named(1, 2)


def measured(body, **files):
    """The definitions that a claim reaches whose `measure` has this body, with a module `other`."""
    text = "import other\nfrom outside import Claim\nclass C(Claim):\n    def measure(self, x):\n"
    main = text + textwrap.indent(textwrap.dedent(body), " " * 8)
    other = "def one(): return 1\ndef two(): return 2\nLOCAL = 3\n"
    paths = {"claim.py": main, "other.py": other} | {f"{name}.py": text for name, text in files.items()}
    texts = {
        f"p/{path}": re.sub(r"\b(import|from) (other|third|far)\b", r"\1 p.\2", text) for path, text in paths.items()
    }
    texts = {path: text.replace("import p.other\n", "from p import other\n") for path, text in texts.items()}
    return set(reached({"p/__init__.py": ""} | texts, "p.claim", "C"))


@pytest.mark.parametrize(
    ("body", "module"),
    [
        ("return getattr(other, x)()", "p.other"),
        ("return vars(other)[x]()", "p.other"),
        ("f = other\nreturn f.one()", "p.other"),
        ("return [m.one() for m in (other,)]", "p.other"),
        ("return other.three()", "p.other"),
        ("import importlib\nreturn importlib.import_module('p.other').one()", "p.other"),
        ("return globals()[x]()", "p.claim"),
        ("import sys\nreturn sys.modules[x].one()", "p.claim"),
    ],
)
def test_a_module_whose_names_are_computed_counts_whole(body, module):
    assert Definition(module, EVERYTHING) in measured(body)


@pytest.mark.parametrize(
    "body",
    [
        "return eval(x)",
        "exec(x)",
        "import importlib\nreturn importlib.import_module(x).one()",
        "return __import__(x)",
        "return object.__subclasses__()",
    ],
)
def test_where_code_is_looked_up_anywhere_all_modules_count(body):
    found = measured(body, far="def thing(): return 1\n")
    assert ALL_MODULES in found
    assert Definition("p.far", "thing") in found


@pytest.mark.parametrize(
    "body",
    [
        "return other.one()",
        "one = other.one\nreturn one()",
        "from other import one\nreturn one()",
        "from other import one as two\nreturn two()",
        "return [other.one() for two in x]",
        "return (lambda LOCAL: other.one())(x)",
        "def two(LOCAL):\n    return other.one()\nreturn two(x)",
        "return getattr(x, x.two)(other.one())",
        "import sys\nreturn other.one() if 'torch.fx' in sys.modules else sys.modules['torch.fx']",
    ],
)
def test_only_what_is_named_counts(body):
    assert {one for one in measured(body) if one.module == "p.other"} == {Definition("p.other", "one")}


def test_names_of_a_function_a_class_and_a_comprehension_are_its_own():
    body = """
        class Inner:
            two = one
            def method(self):
                return two
        return Inner, [LOCAL for LOCAL in x], LOCAL
        """
    text = "from other import one, two, LOCAL\n"
    main = f"{text}from outside import Claim\nclass C(Claim):\n    def measure(self, x):\n" + textwrap.indent(
        textwrap.dedent(body), " " * 8
    )
    other = "def one(): return 1\ndef two(): return 2\nLOCAL = 3\n"
    found = reached({"claim.py": main, "other.py": other}, "claim", "C")
    assert {one.name for one in found if one.module == "other"} == {"one", "two", "LOCAL"}


def test_a_module_constant_that_a_function_sets_is_followed():
    other = "COUNT = 0\ndef one():\n    global COUNT\n    COUNT = 1\n"
    found = measured("return other.one()", other=other)
    assert Definition("p.other", "COUNT") in found


def test_classes_that_register_with_their_base_are_reached_with_it():
    text = "class Base:\n    known = []\n    def __init_subclass__(cls):\n        cls.known.append(cls)\n"
    other = f"{text}class Derived(Base):\n    pass\nclass Apart:\n    pass\n"
    names = {one.name for one in measured("return other.Base.known", other=other)}
    assert "Derived" in names
    assert "Apart" not in names


# Code before `measure`, the return value of `measure`, a change, and whether it changes the name.
BEFORE = """
    from outside import Claim
    from stars import *
    from typing import TYPE_CHECKING
    if TYPE_CHECKING:
        from stars import hidden as chosen
    else:
        from stars import other as chosen

    STEP, WIDTH, COUNT = 1, 2, 0

    def wrap(f):
        return f

    def f(x):
        return x

    def g(x):
        return x

    def with_default(x=WIDTH):
        return x

    @wrap
    def wrapped(x):
        return x

    def counting():
        global COUNT
        COUNT = 1
        return COUNT

    class Holder:
        STEP = 7
        def method(self):
            return STEP

    def walrus(x):
        return [last := WIDTH for _ in x], last

    class C(Claim):
        title = "a title"
        def measure(self, x):
            return RETURNED
        def judge(self, results):
            return 0.5
    """
STARS = "def starred(x): return x\ndef hidden(x): return 1\ndef other(x): return 2\n"


def small(returned, old="", new=""):
    files = {"c.py": BEFORE.replace("RETURNED", returned), "stars.py": STARS}
    assert any(old in text for text in files.values())
    return digest({path: text.replace(old, new) if old else text for path, text in files.items()}, "c", "C")


@pytest.mark.parametrize(
    ("returned", "old", "new", "is_changed"),
    [
        ("f(1) + g(1) + f(1)", "f(1) + g(1) + f(1)", "f(1) + g(1) + g(1)", True),
        ("with_default()", "WIDTH, COUNT = 1, 2", "WIDTH, COUNT = 1, 3", True),
        ("with_default()", "x=WIDTH", "x=STEP", True),
        ("wrapped(1)", "return f\n", "return lambda x: f(f(x))\n", True),
        ("f(1)", "return f\n", "return lambda x: f(f(x))\n", False),
        ("counting()", "1, 2, 0", "1, 2, 9", True),
        ("walrus(x)", "1, 2, 0", "1, 3, 0", True),
        ("walrus(x)", "last := WIDTH", "last := STEP", True),
        ("Holder().method()", "STEP, WIDTH, COUNT = 1,", "STEP, WIDTH, COUNT = 2,", True),
        ("Holder().method()", "STEP = 7", "STEP = 8", True),
        ("starred(x)", "def starred(x): return x", "def starred(x): return -x", True),
        ("starred(x)", "return 1", "return 3", False),
        ("chosen(x)", "return 2", "return 3", True),
        ("chosen(x)", "def hidden(x): return 1", "def hidden(x): return 3", False),
        ("C.title", "a title", "another", True),
        ("C.title", "0.5", "0.6", False),
        ("f(C)", "0.5", "0.6", False),
        ("f(self)", "0.5", "0.6", False),
        ("f(self)", "a title", "another", True),
    ],
)
def test_scopes_defaults_decorators_and_stars(returned, old, new, is_changed):
    assert (small(returned, old, new) != small(returned)) == is_changed


def test_a_name_is_followed_through_a_star_of_another_module():
    main = "from outside import Claim\nfrom p.all import starred\nclass C(Claim):\n    measure = starred\n"
    files = {"p/__init__.py": "", "p/c.py": main, "p/all.py": "from p.stars import *\n", "p/stars.py": STARS}
    assert set(reached(files, "p.c", "C")) == {measuring("p.c", "C"), Definition("p.stars", "starred")}


def test_what_a_walrus_or_a_global_binds_is_followed_rightly():
    main = BEFORE.replace("RETURNED", "counting(), walrus(x)")
    found = {one.name for one in reached({"c.py": main, "stars.py": STARS}, "c", "C")}
    assert found == {"C:measuring:measure", "counting", "COUNT", "walrus", "WIDTH"}
    main = main.replace("STEP, WIDTH, COUNT = 1, 2, 0", "STEP, WIDTH, COUNT, last = 1, 2, 0, 5")
    assert "last" not in {one.name for one in reached({"c.py": main, "stars.py": STARS}, "c", "C")}


def test_a_claim_that_extends_another_has_its_methods():
    main = """
        from outside import Claim
        class First(Claim):
            def measure(self, arm):
                return self.start() + 1
            def start(self):
                return {}
            def apart(self):
                return 5
        class Second(First):
            def measure(self, arm):
                return super().measure(arm)
        """

    def named(start=1, apart=5):
        text = textwrap.dedent(main).format(start).replace("return 5", f"return {apart}")
        return digest({"c.py": text}, "c", "Second")

    assert named() != named(start=2)
    assert named() == named(apart=6)


def test_a_name_that_only_a_stub_knows_takes_in_the_package():
    files = {
        "p/__init__.py": "def __getattr__(name): return 1\n",
        "p/__init__.pyi": "def made() -> int: ...\n",
        "p/c.py": "import p\nfrom outside import Claim\nclass C(Claim):\n    def measure(self): return p.made()\n",
    }
    assert Definition("p", EVERYTHING) in reached(files, "p.c", "C")
    assert Definition("p", "__getattr__") in reached(files, "p.c", "C")


def test_what_makes_the_class_of_a_claim_counts():
    main = """
from outside import Claim
def made(kind):
    return kind
class Maker(type):
    pass
@made
class C(Claim, metaclass=Maker):
    def measure(self):
        return 1
"""
    assert {one.name for one in reached({"c.py": main}, "c", "C")} >= {"C:measuring:measure", "made", "Maker"}


def test_members_count_where_the_claim_itself_is_passed_on():
    main = """
from outside import Claim
class C(Claim):
    arms = {}
    def measure(self):
        return helper(self)
def helper(x):
    return x.arms
"""
    assert digest({"c.py": main}, "c", "C") != digest({"c.py": main.replace("{}", "{1: 2}")}, "c", "C")


# The same with Limelight's own sources and all claims.

HAS = {"limelight"}, fingerprint._UNREAD
AS_IT_IS = Sources(*HAS)


class Patched(Sources):
    """Limelight's sources with the syntax of some modules, or of all ("*"), changed."""

    def __init__(self, changes):
        super().__init__(*HAS)
        self.changes = changes

    def parse(self, module, stub=False):
        parsed = STUBS[module] if stub else AS_IT_IS._source(module)
        if parsed is None:
            return None
        tree, package = (parsed.tree, parsed.package) if isinstance(parsed, Source) else parsed
        change = self.changes.get(f"{module}.pyi" if stub else module, self.changes.get("*"))
        return (tree if change is None else change(copy.deepcopy(tree))), package


STUBS = {"limelight": AS_IT_IS.parse("limelight", stub=True)}


@pytest.fixture(scope="module")
def claims():
    return catalog.claims()


@pytest.fixture(scope="module")
def names(claims):
    found = {claim.name: source_digest(type(claim)) for claim in claims}
    assert names_with(claims, {}) == found
    return found


@pytest.fixture(scope="module")
def graphs(claims):
    """The definitions that each claim reaches."""
    reach = sources_reach(AS_IT_IS)
    return {
        claim.name: set(
            reach.reached([measuring(type(claim).__module__, type(claim).__name__), *fingerprint._CONDITIONS])
        )
        for claim in claims
    }


def names_with(claims, changes):
    assert all(module.removesuffix(".pyi") in AS_IT_IS for module in changes.keys() - {"*"})
    reach = sources_reach(Patched(changes))
    return {claim.name: digest_in(reach, type(claim).__module__, type(claim).__name__) for claim in claims}


def added(text):
    def change(tree):
        tree.body += ast.parse(textwrap.dedent(text)).body
        return tree

    return change


def every(kind, change):
    """Each node of a kind, changed."""

    def changed(tree):
        for node in ast.walk(tree):
            if isinstance(node, kind):
                change(node)
        return tree

    return changed


def of_texts(node):
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            part.value += "!"


def say_otherwise(node):
    if isinstance(node.exc, ast.Call):
        of_texts(ast.Tuple([*node.exc.args, *node.exc.keywords]))


def document_otherwise(node):
    if ast.get_docstring(node, clean=False) is not None:
        node.body[0].value.value += " And more."
    else:
        node.body.insert(0, ast.Expr(ast.Constant("A text.")))


def annotate_otherwise(node):
    if node.decorator_list:  # which might read them
        return
    node.returns = None
    for argument in [*node.args.args, *node.args.kwonlyargs]:
        argument.annotation = ast.Name("int", ast.Load())


def judge_otherwise(node):
    for method in node.body:
        if getattr(method, "name", "") in ("judge", "figures"):
            for part in ast.walk(method):
                if isinstance(part, ast.Constant) and isinstance(part.value, float | str):
                    part.value *= 2
            method.body.append(ast.parse("a = draw(1)").body[0])


def version_otherwise(node):
    if getattr(node.targets[0], "id", "") == "__version__":
        node.value.value = "9.9"


NEW = """
    class Hyperbolic(Similarity):
        def dense(self, q, k):
            return q @ k.mT + 1
    """
A_DEFINITION = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
IN_EVERY_MODULE = {
    "messages": every(ast.Raise, say_otherwise),
    "docstrings": every(ast.Module | A_DEFINITION, document_otherwise),
    "annotations of functions": every(ast.FunctionDef, annotate_otherwise),
    "judgments and pictures": every(ast.ClassDef, judge_otherwise),
}


def in_all_ways(tree):
    for change in IN_EVERY_MODULE.values():
        tree = change(tree)
    return tree


KEPT = {
    "a new similarity and its export": {
        limelight.Dot.__module__: added(NEW),
        "limelight.similarity": added(f"from {limelight.Dot.__module__} import Hyperbolic"),
        "limelight.pyi": added("from .similarity import Hyperbolic"),
    },
    " and ".join(IN_EVERY_MODULE): {"*": in_all_ways},
    "the version": {"limelight": every(ast.Assign, version_otherwise)},
    "figures": {
        limelight.figures.curves.__module__: every(ast.FunctionDef, lambda node: node.body.append(ast.Return()))
    },
    "an error": {"limelight.errors": added("class NewError(LimelightError): pass")},
    "a function beside": {"limelight.attention": added("def beside(): return 1")},
    "how a table is printed": {"limelight.report.terminal": added("print(1)")},
}


@pytest.mark.parametrize("what", KEPT)
def test_every_claim_keeps_its_names(claims, names, what):
    assert names_with(claims, KEPT[what]) == names


@pytest.mark.slow
@pytest.mark.parametrize("what", IN_EVERY_MODULE)
def test_each_change_of_every_module_keeps_them_too(claims, names, what):
    assert names_with(claims, {"*": IN_EVERY_MODULE[what]}) == names


def test_an_unrelated_function_may_be_renamed(claims, names, graphs):
    apart = Definition(limelight.errors.how_to_install.__module__, limelight.errors.how_to_install.__name__)
    assert not any(apart in found for found in graphs.values())

    def rename(node):
        if getattr(node, "name", getattr(node, "id", "")) == apart.name:
            setattr(node, "name" if isinstance(node, ast.FunctionDef) else "id", "renamed")

    assert names_with(claims, {"*": every(ast.FunctionDef | ast.Name, rename)}) == names


def with_another_start(name):
    """The function or class of that name with one more statement, or the constant with another value."""

    def change(tree):
        tree.body = [part for whole in tree.body for part in split_assignment(whole)]
        for part in tree.body:
            if name not in bound_names([part]):
                continue
            if isinstance(part, A_DEFINITION):
                part.body.append(ast.parse("changed = 1").body[0])
            elif getattr(part, "value", None) is not None:
                part.value = ast.Tuple([part.value, ast.Constant(1)], ast.Load())
        return tree

    return change


@pytest.mark.slow
def test_a_changed_definition_renames_the_results_of_the_claims_that_reach_it(claims, names, graphs):
    """A sample of reached definitions: a change of each renames the results of exactly the claims that reach it."""
    everything = sorted({one for found in graphs.values() for one in found if ":" not in one.name})
    quiet = Definitions(AS_IT_IS)
    sample = [one for one in everything if not quiet.is_error(one)][::23]
    assert len(sample) > 10
    for one in sample:
        found = names_with(claims, {one.module: with_another_start(one.name)})
        renamed = {name for name in names if found[name] != names[name]}
        assert renamed == {name for name in names if one in graphs[name]}, one


WITHOUT_ATTENTION = {
    "autoencoders_and_generation", "batch_norm_shift", "classifier_generator", "convolution_hierarchy",
    "memorization", "pseudo_metric_far_from_metric", "residual_depth", "symmetry",
}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name", "renamed"),
    [
        ("limelight.kernels", "choose", "those with attention"),
        ("limelight.attention", "Attention", "those with attention"),
        ("limelight.experiment.conditions", "prepare", "all"),
        ("limelight.experiment.conditions", "plain", "all"),
        ("limelight.claims.slopes", "NOISE", {"slopes"}),
        ("limelight.claims.slopes", "GOAL", {"slopes"}),
        ("limelight.data.slope_points", "slopes", {"slopes"}),
        ("limelight.data.slope_bands", "SLOPES", {"slopes"}),
        ("limelight.claims.same_operator", "squares", {"same_operator"}),  # which gaussian calls
        ("limelight.claims.same_operator", "ROUNDING", set()),  # a threshold
        ("limelight.claims.same_operator", "differences", set()),  # a picture
    ],
)
def test_kernels_data_parameters_and_helpers_of_helpers(claims, names, module, name, renamed):
    assert name in AS_IT_IS[module].bound
    found = names_with(claims, {module: with_another_start(name)})
    several = {"all": set(names), "those with attention": set(names) - WITHOUT_ATTENTION}
    expected = several[renamed] if isinstance(renamed, str) else renamed
    assert {one for one in names if found[one] != names[one]} == expected


def test_measuring_reaches_no_picture_and_no_judgment(graphs):
    for found in graphs.values():
        modules = {one.module for one in found}
        assert not any(module.startswith(("limelight.figures", "limelight.lab", "plotly")) for module in modules)
        assert {one for one in modules if one.startswith("limelight.experiment")} == {"limelight.experiment.conditions"}
        assert not any(one.name == EVERYTHING for one in found)  # or a name anywhere in it would count


def test_claims_from_elsewhere_have_names():
    assert source_digest(Toy) != source_digest(Faulty)

    class Inner(Toy):
        pass

    assert len(source_digest(Inner)) == 64


def test_names_are_the_same_in_every_process_and_need_no_torch():
    program = """
import sys
from limelight.experiment.fingerprint import _UNREAD, digest_in, sources_reach
from limelight.experiment.provenance.sources import Sources
print(digest_in(sources_reach(Sources({"limelight"}, _UNREAD)), "limelight.claims.same_operator", "SameOperator"))
print("torch" in sys.modules)
"""
    found = [
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, text=True, capture_output=True,
            timeout=120, check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]  # fmt: skip
    expected = source_digest(type(catalog.claim("same_operator")))
    assert found == [[expected, "False"]] * 2


def test_a_module_without_source_is_reported():
    with pytest.raises(ModuleNotFoundError, match=r"cannot read the source of limelight\.nowhere"):
        AS_IT_IS["limelight.nowhere"]


def test_one_source_is_parsed_at_a_time(monkeypatch):
    """Python 3.11 sometimes fails if two threads parse at once."""
    alone = []
    parse = sources.ast.parse
    with monkeypatch.context() as watched:
        watched.setattr(sources.ast, "parse", lambda text: alone.append(sources._PARSING.locked()) or parse(text))
        AS_IT_IS.parse("limelight.errors")
    assert alone == [True]
