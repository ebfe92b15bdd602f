"""The definitions that a measurement depends on, as a graph whose nodes are numbers in place of names.

Definitions are numbered in the order in which they are first mentioned, starting from the claim's measuring code. Each
is written as text in which the definitions that it mentions are replaced by their numbers. So the same code gives the
same text in whatever module it stands, and whatever its functions, classes and modules are called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from limelight.experiment.provenance.definitions import Definitions
from limelight.experiment.provenance.effects import Effects
from limelight.experiment.provenance.sources import Definition, Sources


class Reach:
    """The definitions that code reaches in some modules. Imports of the packages `result_readers` have no effects."""

    def __init__(self, sources: Sources, result_readers: Collection[str] = ()) -> None:
        self.sources, self.result_readers = sources, {*result_readers}
        self._definitions = Definitions(sources)
        self._effects = Effects(self._definitions)

    def digest(self, roots: Iterable[Definition]) -> str:
        """The SHA-256 of all definitions that the roots reach."""
        numbers = self.reached(roots)
        text = hashlib.sha256()
        for definition in numbers:
            written = (
                f"@{numbers[token]}" if isinstance(token, Definition) else token
                for token in self._definitions.tokens(definition)
            )
            text.update("\n".join([*written, "\n"]).encode())
        return text.hexdigest()

    def reached(self, roots: Iterable[Definition]) -> dict[Definition, int]:
        """The definitions that the roots reach, numbered from 0 in the order in which they are first mentioned."""
        numbers: dict[Definition, int] = {}
        pending = list(roots)
        modules = self._modules(definition.module for definition in pending)
        while pending:
            for definition in pending:
                self._follow(definition, numbers)
            modules |= self._modules(definition.module for definition in numbers if definition.module not in modules)
            pending = self._touching(modules, numbers)
        return numbers

    def _follow(self, root: Definition, numbers: dict[Definition, int]) -> None:
        pending = [root]
        for definition in pending:
            if definition in numbers:
                continue
            numbers[definition] = len(numbers)
            pending += [token for token in self._definitions.tokens(definition) if isinstance(token, Definition)]

    def _touching(self, modules: Iterable[str], numbers: dict[Definition, int]) -> list[Definition]:
        """The statements of these modules that touch a reached definition and are not reached themselves.

        Their order does not depend on names: first by the least number that they touch, then by their text.
        """
        found = []
        for module in modules:
            for definition, touched in self._effects.of(module):
                least = min((numbers[one] for one in touched if one in numbers), default=None)
                if least is not None and definition not in numbers:
                    tokens = self._definitions.tokens(definition)
                    text = "\n".join(
                        str(numbers.get(token, "@")) if isinstance(token, Definition) else token for token in tokens
                    )
                    found.append((least, text, definition))
        return [definition for _, _, definition in sorted(found)]

    def _modules(self, start: Iterable[str]) -> set[str]:
        """These modules and all that they import, directly or not, without modules that only read results."""
        found: set[str] = set()
        pending = [module for module in start if module]
        while pending:
            module = pending.pop()
            if module not in found:
                found.add(module)
                pending += [one for one in self.sources.imported_by(module) if not self._only_reads_results(one)]
        return found

    def _only_reads_results(self, module: str) -> bool:
        parts = module.split(".")
        return any(".".join(parts[:end]) in self.result_readers for end in range(1, len(parts) + 1))
