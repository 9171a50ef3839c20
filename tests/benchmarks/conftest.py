"""A small result with everything in it that a report must stand: gaps, divergence."""

import signal
from typing import Any

import numpy as np
import pytest

METHODS = {  # final validation loss, learning rate
    "sgd": (0.50, 1.0),
    "adam": (0.40, 0.003),
    "rllc": (0.30, 0.1),
    "rllc_adam": (0.45, 0.003),
    "rllc_frozen_initial": (0.35, 0.1),
}
SEEDS, POINTS = 4, 6


def entry(name: str, random: np.random.Generator) -> dict[str, Any]:
    final, rate = METHODS[name]
    steps = 10 * np.arange(1, POINTS + 1)
    decay = (2.3 - final) * np.exp(-steps / 10)
    losses = final + decay + 0.01 * random.normal(size=(SEEDS, POINTS))
    law = {
        "steps": steps.tolist(),
        "law": random.normal(size=(SEEDS, POINTS, 2)).tolist(),
        "gain": (1 + 0.1 * random.random((SEEDS, POINTS))).tolist(),
        "response": (0.9 ** np.arange(20)).tolist(),
    }
    trials = [
        {
            "hyper": {"learning_rate": rate * factor},
            "train_loss": None if factor > 5 else final + abs(np.log(factor)),
            "validation_loss": None if factor > 5 else final + abs(np.log(factor)),
            "validation_accuracy": 0.9,
            "diverged": factor > 5,
        }
        for factor in (0.1, 1.0, 3.0, 10.0)
    ]
    return {
        "space": {"learning_rate": [rate / 10, rate * 10, "log"]},
        "trials": trials,
        "selected": {"learning_rate": rate},
        "at_border": name == "sgd",
        "learned_law": [0.1, 0.9] if name in ("rllc", "rllc_adam") else None,
        "seeds": list(range(SEEDS)),
        "train_loss": (losses[:, -1] / 2).tolist(),
        "validation_loss": losses[:, -1].tolist(),
        "validation_accuracy": (1 - losses[:, -1] / 5).tolist(),
        "test_loss": losses[:, -1].tolist(),
        "test_accuracy": (1 - losses[:, -1] / 5).tolist(),
        "diverged": [False] * SEEDS,
        "curves": {
            "steps": steps.tolist(),
            "train_loss": (losses / 2).tolist(),
            "validation_loss": losses.tolist(),
        },
        "law": law if name in ("rllc", "rllc_adam") else None,
        "seconds_per_step": 1e-4,
        "bytes_per_parameter": 8.0,
        "steps_to_target": [20, None, 30, None],
    }


def descent(losses: list[float | None]) -> dict[str, Any]:
    """What a method found on a deterministic problem."""
    return {
        "space": {"learning_rate": [0.01, 1.0, "log"]},
        "trials": [
            {"hyper": {"learning_rate": 0.1}, "log10_loss": -4.0, "diverged": False}
        ],
        "selected": {"learning_rate": 0.1},
        "at_border": False,
        "learned_law": None,
        "seeds": [0, 1],
        "log10_loss": losses,
        "diverged": [loss is None for loss in losses],
    }


def comparisons(methods: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for metric in ("train_loss", "validation_loss"):
        for method in ("rllc", "rllc_adam"):
            for against in ("sgd", "adam", "rllc_frozen_initial"):
                ours, theirs = (
                    np.array(methods[n]["constant"][metric]) for n in (method, against)
                )
                mean = (ours - theirs).mean()
                rows.append(
                    {
                        "schedule": "constant",
                        "metric": metric,
                        "method": method,
                        "against": against,
                        "mean_difference": mean,
                        "low": mean - 0.02,
                        "high": mean + 0.02,
                        "better": int((ours < theirs).sum()),
                        "pairs": SEEDS,
                    }
                )
    return rows


@pytest.fixture
def result() -> dict[str, Any]:
    """A result by the schema of `benchmarks.runs`; RLLC wins, RLLC-Adam does not."""
    random = np.random.default_rng(0)
    methods = {name: {"constant": entry(name, random)} for name in METHODS}
    config = {"dataset": "digits", "model": "mlp", "steps": 60, "batch_size": 8}
    return {
        "schema": 2,
        "experiment": "rllc",
        "command": "python -m benchmarks rllc",
        "config": config | {"trials": 4, "seeds": SEEDS, "schedules": ["constant"]},
        "versions": {"python": "3.11", "jax": "0.10"},
        "machine": {"device": "cpu", "devices": 1, "cpu": "a processor", "cores": 2},
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 12.3,
        "methods": methods,
        "targets": {"constant": 0.25},
        "comparisons": comparisons(methods),
        "problems": {
            "quadratic": {
                "steps": 100,
                "comparisons": [],
                "methods": {
                    "sgd": descent([-3.0, -2.0]),
                    "rllc": descent([-5.0, None]),
                },
            }
        },
    }


@pytest.fixture(autouse=True)
def interrupts_are_heard():
    """Ctrl-C raises even where the tests were started with interrupts ignored.

    Shells ignore them for programs in the background, and Python then does too.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
