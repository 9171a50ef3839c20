"""Options that experiments share, and what options name."""

import dataclasses
import difflib
import importlib
import math
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, get_args

# Folders of files that are not a user's own.
_LIBRARIES = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    os.path.dirname(__file__),
    "<",
)
LARGEST = 2**31 - 1  # counters and seeds have 32 bits on a device
Precision = Literal["default", "high", "highest"]
Dtype = Literal["float32", "bfloat16"]
Published = Literal[
    "digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "tiny_shakespeare"
]


def check_name(option: str, name: str, known: Iterable[str], besides: str = "") -> None:
    """Raise, with the nearest name, if a name is not known."""
    known = list(known)
    if name in known:
        return
    nearest = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    names = ", ".join(known) + besides
    raise ValueError(f"{option}: expected one of {names}, got {name!r}{hint}")


def check_counts(options: Any, **least: int) -> None:
    """Raise if a count is too small, or larger than a counter can hold."""
    for name, minimum in least.items():
        value = getattr(options, name)
        counts = value if isinstance(value, tuple) else (value,)
        if not counts:
            raise ValueError(f"{name}: expected one or more integers, got none")
        if min(counts) < minimum:
            raise ValueError(f"{name}: expected at least {minimum}, got {value}")
        if max(counts) > LARGEST:
            raise ValueError(f"{name}: expected at most {LARGEST}, got {value}")


def check_positive(options: Any, *names: str) -> None:
    """Raise if a number is not positive and finite."""
    for name in names:
        value = getattr(options, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive, finite number, got {value}")


def is_import_path(name: str) -> bool:
    """Whether a name is of the form `package.module:name`."""
    return ":" in name


def import_object(option: str, path: str) -> Any:
    """Return what an import path names; modules are also found from here."""
    module, _, name = path.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except Exception as error:  # your code may raise anything
        said = f"{module!r} cannot be imported: {described(error)}"
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if f"{module}.".startswith(f"{missing}."):
            said = f"there is no module {missing!r} for {path!r}, neither "
            said += "installed nor in the current folder"
        raise ValueError(f"{option}: {said}") from error
    if not hasattr(found, name):
        raise ValueError(f"{option}: {module!r} has no {name!r}")
    return getattr(found, name)


def described(error: Exception) -> str:
    """What was raised, in a line, with the last place in your own code."""
    frames = traceback.extract_tb(error.__traceback__)
    yours = [each for each in frames if not each.filename.startswith(_LIBRARIES)]
    place = f" ({yours[-1].filename}, line {yours[-1].lineno})" if yours else ""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}{place}"


@dataclasses.dataclass(frozen=True)
class Options:
    """Options common to all experiments.

    Args:
        dataset: "digits" (embedded), or "mnist", "fashion_mnist", "cifar10", "cifar100"
            or "tiny_shakespeare" (found in the data folder, else downloaded), or your
            own .npz file.
        model_options: arguments of your own module, as JSON: '{"features": 64}'.
        precision: of float32 products of networks on accelerators: "default" (GPUs:
            TF32, TPUs: bfloat16), "high" or "highest". CPUs compute in float32 whatever
            is asked.
        dtype: what all layers of a network but the last compute in: "float32" or
            "bfloat16". Parameters, losses, optimizers, moments and maps are float32.
    """

    dataset: Published | str = "digits"
    model: str = "mlp"
    model_options: str = "{}"
    precision: Precision = "default"
    dtype: Dtype = "float32"

    # What `--quick` has in place of the defaults: of all models, and of some where an
    # option is None.
    quick: ClassVar[dict[str, Any]] = {}
    quick_by_model: ClassVar[dict[str, dict[str, Any]]] = {}

    def check(self, models: Iterable[str]) -> None:
        """Raise if a name is not known; `models` are the known models."""
        check_name("precision", self.precision, get_args(Precision))
        check_name("dtype", self.dtype, get_args(Dtype))
        if not is_import_path(self.model):
            check_name("model", self.model, models, ", or package.module:Class")


@dataclasses.dataclass(frozen=True)
class NetworkOptions(Options):
    """Options of experiments on trained networks.

    Args:
        weights: trained networks of one width: files of published ones (.npz or
            .safetensors), or one that an earlier run has written (networks/*.npz in its
            folder). They are looked for from here, then in the data folder. By default,
            networks are trained.
        weights_mapping: import path of a function that reads your own files of weights:
            it takes a path and returns nested dicts of arrays.
        networks: how many networks are trained.
        seed: seed of every random draw.
    """

    weights: tuple[str, ...] = ()
    weights_mapping: str | None = None
    networks: int = 4
    seed: int = 0

    def check(self, models: Iterable[str]) -> None:
        """Raise if a name is not known or a number is out of range."""
        super().check(models)
        check_counts(self, networks=2, seed=0)
