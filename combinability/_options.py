"""The options of an evaluation, checked at the door."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from combinability._checks import check_count
from combinability._distribution import Coefficients
from combinability._keys import check_key


class Options(NamedTuple):
    """The keyword arguments of `evaluate`."""

    key: Any
    samples: int
    batch: int | None
    devices: Sequence[Any] | None
    progress: Callable[[int, int], None] | None
    checkpoint: str | os.PathLike[str] | None


def checked(options: Options, distribution: Coefficients) -> Options:
    """The options with a typed key and all devices named.

    Raises:
        TypeError: if something is of the wrong kind.
        ValueError: if something is out of range.
    """
    if not isinstance(distribution, Coefficients):
        raise TypeError(
            "distribution: expected an object with a method `sample`, as uniform() "
            f"gives, got {distribution!r}"
        )
    check_count("samples", options.samples, 1)
    if options.batch is not None:
        check_count("batch", options.batch, 1)
    points = getattr(distribution, "points", None)
    if points not in (None, options.samples):
        raise ValueError(
            f"samples: expected {points}, as many as the line has points, got "
            f"{options.samples}"
        )
    devices = jax.local_devices() if options.devices is None else options.devices
    strangers = [d for d in devices if d not in jax.local_devices(backend=d.platform)]
    if not devices or strangers or len(set(devices)) < len(devices):
        raise ValueError(
            "devices: expected different devices of this process, as "
            f"jax.local_devices() names them, got {devices!r}"
        )
    return options._replace(key=check_key(options.key), devices=tuple(devices))
