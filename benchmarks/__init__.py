"""Experiments with the libraries of this project, run by `python -m benchmarks`."""
