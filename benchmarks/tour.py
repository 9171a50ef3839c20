"""The tour: optimizers compared on embedded data; two networks combined and stitched.

Protocol, fixed before any result was looked at. Task: the embedded digits, where each
minibatch is rotated, shifted and made noisy anew, so that no input is seen twice and
optimization is what limits the loss; losses are measured on clean rows that training
did not see. Rates are constant, as where the end of training is not known. Every method
has the same number of trials, selected by validation loss, then fresh paired seeds;
both RLLC variants come with their laws frozen, at the initial and at the learned
coefficients, whose rates are tuned in the same way.
"""

import functools
import os

import jax
import jax.numpy as jnp

from benchmarks import combinability, data, models, rllc, stitching
from benchmarks.combinability._result import Preview as Combined
from benchmarks.networks import make_task
from benchmarks.rllc._experiment import STAGES, compare
from benchmarks.rllc._result import Result as Comparison
from benchmarks.runs import Progress, Run
from benchmarks.stitching._result import Preview as Stitched

# As many seeds as trials: both then run in one compiled program.
CONFIG = rllc.Config(
    methods=(
        "momentum",
        "adam",
        "rllc",
        "rllc_adam",
        "rllc_frozen_initial",
        "rllc_adam_frozen_initial",
        "rllc_frozen_learned",
        "rllc_adam_frozen_learned",
    ),
    schedules=("constant",),
    trials=6,
    seeds=6,
    steps=600,
    batch_size=64,
    evaluations=15,
)


class Result(Comparison):
    """A comparison of optimizers, and two networks combined and stitched."""

    combinability: Combined
    stitching: Stitched


_DEGREES, _PIXELS, _NOISE = 15.0, 1.0, 0.3


def augment(key: jax.Array, images: jax.Array) -> jax.Array:
    """Rotate and shift each image at random, with bilinear interpolation; add noise.

    Args:
        key: of the draws: angles up to 15°, shifts up to one pixel along each axis,
            normal noise of deviation 0.3 (pixels have 1).
        images: (n, height, width, 1).
    """
    count, height, width, _ = images.shape
    angles, shifts, noise = jax.random.split(key, 3)
    angle = jnp.deg2rad(
        jax.random.uniform(angles, (count,), minval=-_DEGREES, maxval=_DEGREES)
    )
    shift = jax.random.uniform(shifts, (count, 2), minval=-_PIXELS, maxval=_PIXELS)
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    y, x = y - (height - 1) / 2, x - (width - 1) / 2

    def moved(image: jax.Array, angle: jax.Array, shift: jax.Array) -> jax.Array:
        rows = jnp.cos(angle) * y - jnp.sin(angle) * x + shift[0] + (height - 1) / 2
        columns = jnp.sin(angle) * y + jnp.cos(angle) * x + shift[1] + (width - 1) / 2
        return jax.scipy.ndimage.map_coordinates(
            image[..., 0], [rows, columns], order=1, mode="nearest"
        )[..., None]

    found = jax.vmap(moved)(images, angle, shift)
    return found + _NOISE * jax.random.normal(noise, found.shape)


def run(
    config: rllc.Config = CONFIG,
    *,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Train small networks on digits, with RLLC and others; combine and stitch two.

    Args:
        config: the comparison.
        folder: the run folder.
        progress: informed of stages.
    """
    here = Run("tour", config, folder, progress)
    here.expect(STAGES * len(config.methods) + 2)
    dataset = data.load(config.dataset)
    task = make_task(dataset, models.build(config.model, dataset))
    found = compare(config, here, task, augment=augment)
    # Trained in seconds, always to the same networks: not kept.
    pair = functools.cache(lambda: combinability.train_pair(dataset))
    combined = here.stage(
        "combine", lambda: combinability.preview(pair(), here.advance)
    )
    stitched = here.stage("stitch", lambda: stitching.preview(pair(), here.advance))
    return here.finish(Result, **found, combinability=combined, stitching=stitched)
