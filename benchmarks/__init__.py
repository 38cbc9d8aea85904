"""Benchmarks: what halflife costs, always against torch in the same run. `python -m benchmarks`."""
