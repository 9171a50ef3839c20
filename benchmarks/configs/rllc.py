"""Options of a comparison of optimizers."""

import dataclasses
from typing import Any, ClassVar, Literal, get_args

from benchmarks._options import Options, check_counts, check_name, is_import_path

Baseline = Literal[
    "sgd",
    "momentum",
    "nesterov",
    "adam",
    "adamw",
    "nadam",
    "aggmo",
    "ademamix",
    "simplified_ademamix",
    "lion",
    "schedule_free",
    "prodigy",
    "muon",
    "adaptive_memory",
    "adaptive_memory_adam",
]
Variant = Literal["rllc", "rllc_free", "rllc_adam"]
Frozen = Literal[
    "rllc_frozen_initial",
    "rllc_adam_frozen_initial",
    "rllc_frozen_learned",
    "rllc_adam_frozen_learned",
]
Composition = Literal[
    "rllc_large_batch",
    "rllc_large_batch_frozen_initial",
    "rllc_bfloat16_memory",
    "rllc_adam_bfloat16_memory",
    "nadam_rllc",
    "rllc_sign",
    "sign_rllc",
    "rllc_muon",
    "muon_rllc",
    "schedule_free_rllc_adam",
    "adam_averaged",
    "rllc_adam_averaged",
    "adam_lookahead",
    "rllc_adam_lookahead",
]
Model = Literal[
    "mlp",
    "cnn",
    "resnet20",
    "resnet20_layernorm",
    "vgg",
    "vgg_layernorm",
    "vit",
    "tiny10",
    "transformer",
]
Schedule = Literal["constant", "cosine", "warmup_stable_decay"]
Changing = Literal["labels", "inputs"]
Problem = Literal["quadratic", "rosenbrock"]
# Laws are learned, then frozen: methods are trained in this order.
DEFAULT_METHODS = (*get_args(Baseline), *get_args(Variant), *get_args(Frozen))
METHOD_NAMES = (*DEFAULT_METHODS, *get_args(Composition))
# Methods frozen at a law that another has learned.
LEARNED_FROM = {"rllc_frozen_learned": "rllc", "rllc_adam_frozen_learned": "rllc_adam"}


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Compare RLLC with the optimizers it competes with, and with itself frozen.

    Every method has the same number of trials; the best is run on fresh paired seeds.
    For instance: python -m benchmarks rllc --dataset fashion_mnist --steps 2000

    Args:
        model: "mlp", "cnn", "resnet20_layernorm", "vgg_layernorm", "vit" or with
            BatchNorm "resnet20", "vgg" or "tiny10" for images, "transformer" for text,
            or your own Linen or NNX module, package.module:Class.
        methods: the optimizers compared: names, or package.module:optimizer, a function
            of learning_rate that returns an Optax transformation. Parts of a name stand
            in the order in which they act: rllc_sign takes the signs of RLLC's steps.
        schedules: learning-rate schedules, of "constant", "cosine" (to zero) and
            "warmup_stable_decay" (linearly up for 5 % and to zero in the last 20 %).
        trials: hyper-parameters tried for each method and schedule.
        seeds: fresh seeds that the tuned methods are compared on.
        steps: optimizer steps of a run.
        batch_size: rows of a minibatch.
        changing: change the task during training: permute "labels", the classes, or
            "inputs", the entries of images and vectors, in the same way for all rows
            and runs. Training and validation losses are then means over the
            evaluations, each on the task of that time; test losses are of the last one.
        change_every: steps between two changes.
        evaluations: points of the learning curves.
        curve_rows: rows of each split that the curves are means over; final losses are
            means over all validation and test rows and the first `final_rows` of the
            training rows.
        final_rows: training rows that the final training loss is a mean over.
        problems: additional deterministic problems to compare on, of "quadratic" and
            "rosenbrock".
    """

    model: Model | str = "mlp"
    methods: tuple[Baseline | Variant | Frozen | Composition | str, ...] = (
        DEFAULT_METHODS
    )
    schedules: tuple[Schedule, ...] = ("constant", "cosine")
    trials: int = 16
    seeds: int = 10
    steps: int = 1200
    batch_size: int = 128
    changing: Changing | None = None
    change_every: int = 200
    evaluations: int = 24
    curve_rows: int = 2000
    final_rows: int = 10_000
    problems: tuple[Problem, ...] = ()

    quick: ClassVar[dict[str, Any]] = {
        "methods": ("momentum", "adam", "rllc", "rllc_adam", "rllc_frozen_initial"),
        "trials": 4,
        "seeds": 3,
        "steps": 200,
        "evaluations": 10,
    }

    def __post_init__(self):
        self.check(get_args(Model))
        for name in self.methods:
            if not is_import_path(name):
                besides = ", or package.module:optimizer"
                check_name("methods", name, METHOD_NAMES, besides)
        for option, known in (("schedules", Schedule), ("problems", Problem)):
            for name in getattr(self, option):
                check_name(option, name, get_args(known))
        for option in ("methods", "schedules"):
            given = getattr(self, option)
            if not given or len(set(given)) < len(given):
                raise ValueError(
                    f"{option}: expected at least one, each once, got {given}"
                )
        for name, source in LEARNED_FROM.items():
            if name in self.methods and source not in self.methods:
                raise ValueError(
                    f"methods: {name!r} freezes the law that {source!r} learns: "
                    f"expected {source!r} too"
                )
        counts = ("trials", "seeds", "steps", "batch_size", "change_every")
        check_counts(self, **dict.fromkeys(counts, 1))
        check_counts(self, evaluations=1, curve_rows=1, final_rows=1)
        if self.changing is not None:
            check_name("changing", self.changing, get_args(Changing))
        if self.evaluations > self.steps:
            raise ValueError(
                f"evaluations: expected at most steps={self.steps}, got "
                f"{self.evaluations}"
            )
