"""What a comparison is asked."""

import dataclasses

from benchmarks._names import lookup
from benchmarks._precision import Dtype, Precision, check_precision
from benchmarks._ranges import check_counts
from benchmarks.baselines import BASELINES, Method
from benchmarks.networks import Plan
from benchmarks.rllc._variants import FROZEN, LEARNED_FROM, VARIANTS

METHODS: dict[str, Method] = {**BASELINES, **VARIANTS, **FROZEN}
SCHEDULES = ("constant", "cosine")
PROBLEMS = ("quadratic", "rosenbrock")


@dataclasses.dataclass(frozen=True)
class Config:
    """A comparison of optimizers on one task.

    Args:
      dataset: "digits" (embedded), or "mnist", "fashion_mnist", "cifar10", "cifar100"
        or "tiny_shakespeare" (found in the data folder, else downloaded).
      model: "mlp", "cnn", "resnet20" (BatchNorm), "resnet20_layernorm", "vgg"
        (BatchNorm), "vit" or "tiny10" (BatchNorm) for images, "transformer" for text.
      methods: The optimizers compared, of `METHODS`.
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
    model: str = "mlp"
    methods: tuple[str, ...] = tuple(METHODS)
    schedules: tuple[str, ...] = SCHEDULES
    trials: int = 16
    seeds: int = 10
    steps: int = 1200
    batch_size: int = 128
    evaluations: int = 24
    curve_rows: int = 2000
    final_rows: int = 10_000
    problems: tuple[str, ...] = ()
    precision: Precision = "default"
    dtype: Dtype = "float32"

    def __post_init__(self):
        check_precision(self.precision, self.dtype)
        _check_names("methods", self.methods, METHODS)
        _check_names("schedules", self.schedules, dict.fromkeys(SCHEDULES))
        _check_names("problems", self.problems, dict.fromkeys(PROBLEMS))
        if not self.methods or not self.schedules:
            raise ValueError(
                f"methods is {self.methods} and schedules {self.schedules}: expected at"
                " least one of each."
            )
        for name, source in LEARNED_FROM.items():
            if name in self.methods and source not in self.methods:
                raise ValueError(
                    f"methods has {name!r} without {source!r}, whose learned law it"
                    f" freezes: add {source!r}."
                )
        check_counts(self, trials=1, seeds=1)
        _ = self.plan  # refuses what no training can follow

    @property
    def plan(self) -> Plan:
        """How long a run is and when it is looked at."""
        return Plan(
            steps=self.steps,
            batch_size=self.batch_size,
            evaluations=self.evaluations,
            curve_rows=self.curve_rows,
            final_rows=self.final_rows,
        )

    @property
    def ordered_methods(self) -> tuple[Method, ...]:
        """The methods in the order of `METHODS`: laws are learned, then frozen."""
        return tuple(METHODS[name] for name in METHODS if name in self.methods)


def _check_names(what: str, names: tuple[str, ...], table: dict) -> None:
    for name in names:
        lookup(table, name, f"entry of {what}")
    if len(set(names)) < len(names):
        raise ValueError(f"{what} is {names}: a name is there twice. Name it once.")
