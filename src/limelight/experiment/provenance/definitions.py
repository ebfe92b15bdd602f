"""A definition as text that changes only if what it computes could change.

Comments, docstrings, annotations that nothing reads, error messages, and a claim's judgment and pictures are left
out. A name from outside the definition is replaced by the definition that it leads to, so that neither the name nor its
module matters. Where a name cannot be followed, more is included: the whole module if the module computes its names, or
every module if code is made from text or looked up by a computed name.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from limelight.experiment.provenance.scopes import (
    Bindings,
    Comprehension,
    Function,
    bindings,
    bound_names,
    imported_names,
)
from limelight.experiment.provenance.sources import (
    EVERYTHING,
    IGNORED_NAMES,
    Definition,
    External,
    Module,
    Source,
    Sources,
    Target,
    imported_as,
    is_type_checking,
)

Token = str | Definition
ALL_MODULES = Definition("", EVERYTHING)
_RESULT_METHODS = {"judge", "finding", "figures"}  # the methods of a claim that read results
_ANY_MODULE = {"builtins.eval", "builtins.exec", "builtins.__import__", "importlib.import_module"}
_THIS_MODULE = {"builtins.globals", "sys.modules"}
_FIELD_MARKERS = {"typing.ClassVar", "dataclasses.InitVar", "dataclasses.KW_ONLY"}  # annotations that a dataclass reads
_IGNORE_ANNOTATIONS = {  # decorators and bases that read no annotations, or, as a dataclass, only those above
    "abc.ABC", "abc.abstractmethod", "contextlib.contextmanager", "dataclasses.dataclass", "enum.Enum", "enum.IntEnum",
    "enum.StrEnum", "functools.cache", "functools.cached_property", "functools.lru_cache", "functools.wraps",
    "torch.autograd.Function", "torch.autograd.function.once_differentiable", "torch.enable_grad",
    "torch.inference_mode", "torch.nn.Module", "torch.nn.MultiheadAttention", "torch.no_grad",
    "torch.overrides.TorchFunctionMode", "typing.Generic", "typing.NamedTuple", "typing.Protocol", "typing.TypedDict",
    "typing.final", "typing.overload", "typing.override", "typing.runtime_checkable",
}  # fmt: skip
_EFFECTS = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)


def measuring(module: str, claim: str, method: str = "measure") -> Definition:
    """The part of a claim's class that its measurement uses, which is made by this method."""
    return Definition(module, f"{claim}:measuring:{method}")


def effectful_statement(module: str, place: int) -> Definition:
    """The statement with this index in `Source.effectful`: one at a module's top level that may have side effects."""
    return Definition(module, f"{place}:doing")


