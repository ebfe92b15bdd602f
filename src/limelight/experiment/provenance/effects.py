"""Side effects of imports: statements of a module that register or change something that is defined elsewhere.

A statement at the top level of a module *touches* the names that it mentions and, through the functions that it calls,
the tables and classes that those functions mention. (A table is a list, a dictionary or another object that can be
changed, such as a registry.) A statement that touches a definition is part of whatever uses the definition. A function
or class that a statement only calls is not touched by it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from limelight.experiment.provenance.definitions import Definitions, Writer, effectful_statement
from limelight.experiment.provenance.scopes import bound_names
from limelight.experiment.provenance.sources import Definition, External, Source, Target

_CONSTRUCTORS = {"__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__"}
_TYPE_CHECKS = {"builtins.isinstance", "builtins.issubclass"}
_LITERALS = (ast.Constant, ast.Lambda, ast.JoinedStr)  # values that nothing can change


class Effects:
    """The statements of modules that have side effects, and the definitions that each touches."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions, self._sources = definitions, definitions.sources
        self._called: dict[Definition, tuple[set[Definition], set[Definition]]] = {}
        self._found: dict[str, list[tuple[Definition, frozenset[Definition]]]] = {}

    def of(self, module: str) -> list[tuple[Definition, frozenset[Definition]]]:
        """The statements of a module that touch a definition of the packages that are read, and what they touch."""
        if module not in self._found:
            source = self._sources[module]
            every = (
                (_named(module, index, part), self._touched(source, part))
                for index, part in enumerate(source.effectful)
            )
            self._found[module] = [(definition, touched) for definition, touched in every if touched]
        return self._found[module]

    def _touched(self, source: Source, statement: ast.stmt) -> frozenset[Definition]:
        writer = Writer(self._definitions, source)
        match statement:
            case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
                return frozenset(self._by_decorators(writer, decorators))
            case ast.ClassDef():
                return frozenset(
                    [*self._by_decorators(writer, statement.decorator_list), *self._by_bases(statement, writer)]
                )
            case ast.Assign(targets=[ast.Name()]) | ast.AnnAssign(target=ast.Name()):
                return frozenset(self._by_calls(writer, statement))
        mentioned, called = _split(writer, [statement])
        return frozenset([*mentioned, *self._states(called)])

    def _by_decorators(self, writer: Writer, decorators: list[ast.expr]) -> Iterator[Definition]:
        for node in decorators:
            mentioned, called = _split(writer, [node])
            found = writer.resolve(node)  # a decorator without arguments is a name, and is called as well
            if isinstance(found, Definition):
                mentioned, called = mentioned - {found}, called | {found}
            yield from mentioned
            yield from self._states(called)

    def _by_bases(self, statement: ast.ClassDef, writer: Writer) -> Iterator[Definition]:
        """The bases, and the metaclass, whose code runs when this class is derived from them."""
        own = Definition(writer.source.name, statement.name)
        metaclasses = [keyword.value for keyword in statement.keywords if keyword.arg == "metaclass"]
        for base in [*self._definitions.ancestors(own), *map(writer.resolve, metaclasses)]:
            found = self._definitions.class_of(base)
            if found is None or not isinstance(base, Definition):
                continue
            hooks = [part for part in found.body if getattr(part, "name", "") == "__init_subclass__"]
            if hooks or found.keywords or base in map(writer.resolve, metaclasses):
                yield base
                yield from self._states({base})

    def _by_calls(self, writer: Writer, statement: ast.stmt) -> Iterator[Definition]:
        """What the calls in an assignment touch: a table whose method is called, or tables passed to a function."""
        for node in ast.walk(statement):
            if not isinstance(node, ast.Call):
                continue
            called = writer.resolve(node.func)
            if isinstance(called, Definition):
                yield from self._states({called})
                if self._definitions.class_of(called) is None:
                    yield from filter(self._is_state, _split(writer, [*node.args, *node.keywords])[0])
            elif isinstance(node.func, ast.Attribute):
                receiver = writer.resolve(node.func.value)
                if isinstance(receiver, Definition) and self._definitions.class_of(receiver) is None:
                    yield from filter(self._is_state, [receiver])

    def _states(self, called: Iterable[Definition]) -> set[Definition]:
        """The tables and classes that a call of these functions and classes may change."""
        found: set[Definition] = set()
        seen: set[Definition] = set()
        pending = list(called)
        while pending:
            one = pending.pop()
            if one in seen or one.module not in self._sources:
                continue
            seen.add(one)
            if one not in self._called:
                writer = Writer(self._definitions, self._sources[one.module])
                mentioned, further = _split(writer, self._run_by(one))
                bases = {base for base in self._definitions.ancestors(one) if isinstance(base, Definition)}
                self._called[one] = set(filter(self._is_state, mentioned)), further | bases
            found |= self._called[one][0]
            pending += self._called[one][1]
        return found

    def _run_by(self, called: Definition) -> list[ast.AST]:
        """The code that runs in a call: the definition of a function, or the methods that construct an object."""
        found = self._definitions.class_of(called)
        if found is not None:
            return [part for part in found.body if getattr(part, "name", "") in _CONSTRUCTORS]
        return list(self._sources[called.module].bound.get(called.name, ()))

    def _is_state(self, definition: Definition) -> bool:
        """True if other code could change the object: a table or a class, but not a number, a text or an error."""
        if self._definitions.class_of(definition) is not None:
            return not self._definitions.is_error(definition)
        statements = self._sources[definition.module].bound.get(definition.name, ())
        return any(_holds_state(statement) for statement in statements)


def _named(module: str, place: int, statement: ast.stmt) -> Definition:
    """The definition of the alphabetically first name that a statement binds, or of the statement if it binds none."""
    names = sorted(bound_names([statement]))
    return Definition(module, names[0]) if names else effectful_statement(module, place)


def _holds_state(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.Import | ast.ImportFrom):
        return False
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        return statement.value is not None and not _is_literal(statement.value)
    return True


def _is_literal(node: ast.AST) -> bool:
    match node:
        case ast.Tuple(elts=parts):
            return all(map(_is_literal, parts))
        case ast.UnaryOp(operand=part):
            return _is_literal(part)
        case ast.BinOp(left=left, right=right):
            return _is_literal(left) and _is_literal(right)
        case ast.Subscript(value=ast.Name(id="Literal" | "tuple" | "Callable" | "dict" | "list")):
            return True  # the name of a type
    return isinstance(node, _LITERALS)


def _split(writer: Writer, nodes: Iterable[ast.AST]) -> tuple[set[Definition], set[Definition]]:
    """The definitions that code mentions as values, and those that it only calls. Annotations are ignored."""
    mentioned: set[Definition] = set()
    called: set[Definition] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        target: Target | None = None
        if isinstance(node, ast.Call):
            target = writer.resolve(node.func)
            if isinstance(target, Definition):
                called.add(target)
                pending += [*node.args, *node.keywords]
                continue
            if isinstance(target, External) and target.name in _TYPE_CHECKS:
                pending += node.args[:1]
                continue
        elif isinstance(node, ast.Name | ast.Attribute):
            target = writer.resolve(node)
        if isinstance(target, Definition):
            mentioned.add(target)
            continue
        pending += [
            part
            for name, value in ast.iter_fields(node)
            if name not in ("annotation", "returns")
            for part in (value if isinstance(value, list) else [value])
            if isinstance(part, ast.AST)
        ]
    return mentioned, called
