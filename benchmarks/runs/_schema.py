"""What is in a `result.json`, schema number 1, in the forms of `_forms`.

Every result has the entries of `COMMON` and those of its experiment in `EXPERIMENTS`.
Losses are mean cross entropies in nats; accuracies and errors are shares in [0, 1].
"""

from typing import Any

from benchmarks.runs._forms import Apart, Each, Maybe, Per

NUMBER = 1

# Null is a number that is not finite, as a loss after divergence.
VALUE = Maybe(float)

COMMON = {
    "schema": int,  # 1
    "experiment": str,  # a name in `EXPERIMENTS`
    "command": str,  # that started the run
    "config": Each(object),  # every option of the experiment, defaults included
    # Of Python, JAX, Optax, …; "source" is a digest of this project's code.
    "versions": Each(str),
    "machine": {
        "device": str,  # as JAX names it
        "devices": int,
        "cpu": str,
        "cores": int,
    },
    "started": str,  # ISO 8601, UTC
    # Computing time of all stages together; of a stage that was stopped, the time since
    # it went on.
    "seconds": float,
}

# "rllc" and "tour" compare optimizers.

_HYPER = Each(object)  # a value by hyper-parameter

_TRIAL = {"hyper": _HYPER, "diverged": bool}

_TUNED = {
    "space": Each(object),  # [low, high, "log" or "linear"], or a fixed value
    "selected": _HYPER,  # the trial with the best validation loss
    "at_border": bool,  # whether its rate was the lowest or highest that was tried
    # The law of the selected trial, its mean over the second half of training: one
    # coefficient a unit; null for a method without one.
    "learned_law": Maybe(Per("unit", VALUE)),
    "seeds": Per("seed", int),  # fresh, the same for every method: runs are paired
    "diverged": Per("seed", bool),
}

_LAW = {
    "steps": Per("point", int),
    "law": Per("seed", Per("point", Per("unit", VALUE))),
    "gain": Per("seed", Per("point", VALUE)),
    # Entry j is the weight of the gradient of j steps ago in the final update, averaged
    # over the seeds.
    "response": [VALUE],
}

_METHOD = _TUNED | {
    "trials": [
        _TRIAL
        | {"train_loss": VALUE, "validation_loss": VALUE, "validation_accuracy": VALUE}
    ],
    "train_loss": Per("seed", VALUE),
    "validation_loss": Per("seed", VALUE),
    "validation_accuracy": Per("seed", VALUE),
    "test_loss": Per("seed", VALUE),
    "test_accuracy": Per("seed", VALUE),
    "curves": {
        "steps": Per("point", int),
        "train_loss": Per("seed", Per("point", VALUE)),
        "validation_loss": Per("seed", Per("point", VALUE)),
    },
    "law": Maybe(_LAW),  # null for a method without a learned law
    "seconds_per_step": VALUE,  # of one run, median, compilation excluded
    "bytes_per_parameter": VALUE,  # of the optimizer's state
    "steps_to_target": Per("seed", Maybe(int)),  # null where it was never reached
}

# Method minus baseline over paired seeds, with a 95 % t interval. The metrics are
# "train_loss", "validation_loss" and "validation_error" (one minus the accuracy), or
# "log10_loss" of problems: negative differences favour the method.
_COMPARISON = {
    "schedule": str,  # "constant" or "cosine", as below
    "metric": str,
    "method": str,
    "against": str,
    "mean_difference": VALUE,
    "low": VALUE,
    "high": VALUE,
    "better": int,  # seeds that favour the method,
    "pairs": int,  # of so many
}

_PROBLEM = {
    "steps": int,
    "comparisons": [_COMPARISON],
    "methods": Apart(  # by method; starting points are the seeds
        _TUNED
        | {"trials": [_TRIAL | {"log10_loss": VALUE}]}
        | {"log10_loss": Per("seed", VALUE)}
    ),
}

_OPTIMIZERS = {
    "strategy": str,  # how runs were advanced, of `benchmarks.training.STRATEGIES`
    "methods": Each(Apart(_METHOD)),  # by method and schedule
    "targets": Each(VALUE),  # training loss by schedule, set by the baselines alone
    "comparisons": [_COMPARISON],
    "problems": Apart(_PROBLEM),  # deterministic ones, by name
}

# "combinability" trains, aligns and combines networks. A metric is "train_loss",
# "train_error", "test_loss" or "test_error".

# Means over pairs of networks with a 95 % interval over networks (jackknife).
_INTERVAL = {"mean": VALUE, "low": VALUE, "high": VALUE}
_PAIRS = _INTERVAL | {"pairs": Per("pair", VALUE)}
_RING = _INTERVAL | {"pairs": Per("pair of neighbours in a ring", VALUE)}

