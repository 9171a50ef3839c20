"""Your own dataset, from a NumPy archive."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.data._dataset import DataError, Dataset, Split, hold_out

_NAMES = ("x_train", "y_train", "x_test", "y_test")
# Of all rows where there is no split, then of the training rows.
_TEST, _VALIDATION = 0.15, 0.15


def read_own(path: Path) -> Dataset:
    """Read a dataset from a `.npz` file.

    It holds `x_train`, `y_train`, `x_test` and `y_test`, or `x` and `y`, of which 15 %
    are then held out for testing. Of the training rows, 15 % are held out for
    validation. `x` is one of

    - images (n, height, width) or (n, height, width, channels); integers are divided by
      255 and standardised per channel, real numbers are taken as they are;
    - vectors (n, features) of real numbers;
    - token ids (n, length), integers;

    and `y` holds integers from 0: a class (n,), or a token for each position (n,
    length).
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except Exception as error:  # of damaged bytes, NumPy raises many kinds
        raise DataError(f"'{path}' is not a NumPy archive ({error})") from error
    if {"x", "y"} <= arrays.keys():
        x, y = _checked(path, arrays, "x", "y")
        kept, held_out = hold_out(len(x), max(1, round(_TEST * len(x))))
        train, test = (x[kept], y[kept]), (x[held_out], y[held_out])
    elif set(_NAMES) <= arrays.keys():
        train = _checked(path, arrays, "x_train", "y_train")
        test = _checked(path, arrays, "x_test", "y_test")
        if train[0].shape[1:] != test[0].shape[1:]:
            raise DataError(
                f"'{path}': expected x_train and x_test of the same shape but for the "
                f"first axis, got {train[0].shape} and {test[0].shape}"
            )
        integers = [x.dtype.kind in "ui" for x, _ in (train, test)]
        if integers[0] != integers[1]:
            raise DataError(
                f"'{path}': expected integers in both x_train and x_test, or real "
                f"numbers in both, got {train[0].dtype} and {test[0].dtype}"
            )
        if train[1].ndim != test[1].ndim:
            raise DataError(
                f"'{path}': expected y_train and y_test with as many axes, got shapes "
                f"{train[1].shape} and {test[1].shape}"
            )
    else:
        raise DataError(
            f"'{path}': expected the arrays {', '.join(_NAMES)}, or x and y, got "
            f"{', '.join(arrays) or 'none'}"
        )
    kind, inputs = _inputs(train[0], test[0])
    labels = [y.astype(np.int32) for _, y in (train, test)]
    counted = labels
    if kind == "tokens" and labels[0].ndim == 2:
        kind, counted = "text", [*labels, *inputs]
    rows = len(inputs[0])
    kept, held_out = hold_out(rows, max(1, round(_VALIDATION * rows)))
    return Dataset(
        name=path.stem,
        train=Split(inputs[0][kept], labels[0][kept]),
        validation=Split(inputs[0][held_out], labels[0][held_out]),
        test=Split(inputs[1], labels[1]),
        classes=1 + max(int(x.max()) for x in counted),
        kind=kind,
    )


def _checked(path: Path, arrays: dict[str, Any], x_name: str, y_name: str) -> Any:
    x, y = arrays[x_name], arrays[y_name]
    wrong = None
    tokens = x.ndim == 2 and x.dtype.kind in "ui"
    if len(x.shape) not in (2, 3, 4) or x.dtype.kind not in "uif":
        wrong = f"{x_name}: expected real numbers with 2 to 4 axes"
    elif y.dtype.kind not in "ui" or y.shape not in ((len(x),), x.shape[: 1 + tokens]):
        wrong = f"{y_name}: expected integers, one for each of the {len(x)} rows"
        wrong += " or each token" * tokens
    elif len(x) < 3:
        wrong = f"{x_name}: expected at least 3 rows"
    else:
        wrong = _wrong_values(x_name, x, tokens) or _wrong_values(y_name, y, True)
    if wrong:
        raise DataError(
            f"'{path}': {wrong}, got {x_name} of shape {x.shape} and dtype {x.dtype}, "
            f"{y_name} of shape {y.shape} and dtype {y.dtype}"
        )
    return x, y


def _wrong_values(name: str, values: np.ndarray, counted: bool) -> str | None:
    """What is wrong with an array, if not all of it can be used, with its first row."""
    if counted:
        what, valid = "integers from 0 to 2³¹ − 1", (values >= 0) & (values < 2**31)
    else:
        what = "finite float32 values"
        valid = np.abs(values) <= np.finfo(np.float32).max
    if valid.all():
        return None
    place = tuple(np.argwhere(~valid)[0])
    return f"{name}: expected {what}, got {values[place]} in row {place[0]}"


def _inputs(
    train: np.ndarray, test: np.ndarray
) -> tuple[Literal["image", "vector", "text", "tokens"], list[np.ndarray]]:
    integers = train.dtype.kind in "ui"
    if train.ndim == 2:
        kind, dtype = ("tokens", np.int32) if integers else ("vector", np.float32)
        return kind, [x.astype(dtype) for x in (train, test)]
    parts = [x[..., np.newaxis] if x.ndim == 3 else x for x in (train, test)]
    images = [x.astype(np.float32) for x in parts]
    if integers:
        images = [x / 255 for x in images]
        mean = images[0].mean(axis=(0, 1, 2))
        deviation = np.maximum(images[0].std(axis=(0, 1, 2)), 1e-6)
        images = [(x - mean) / deviation for x in images]
    return "image", images
