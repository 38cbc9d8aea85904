"""The compiled implementation of Adam and SGD: every elementwise rule in one pass.

`kernels` says what happens to an element, `optimizer` when and to which tensors.
"""

from .optimizer import Compilable as Compilable

__all__ = ["Compilable"]