_CLAIMS = [
    {"claim": str, "measure": str, "bound": float, "side": str, "verdict": str}
    | _INTERVAL
]

_CUBE = Each(  # by distribution, granularity and whether networks are aligned
    {"cell": {"distribution": str, "granularity": str, "aligned": bool}}
    | {
        # Over all combinations, 0th to 100th; and beyond the parents' mean, of each
        # pair: the mean and the 95th percentile of its combinations.
        f"{split}_{score}": {
            "percentiles": Per("percentile", VALUE),
            "excess": _RING,
            "excess_95": _RING,
        }
        for split in ("train", "test")
        for score in ("loss", "error")
    }
)

_MATCHING = {
    "pairs": Per("pair", [int]),
    "objective": Per("pair", VALUE),
    "starts": Each(Per("pair", VALUE)),  # the objective by start
    "best_start": Per("pair", str),
    "moved": Per("pair", VALUE),  # share of units that do not stay where they were
}

_TRANSITIVITY = {
    "barriers": {"unmatched": Each(_PAIRS)}
    | {"direct": Each(_PAIRS), "through": Each(_PAIRS)},
    # Barriers by way and metric.
    "matrices": Each(Each(Per("network", Per("network", VALUE)))),
    "cycles": Each({"mean": VALUE, "chance": VALUE}),  # defect by group
}

_ROBUSTNESS = {
    "fractions": Per("fraction of units moved", float),
    "moved": Per("fraction of units moved", VALUE),
    "lost": Per("fraction of units moved", VALUE),
    "rows": Per(
        "fraction of units moved",
        {"barrier": Each(_RING), "excess": Each(_RING)},  # by metric
    ),
}

_PLANE = {"x": Per("x", float), "y": Per("y", float), "marks": [[float]]} | {
    f"{split}_{score}": Per("y", Per("x", VALUE))
    for split in ("train", "test")
    for score in ("loss", "error")
}

_WIDTH = {
    "parameters": int,
    "symmetry": str,  # its table
    "networks": Each(Per("network", VALUE)),  # on whole splits
    "parents": Per("network", Each(VALUE)),  # metrics, on the rows used here
    "matching": _MATCHING,
    "transitivity": _TRANSITIVITY,
    "controls": {
        "fractions": Per("fraction of a segment", float),
        "barriers": Each(Each(_PAIRS)),  # by control and metric
        "curves": Each(Each(Per("fraction of a segment", VALUE))),
    },
    "hypercube": _CUBE,
    "robustness": _ROBUSTNESS,
    "difference": {  # intervals by measure
        "seeds": Each(_INTERVAL),
        "parents": Each(_INTERVAL),
        "combinations": Each(_INTERVAL),
        "relative": {"parents": _INTERVAL, "combinations": _INTERVAL},
    },
    "landscape": {"aligned": _PLANE, "not matched": _PLANE, "vertices": _PLANE},
    "claims": _CLAIMS,
}

_TASTE = {  # two networks of a tour
    "width": int,
    "symmetry": str,
    "log10_equivalent": VALUE,  # of the number of permutations of its units
    "starts": Each(VALUE),
    "parents": Per("network", Each(VALUE)),
    "hypercube": _CUBE,
}

# "stitching" joins the front of network 1 to the back of network 2, layer by layer.
# Intervals are over networks, pairs are ordered.

_STITCHES = Each(  # by map; one may be of the first pairs alone
    {
        "way": str,  # "direct", "task loss" or "control"
        "kind": str,  # the class of maps
        # The share of the full rank or of the largest penalty; the penalty; for "early"
        # the steps so far; null for classes without.
        "at": Maybe(float),
        "density": VALUE,  # share of weights that are not zero
        # Shares of test rows: misses or hits of the stitched network, in each misses or
        # hits of network 2.
        "hits": [[VALUE]],
        # To network 2's.
        "relative_accuracy": _INTERVAL | {"pairs": [VALUE]},
        "accuracy": _INTERVAL,
        "agreement": _INTERVAL,  # with the classes of network 2
        "cross_entropy": _INTERVAL,  # nats, against network 2's soft outputs
        "residual": _INTERVAL,  # 1 − R² at the layer
        # Mean squared Mahalanobis distance from network 2's own activations, in units
        # of theirs; and the probability that it is larger than one of theirs.
        "distance": _INTERVAL,
        "auroc": _INTERVAL,
    }
)

_AUDIT = {
    "relative_accuracy": VALUE,
    "chance": VALUE,  # the relative accuracy of the best constant answer
    "r_squared": VALUE,
    "distance": VALUE,
    "own_distance": VALUE,  # that of network 2's own, held out
    "distance_auroc": VALUE,
    "energy_auroc": VALUE,  # of the logits' energies
    "controls": {  # relative accuracies
        "self_stitch": VALUE,
        "shuffled": VALUE,
        "noise": VALUE,
        "untrained": VALUE,
    },
}

