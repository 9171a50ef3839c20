"""What a comparison is asked."""

import dataclasses
from typing import Literal, get_args

from benchmarks._names import check_name, is_import_path
from benchmarks._precision import Dtype, Precision, check_precision
from benchmarks._ranges import check_counts

Baseline = Literal[
    "sgd",
    "momentum",
    "nesterov",
    "adam",
    "adamw",
    "nadam",
    "aggmo",
    "ademamix",
    "lion",
    "schedule_free",
    "prodigy",
    "muon",
]
Variant = Literal["rllc", "rllc_free", "rllc_adam"]
Frozen = Literal[
    "rllc_frozen_initial",
    "rllc_adam_frozen_initial",
    "rllc_frozen_learned",
    "rllc_adam_frozen_learned",
]
Model = Literal[
    "mlp",
    "cnn",
    "resnet20",
    "resnet20_layernorm",
    "vgg",
    "vit",
    "tiny10",
    "transformer",
]
Schedule = Literal["constant", "cosine"]
Problem = Literal["quadratic", "rosenbrock"]
# Laws are learned, then frozen: methods are trained in this order.
METHOD_NAMES = (*get_args(Baseline), *get_args(Variant), *get_args(Frozen))
# Methods frozen at a law that another has learned.
LEARNED_FROM = {
    "rllc_frozen_learned": "rllc",
    "rllc_adam_frozen_learned": "rllc_adam",
}
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


@dataclasses.dataclass(frozen=True)
class Config:
    """A comparison of optimizers on one task.

    Args:
      dataset: "digits" (embedded), or "mnist", "fashion_mnist", "cifar10", "cifar100"
        or "tiny_shakespeare" (found in the data folder, else downloaded), or your own
        .npz file.
      model: "mlp", "cnn", "resnet20" (BatchNorm), "resnet20_layernorm", "vgg"
        (BatchNorm), "vit" or "tiny10" (BatchNorm) for images, "transformer" for text,
        or your own Linen or NNX module, package.module:Class.
      model_options: Arguments of your own module, as JSON: '{"features": 64}'.
      methods: The optimizers compared: names, or package.module:optimizer, a function
        of learning_rate that returns an Optax transformation.
      schedules: Learning-rate schedules, of "constant" and "cosine" (to zero).
      trials: Hyper-parameters tried for each method and schedule.
      seeds: Fresh seeds that the tuned methods are compared on.
      steps: Optimizer steps of a run.
      batch_size: Rows of a minibatch.
      evaluations: Points of the learning curves.
      curve_rows: Rows of each split that the curves are means over; final losses are
        means over all validation and test rows and the first `final_rows` of the
        training rows.
      final_rows: Training rows that the final training loss is a mean over.
      problems: Deterministic problems to compare on besides, of "quadratic" and
        "rosenbrock".
      precision: Of float32 products on accelerators: "default" (GPUs: TF32, TPUs:
        bfloat16), "high" or "highest". CPUs compute in float32 whatever is asked.
      dtype: What all layers of a network but the last compute in: "float32" or
        "bfloat16". Parameters, losses and optimizers are float32.
    """

    dataset: str = "digits"
    model: Model | str = "mlp"
    model_options: str = "{}"
    methods: tuple[Baseline | Variant | Frozen | str, ...] = METHOD_NAMES
    schedules: tuple[Schedule, ...] = SCHEDULES
    trials: int = 16
    seeds: int = 10
    steps: int = 1200
    batch_size: int = 128
    evaluations: int = 24
    curve_rows: int = 2000
    final_rows: int = 10_000
    problems: tuple[Problem, ...] = ()
    precision: Precision = "default"
    dtype: Dtype = "float32"

    def __post_init__(self):
        check_precision(self.precision, self.dtype)
        for name, known in (
            ("methods", METHOD_NAMES),
            ("schedules", SCHEDULES),
            ("problems", get_args(Problem)),
        ):
            given = getattr(self, name)
            besides = ", or package.module:optimizer" if name == "methods" else ""
            for one in given:
                if not (besides and is_import_path(one)):
                    check_name(name, one, known, besides)
            if len(set(given)) < len(given):
                raise ValueError(f"{name}: expected each name once, got {given}")
            if not given and name != "problems":
                raise ValueError(f"{name}: expected at least one, got none")
        for name, source in LEARNED_FROM.items():
            if name in self.methods and source not in self.methods:
                raise ValueError(
                    f"methods: {name!r} freezes the law that {source!r} learns: "
                    f"expected {source!r} too"
                )
        counts = ("trials", "seeds", "steps", "batch_size", "evaluations")
        check_counts(self, **dict.fromkeys((*counts, "curve_rows", "final_rows"), 1))
        if self.evaluations > self.steps:
            raise ValueError(
                f"evaluations: expected at most steps={self.steps}, got "
                f"{self.evaluations}"
            )
