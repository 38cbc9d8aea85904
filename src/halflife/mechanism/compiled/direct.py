"""A compiled function, called again without all that ``torch.compile`` puts around a call.

Of a call some 40 of 50 microseconds go into asking whether what was compiled still fits, and 10
into running it. If the function closes over nothing that changes, the answer depends on the
arguments' kinds and on the compiler's global state alone (`halflife.versions.same_call`). So it is
kept: the first call of a size asks, and what the compiler ran then is run again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ... import versions

__all__ = ["Direct"]

MOST = 1024  # sizes; such as are new at every step would fill the memory


class CompiledCall(NamedTuple):
    """What the compiler ran, on what, and whether it would again."""

    same_call: Callable[..., bool]
    run: Callable[..., Any]
    arguments: list[Any]  # tensors by position, and numbers as such
    positions: list[bool]  # whether an argument is one


class Direct:
    """The compiled form of a function of tensors that returns nothing.

    Args:
        function: closes over constants only: they are compiled in, and never looked at again.
        backend: of ``torch.compile``, by name or itself.
    """

    def __init__(self, function: Callable[..., None], backend: Any) -> None:
        self._answers: dict[Any, CompiledCall] = {}
        self._thread = threading.local()
        compiler = versions.compiler_of(backend)

        def noting(graph: Any, examples: Any, **options: Any) -> Callable[..., Any]:
            run = compiler(graph, examples, **options)

            def noted(*arguments: Any) -> Any:
                self._thread.ran.append((run, arguments))
                return run(*arguments)

            return noted

        self._compiled = versions.compiled_apart(
            function, dynamic=True, fullgraph=True, backend=noting
        )

    def __call__(self, *tensors: Tensor | None) -> None:
        """Call the function; the last argument is a tensor."""
        given = [t for t in tensors if t is not None]
        key = given[-1].shape, given[-1].device, tuple([t is None for t in tensors])
        answer = self._answers.get(key)
        if answer is not None and versions.calls_plainly() and answer.same_call(*given):
            known = zip(answer.arguments, answer.positions, strict=True)
            answer.run(*[tensors[a] if is_position else a for a, is_position in known])
            return
        self._thread.ran = []
        try:
            # Symbols would be traced twice: the first graph is given up where it cannot hold one.
            with versions.floats_as_constants():
                self._compiled(*tensors)
            if versions.calls_plainly() and (same := versions.same_call(given)) is not None:
                self._note(key, same, tensors)
        finally:
            self._thread.ran = []  # which holds the tensors

    def _note(self, key: Any, same: Callable[..., bool], tensors: Sequence[Tensor | None]) -> None:
        """Keep what has run, if that was one graph, on these tensors and on numbers only."""
        if len(self._thread.ran) != 1:
            return
        run, arguments = self._thread.ran[0]
        places = {id(t): i for i, t in enumerate(tensors) if t is not None}
        positions = [isinstance(a, Tensor) for a in arguments]
        if any(p and id(a) not in places for a, p in zip(arguments, positions, strict=True)):
            return
        if len(self._answers) >= MOST:
            self._answers.clear()
        # A number is a size, and sizes are of a tensor's kind.
        known = [places[id(a)] if p else a for a, p in zip(arguments, positions, strict=True)]
        self._answers[key] = CompiledCall(same, run, known, positions)
