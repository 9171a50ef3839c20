"""Ratios of times to those of named baselines, measured in turns in one run."""
