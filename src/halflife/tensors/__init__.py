"""What touches memory: sums over a model, changes piece by piece, rounding, fused passes.

Nothing here knows what a decay rule or an optimizer is.
"""