class Definitions:
    """The definitions of some modules as text, each of which is written once."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._tokens: dict[Definition, tuple[Token, ...]] = {}
        self._ancestors: dict[Definition, tuple[Target, ...]] = {}

    def tokens(self, definition: Definition) -> tuple[Token, ...]:
        """A definition as pieces of text, with the definitions that it mentions between them."""
        if definition not in self._tokens:
            self._tokens[definition] = tuple(_joined(self._written(definition)))
        return self._tokens[definition]

    def class_of(self, target: Target | None) -> ast.ClassDef | None:
        """The class statement that defines the target, or None if it is no class, or is bound more than once."""
        if not isinstance(target, Definition) or target.module not in self.sources:
            return None
        statements = self.sources[target.module].bound.get(target.name, [])
        return statements[0] if len(statements) == 1 and isinstance(statements[0], ast.ClassDef) else None

    def ancestors(self, target: Target | None) -> tuple[Target, ...]:
        """All bases of a class, with the bases of those; empty for anything but a class."""
        found = self.class_of(target)
        if found is None or not isinstance(target, Definition):
            return ()
        if target not in self._ancestors:
            self._ancestors[target] = ()  # ends the recursion if a class is its own base
            writer = Writer(self, self.sources[target.module])
            bases = [base for node in found.bases if (base := writer.resolve(_plain(node))) is not None]
            self._ancestors[target] = tuple(
                dict.fromkeys(one for base in bases for one in (base, *self.ancestors(base)))
            )
        return self._ancestors[target]

    def is_claim(self, target: Target | None) -> bool:
        return any(isinstance(base, External) and base.name == "Claim" for base in self.ancestors(target))

    def is_error(self, target: Target | None) -> bool:
        return _is_builtin_error(target) or any(_is_builtin_error(base) for base in self.ancestors(target))

    def has_only_text(self, target: Target | None) -> bool:
        """True for an error class of these packages that defines its message and nothing else."""
        if self.class_of(target) is None or not self.is_error(target):
            return False
        classes = filter(None, map(self.class_of, (target, *self.ancestors(target))))
        return all(_has_only_text(part) for found in classes for part in found.body)

    def _written(self, definition: Definition) -> list[Token]:
        if definition == ALL_MODULES:
            return [Definition(module, EVERYTHING) for module in self.sources.all_modules()]
        source = self.sources[definition.module]
        if definition.name == EVERYTHING:
            return self._whole(source)
        name, _, part = definition.name.partition(":")
        if part == "doing":
            writer = Writer(self, source)
            writer.body([source.effectful[int(name)]])
        else:
            writer = Writer(self, source, own=name)
            if part.startswith("measuring:"):
                self._measuring(writer, definition.module, name, part.removeprefix("measuring:"))
            else:
                writer.body(source.bound[name])
        return writer.out

    def _whole(self, source: Source) -> list[Token]:
        """All definitions of a module with their names, since the names may be looked up."""
        stub = self.sources.stub(source.name)
        found: list[Token] = []
        for name in dict.fromkeys([*source.bound, *(stub.bound if stub else ())]):
            target = None if name in IGNORED_NAMES else self.sources.find(source.name, name)
            if isinstance(target, Definition | External):
                found += [name, target if isinstance(target, Definition) else target.name]
        return found + [effectful_statement(source.name, place) for place in range(len(source.effectful))]

    def _measuring(self, writer: Writer, module: str, name: str, method: str) -> None:
        """Write the members of a claim that this method reaches, in the order of its class and its bases."""
        chain = [Definition(module, name), *self.ancestors(Definition(module, name))]
        members: list[tuple[Definition, ast.stmt, set[str]]] = []
        for owner in chain:
            found = self.class_of(owner)
            if found is not None and isinstance(owner, Definition):
                members += [(owner, part, bound_names([part])) for part in found.body]
                outside = [*found.decorator_list, *(keyword.value for keyword in found.keywords)]
                members += [(owner, ast.copy_location(ast.Expr(part), part), set()) for part in outside]
        every = {name for _, _, names in members for name in names}
        wanted = {method} | {name for name in every if name.startswith("__")}
        while True:
            taken = [member for member in members if not member[2] or member[2] & wanted]
            more = _members_used([part for _, part, names in taken if names], every) - wanted
            if not more:
                break
            wanted |= more
        for owner, part, _ in taken:
            inner = Writer(self, self.sources[owner.module], own=owner.name)
            inner.member(part)
            writer.out += inner.out


def _members_used(parts: list[ast.stmt], every: set[str]) -> set[str]:
    """The members that these statements use: names after a dot.

    Where `self` itself is passed on, any member could be used: all count but `judge` and `figures`.
    """
    used: set[str] = set()
    for part in parts:
        nodes = list(ast.walk(part))
        used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)} & every
        before_dots = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
        selves = {"self", "cls"}
        if isinstance(part, ast.FunctionDef) and part.args.args:
            selves.add(part.args.args[0].arg)
        if any(isinstance(node, ast.Name) and node.id in selves and id(node) not in before_dots for node in nodes):
            used |= every - _RESULT_METHODS
    return used


@dataclass
class _Scope:
    """The names that a function, a class or a comprehension binds, and those among them that are imports."""

    names: set[str]
    imports: dict[str, Target] = field(default_factory=dict)
    globals: set[str] = field(default_factory=set)
    is_class: bool = False


class Writer:
    """Writes statements of one module as text and definitions, which are appended to `out`."""

    def __init__(self, definitions: Definitions, source: Source, own: str | None = None) -> None:
        self.definitions, self.sources, self.source, self.own = definitions, definitions.sources, source, own
        self.out: list[Token] = []
        self.scopes: list[_Scope] = []
        self.annotated = False  # True where a decorator or a base may read annotations

    def body(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            self._statement(statement)

    def member(self, statement: ast.stmt) -> None:
        """Write one statement of the body of a class."""
        self.scopes.append(_Scope(bound_names([statement]), is_class=True))
        self._statement(statement)
        self.scopes.pop()

    def resolve(self, node: ast.AST) -> Target | None:
        """What a name, or an attribute of a module, leads to; None for a name that the code binds, or another value."""
        if isinstance(node, ast.Name):
            return self._lookup(node.id)[1]
        if not isinstance(node, ast.Attribute):
            return None
        match self.resolve(node.value):
            case External(name):
                return External(f"{name}.{node.attr}")
            case Module(name):
                return self.sources.find(name, node.attr) or Definition(name, EVERYTHING)
        return None

    def _lookup(self, name: str) -> tuple[bool, Target | None]:
        """(True if the code binds the name itself, what it leads to otherwise). In a class body both are possible."""
        directly = True  # True directly in the body of a class; the methods of the class do not see its names
        for scope in reversed(self.scopes):
            if name in scope.globals:
                break
            if name in scope.imports:
                return False, scope.imports[name]
            if name in scope.names and scope.is_class and directly:
                return True, self._of_module(name)
            if name in scope.names and not scope.is_class:
                return True, None
            directly = directly and scope.is_class
        return False, self._of_module(name)

    def _of_module(self, name: str) -> Target | None:
        found = self.sources.lookup(self.source.name, name)
        return External(f"builtins.{name}") if found is None and hasattr(builtins, name) else found

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Pass() | ast.Global() | ast.Expr(value=ast.Constant()):
                return
            case ast.If() if is_type_checking(node):
                self.body(node.orelse)
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._function(node)
            case ast.ClassDef():
                self._class(node)
            case ast.AnnAssign():
                self._annotated_assignment(node)
            case ast.Assert():
                self.out.append("Assert")
                self._node(node.test)
            case _:
                self._generic(node)

    def _node(self, node: object) -> None:
        match node:
            case ast.stmt():
                self._statement(node)
            case ast.Name():
                self._name(node)
            case ast.Attribute():
                self._attribute(node)
            case ast.Call():
                self._call(node)
            case ast.Lambda():
                self._function(node)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self._comprehension(node)
            case ast.Constant():
                self.out.append(repr(node.value))
            case ast.Subscript(value=table, slice=name) if self._looks_up_unread_module(table, name):
                self._write_module_lookup(name)
            case ast.Compare(left=name, comparators=[table]) if self._looks_up_unread_module(table, name):
                self.out += [type(operator).__name__ for operator in node.ops]
                self._write_module_lookup(name)
            case ast.AST():
                self._generic(node)
            case list():
                self.out.append("[")
                for part in node:
                    self._node(part)
                self.out.append("]")
            case _:
                self.out.append(repr(node))

    def _looks_up_unread_module(self, table: ast.expr, name: ast.expr) -> bool:
        """True if `table[name]` or `name in table` looks up a module that is not read in `sys.modules`."""
        module = self._text_of(name) if isinstance(table, ast.Attribute) and table.attr == "modules" else ""
        is_outside = bool(module) and module.partition(".")[0] not in self.sources.packages
        return is_outside and self.resolve(table) == External("sys.modules")

    def _text_of(self, node: ast.expr) -> str:
        """The text of a literal, or of a constant that is bound to one; empty for any other expression."""
        target = self.resolve(node)
        if isinstance(target, Definition) and target.module in self.sources:
            match self.sources[target.module].bound.get(target.name, []):
                case [ast.Assign(value=value)]:
                    return _text(value)
        return _text(node)

    def _write_module_lookup(self, name: ast.expr) -> None:
        self.out.append("sys.modules")
        self._node(name)

    def _generic(self, node: ast.AST) -> None:
        self.out.append(type(node).__name__)
        for name, value in ast.iter_fields(node):
            if name not in ("ctx", "type_comment"):
                self._node(value)

    def _name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load) and not self.scopes:
            self.out.append("its own name" if node.id == self.own else node.id)
            return
        is_local, target = self._lookup(node.id)
        if is_local or target is None:
            self.out.append(f"Name {node.id}")
        if target is not None:
            self._target(target)

    def _attribute(self, node: ast.Attribute) -> None:
        if node.attr == "__subclasses__":
            self.out.append(ALL_MODULES)
        target = self.resolve(node)
        if target is not None:
            self._target(target)
            return
        self._node(node.value)
        self.out.append(f".{node.attr}")

    def _target(self, target: Target) -> None:
        match target:
            case Definition():
                self.out.append(target)
            case Module(name):  # the module is used as a value, so any of its names may be used
                self.out.append(Definition(name, EVERYTHING))
            case External(name):
                self.out.append(name)
                if name in _ANY_MODULE:
                    self.out.append(ALL_MODULES)
                elif name in _THIS_MODULE or name.startswith("sys.modules."):
                    self.out.append(Definition(self.source.name, EVERYTHING))

    def _call(self, node: ast.Call) -> None:
        called = self.resolve(node.func)
        arguments = [*node.args, *node.keywords]
        if isinstance(called, External) and called.name == "typing.cast":
            self._node(node.args[1:])
        elif self._makes_text_error(called, node):
            self.out.append("Error")
            self._node(node.func)
        elif called == External("importlib.import_module") and len(node.args) == 1 and _text(node.args[0]):
            self._target(self.sources.imported(_text(node.args[0]), None))
        else:
            self.out.append("Call")
            self._node(node.func)
            self._node(arguments)

    def _makes_text_error(self, called: Target | None, node: ast.Call) -> bool:
        """True if this call makes an exception whose arguments only make its message."""
        if _is_builtin_error(called):
            plain = not node.keywords and all(isinstance(part, ast.JoinedStr) or _text(part) for part in node.args)
        else:
            plain = self.definitions.has_only_text(called)
        return plain and not any(isinstance(part, _EFFECTS) for part in ast.walk(node))

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name in sorted(imported_names(node)):
            if self.scopes and name in self.scopes[-1].imports:
                continue  # the definition is written where the name is used
            target = self.sources.imported(*imported_as(self.source, node, name))
            self.out.append(f"Import {'its own name' if name == self.own and not self.scopes else name}")
            self._target(target)

    def _function(self, node: Function) -> None:
        before, arguments = self.annotated, node.args
        self.out.append(type(node).__name__)
        if not isinstance(node, ast.Lambda):
            self.annotated = before or self._reads_annotations(node.decorator_list)
            self.out.append("its own name" if not self.scopes and node.name == self.own else node.name)
            self._node(node.decorator_list)
        for group in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs):
            self.out.append(f"({' '.join(argument.arg for argument in group)})")
        self.out.append(f"*{getattr(arguments.vararg, 'arg', '')} **{getattr(arguments.kwarg, 'arg', '')}")
        self._node(arguments.defaults)
        self._node(arguments.kw_defaults)
        if self.annotated and not isinstance(node, ast.Lambda):
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            self._node([argument.annotation for argument in every if argument])
            self._node(node.returns)
        self.annotated = False  # nothing reads the annotations in a function's body
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        bound = bindings(node)
        self.scopes.append(_Scope(bound.names, self._imports(bound), bound.globals))
        self.out.append("{")
        for part in body:
            self._node(part)
        self.out.append("}")
        self.scopes.pop()
        self.annotated = before

    def _imports(self, bound: Bindings) -> dict[str, Target]:
        """The names of a function that are bound by one import and by nothing else."""
        found: dict[str, list[Target]] = {}
        for statement in bound.imports:
            for name in imported_names(statement):
                target = self.sources.imported(*imported_as(self.source, statement, name))
                found.setdefault(name, []).append(target)
        once = {name: targets[0] for name, targets in found.items() if len(targets) == 1}
        return {name: target for name, target in once.items() if name not in bound.others | bound.globals}

    def _class(self, node: ast.ClassDef) -> None:
        before = self.annotated
        is_own = not self.scopes and node.name == self.own
        definition = Definition(self.source.name, node.name) if not self.scopes else None
        self.annotated = before or self._reads_annotations([*node.decorator_list, *node.bases], definition)
        self.out += ["Class", "its own name" if is_own else node.name]
        self._node(node.decorator_list)
        self._node([*node.bases, *node.keywords])
        if not self.definitions.has_only_text(definition):
            self.scopes.append(_Scope(bound_names(node.body), is_class=True))
            self.out.append("{")
            ignored = _RESULT_METHODS if self.definitions.is_claim(definition) else set()
            self.body(part for part in node.body if getattr(part, "name", None) not in ignored)
            self.out.append("}")
            self.scopes.pop()
        self.annotated = before

    def _annotated_assignment(self, node: ast.AnnAssign) -> None:
        in_class = bool(self.scopes) and self.scopes[-1].is_class
        if node.value is None and not in_class:
            return
        self.out.append("Field" if in_class else "Assign")
        self._node([node.target])
        if self.annotated:
            self._node(node.annotation)
        elif in_class:
            self.out += [str(part) for part in self._field_markers(node.annotation)]
        self._node(node.value)

    def _field_markers(self, annotation: ast.expr) -> Iterator[str]:
        """The parts of an annotation that a dataclass reads. An annotation in quotes is kept as its text."""
        if isinstance(annotation, ast.Constant):
            yield repr(annotation.value)
        target = self.resolve(_plain(annotation))
        if isinstance(target, External) and target.name in _FIELD_MARKERS:
            yield target.name

    def _comprehension(self, node: Comprehension) -> None:
        self.out.append(type(node).__name__)
        self._node(node.generators[0].iter)
        self.scopes.append(_Scope(bound_names(generator.target for generator in node.generators)))
        for place, generator in enumerate(node.generators):
            self._node(generator.target)
            self._node(generator.iter if place else None)
            self._node(generator.ifs)
            self.out.append(f"async {generator.is_async}")
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self._node(part)
        self.scopes.pop()

    def _reads_annotations(self, readers: Iterable[ast.expr], own: Definition | None = None) -> bool:
        """True if one of these decorators and bases, or a base of those, may read annotations."""
        for node in readers:
            node = _plain(node)
            if isinstance(node, ast.Attribute) and node.attr in ("setter", "getter", "deleter"):
                continue
            target = self.resolve(node)
            bases = (target, *self.definitions.ancestors(target)) if target != own else ()
            if any(not self._ignores_annotations(base) for base in bases):
                return True
        return False

    def _ignores_annotations(self, target: Target | None) -> bool:
        if isinstance(target, External):
            return target.name in _IGNORE_ANNOTATIONS or target.name.startswith("builtins.") or "." not in target.name
        found = self.definitions.class_of(target)
        if found is None or not isinstance(target, Definition):
            return False
        there = Writer(self.definitions, self.sources[target.module])
        return not there._reads_annotations(found.decorator_list, target)


def _joined(tokens: Iterable[Token]) -> Iterator[Token]:
    """Join neighboring pieces of text into one."""
    run: list[str] = []
    for token in tokens:
        if isinstance(token, str):
            run.append(token)
        else:
            yield "\n".join(run)
            yield token
            run = []
    yield "\n".join(run)


def _plain(node: ast.expr) -> ast.expr:
    """The expression without subscripts and calls: `Generic` for `Generic[T]`, `dataclass` for `dataclass(…)`."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return node


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _has_only_text(statement: ast.stmt) -> bool:
    """True if this statement of an error's class only makes its message."""
    if isinstance(statement, ast.FunctionDef):
        stores = (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) for node in ast.walk(statement))
        return statement.name in ("__init__", "__str__") and not any(stores)
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _is_builtin_error(target: Target | None) -> bool:
    if not isinstance(target, External) or not target.name.startswith("builtins."):
        return False
    found = getattr(builtins, target.name.partition(".")[2], None)
    return isinstance(found, type) and issubclass(found, BaseException)
