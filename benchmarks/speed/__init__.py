"""Ratios of times to those of named baselines, measured alternately in one run."""
