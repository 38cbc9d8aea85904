"""Optimizers: thin declarations of a native optimizer and its default decay rule."""

from .adam import Adam as Adam
from .adam import AdamW as AdamW
from .sgd import SGD as SGD

__all__ = ["SGD", "Adam", "AdamW"]