_CROSSED = _INTERVAL | {"pairs": Per("pair crossed", VALUE)}

_STITCHING = {
    "networks": {  # on the test rows used here
        "test_accuracy": Per("network", VALUE),
        "test_loss": Per("network", VALUE),
    },
    # The shape is that of the activation of one sample.
    "layers": Per("layer", {"name": str, "shape": [int]}),
    "pairs": Per("pair", [int]),  # network 1, network 2
    "stitches": Each(_STITCHES),  # by layer
    "indices": Each(Each(_PAIRS)),  # by layer and index
    # Spearman's over the layers of a pair, of an index with the relative accuracy of a
    # map; by map and index.
    "correlations": Each(Each(_PAIRS)),
    "cross": Maybe(  # least squares from every layer to every layer
        {
            "pairs": Per("pair crossed", [int]),
            # By score; layers of network 1, then of network 2.
            "matrices": Each(Per("layer", Per("layer", VALUE))),
            # Share of network 2's layers to which the same layer of network 1 scores
            # highest, by score.
            "identification": Each(_CROSSED),
            "correlations": Each(_CROSSED),  # of a score with the relative accuracy
        }
    ),
    # Means over pairs by layer and method.
    "audit": Maybe({"pairs": [[int]], "layers": Each(Each(_AUDIT))}),
    "claims": _CLAIMS,
}

_STITCHING_TASTE = {  # the first of two networks of a tour to the second
    "test_accuracy": [VALUE],
    "stitches": Each(_STITCHES),
    "CKA": Each(VALUE),  # by layer
}

# "speed …" times programs in turns. Times are medians over rounds, ratios are taken
# round by round; no two measurements give the same.

_RATIO = {"median": VALUE, "low": VALUE, "high": VALUE}  # low, high: quartiles

_SPEED_RLLC = {
    "parameters": int,  # float32 ones that a step updates
    # That a copy of the parameters reads and writes, timed in the same turns.
    "copy_bytes_per_second": float,
    "baseline": str,  # the optimizer that the others are compared with
    "steps": Each(  # by optimizer
        {
            "seconds": float,  # of one step, parameters and state donated
            "ratio": _RATIO,  # of the time to the baseline's in the same round
            # The words that the step must move, at the speed of a copy.
            "floor_seconds": float,
            # Bytes beside arguments and results, as the compiler plans them, relative
            # to those of the parameters.
            "temporary_share": float,
        }
    ),
}

_SPEED_COMBINABILITY = {
    "matching": {
        "baseline": str,
        "widths": Each(
            {
                "parameters": int,
                "matching": Each(  # by way of matching
                    {"seconds": float, "ratio": _RATIO}
                    | {"objective": VALUE, "recovered": VALUE}
                ),
            }
        ),
    },
    "combinations": {
        "baseline": str,
        "cases": Each(
            {"images": int, "samples": int, "batch": int, "lanes": int}
            | {
                "start_seconds": {"engine": float, "loop": float},
                "combinations_per_second": {"engine": float, "loop": float},
                "speedup": _RATIO,
                # Of the metric for one combination; what a large product of matrices
                # reaches in the same turns; and which share of that the engine reaches.
                "flops?": float,
                "matmul_flops_per_second?": float,
                "matmul_share?": float,
            }
        ),
    },
}

_SPEED_STITCHING = {
    "task_loss": {
        "baseline": str,
        "layers": Each(
            {
                "front_seconds": float,  # network 1's activations of all images, once
                "images": int,
                "samples_per_second": Each(float),  # by way of training
                "speedup": _RATIO,  # of one map over the baseline
                "by_hand?": _RATIO,  # the time of one map to that of a loop by hand
                "many": _RATIO,  # the time of eight maps at once to eight times one
                "difference": VALUE,  # of the losses of both ways, relative
            }
        ),
    },
    "moments": {
        "samples": int,
        "features": int,
        "measures": Each(
            {
                "baseline": str,
                "seconds": {"moments": float, "baseline": float},
                "speedup": _RATIO,
                "difference": VALUE,  # of the values, relative
            }
        ),
    },
}

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "rllc": _OPTIMIZERS,
    "tour": _OPTIMIZERS | {"combinability": _TASTE, "stitching": _STITCHING_TASTE},
    "combinability": {"widths": Apart(_WIDTH)},
    "stitching": _STITCHING,
    "speed rllc": _SPEED_RLLC,
    "speed combinability": _SPEED_COMBINABILITY,
    "speed stitching": _SPEED_STITCHING,
}
