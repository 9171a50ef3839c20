"""One training step of a stitching layer, and the loops that repeat it."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from stitching._jaxpr import contains
from stitching.training._stitched import Stitched


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Shapes:
    """What steps need of samples of which only the shapes matter.

    Attributes:
        structure: of the tree of samples.
        arrays: shape and dtype of the arrays of one sample.
    """

    structure: Any
    arrays: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, x: PyTree) -> "Shapes":
        """Of samples along the leading axis."""
        one = jax.eval_shape(lambda x: jax.tree.map(lambda leaf: leaf[0], x), x)
        leaves, structure = jax.tree.flatten(one)
        return cls(structure, tuple(leaves))

    def zeros(self, samples: int) -> PyTree[Array]:
        """As many samples, which nothing reads."""
        leaves = [jnp.zeros((samples, *a.shape), a.dtype) for a in self.arrays]
        return jax.tree.unflatten(self.structure, leaves)


class Data(NamedTuple):
    """What a stitch does not change while it trains.

    Attributes:
        fixed: the layer's collections other than "params".
        variables_1: of network 1; None where its activations are kept.
        variables_2: of network 2.
        activation: network 1's, of all samples; None where it is not kept.
        x: all samples, or their `Shapes` where no step needs more.
        target: of all samples.
        hyperparameters: of the optimizer.
        order: the rows of the minibatches of all steps.
    """

    fixed: PyTree
    variables_1: PyTree
    variables_2: PyTree
    activation: PyTree[Float[Array, "n ..."]]
    x: PyTree[Array] | Shapes
    target: Any
    hyperparameters: PyTree
    order: Int[Array, "room batch"]


class Run(NamedTuple):
    """What a stitch carries from step to step; losses to come are 0."""

    params: PyTree
    opt_state: PyTree
    losses: Float[Array, " room"]


class Program(NamedTuple):
    """What is static in a step; equal programs share compilations.

    Attributes:
        stitched: the network.
        optimizer: of optax, or a function to one from hyper-parameters.
        axes: for stitches that are trained side by side, 0 for each field of the data
            in which they differ and None for what they share; None for one stitch.
    """

    stitched: Stitched
    optimizer: Any
    axes: Data | None = None

    def made(self, hyperparameters: PyTree) -> optax.GradientTransformationExtraArgs:
        """The optimizer of one stitch."""
        optimizer = self.optimizer
        if not is_optimizer(optimizer):
            optimizer = optimizer(hyperparameters)
        return optax.with_extra_args_support(optimizer)

    def side_by_side(self, function: Any, *in_axes: Any) -> Any:
        """A function of one stitch, or of all that are trained side by side."""
        return function if self.axes is None else jax.vmap(function, in_axes)


def is_optimizer(given: Any) -> bool:
    """Return whether this is an optimizer of optax, `optax.MultiSteps` included."""
    return hasattr(given, "init") and hasattr(given, "update")


@functools.partial(jax.jit, static_argnums=0)
def start(program: Program, params: PyTree, data: Data) -> Run:
    """Return a run before its first step, in new arrays, which may be donated."""

    def one(params, data):
        opt_state = program.made(data.hyperparameters).init(params)
        return Run(params, opt_state, jnp.zeros(len(data.order)))

    run = program.side_by_side(one, 0, program.axes)(params, data)
    return jax.tree.map(jnp.copy, run)


def step(program: Program, run: Run, data: Data, index: Any) -> Run:
    """Take the step of a number.

    Only the layer's parameters are differentiated, so of network 2's gradients nothing
    is computed but what leads back to the mapped activation.
    """
    rows = data.order[index]
    activation, x, target = (
        jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), tree)
        for tree in (data.activation, data.x, data.target)
    )
    stitched = program.stitched
    if isinstance(x, Shapes):
        x = x.zeros(len(rows))
    if activation is None:
        activation = stitched.cut_1.front(data.variables_1, x)

    def loss(params):
        mapped = stitched.layer.apply({**data.fixed, "params": params}, activation)
        return target.loss(stitched.back(data.variables_2, mapped, x), mapped)

    value, grads = jax.value_and_grad(loss)(run.params)
    updates, opt_state = program.made(data.hyperparameters).update(
        grads, run.opt_state, run.params, value=value, grad=grads, value_fn=loss
    )
    params = optax.apply_updates(run.params, updates)
    losses = run.losses.at[index].set(value.astype(run.losses.dtype))
    return Run(params, opt_state, losses)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _one_step(program, run, data, index):
    one = functools.partial(step, program)
    return program.side_by_side(one, 0, program.axes, None)(run, data, index)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _compiled_loop(program, run, data, begin, end):
    def body(index, run):
        return _one_step(program, run, data, index)

    return jax.lax.fori_loop(begin, end, body, run)


def take(
    program: Program, run: Run, data: Data, begin: int, end: int, in_python: bool
) -> Run:
    """Take the steps from `begin` to `end` (exclusive); the run is donated.

    The bounds of the compiled loop are traced: one program takes any number of steps.
    """
    if not in_python:
        return _compiled_loop(program, run, data, begin, end)
    for index in range(begin, end):
        run = _one_step(program, run, data, index)
    return run


def loops_in_python(program: Program, run: Run, data: Data) -> bool:
    """Return whether steps are taken one by one, from Python."""
    platform = next(iter(jax.tree.leaves(run)[0].devices())).platform
    return slow_in_loops(platform, _one_step.trace(program, run, data, 0).jaxpr)


def slow_in_loops(platform: str, jaxpr: Any) -> bool:
    """Return whether a step is slower in a compiled loop: one that convolves, on a CPU.

    There the gradient of a convolution is several times slower inside a compiled loop,
    and again where it is vmapped over weights.
    """
    return platform == "cpu" and contains(jaxpr, "conv_general_dilated")


@functools.partial(jax.jit, static_argnums=0)
def fits(program: Program, params: PyTree, fixed: PyTree) -> PyTree:
    """Return the map of the layer, or of each that is trained side by side."""

    def one(params, fixed):
        return program.stitched.layer.fit({**fixed, "params": params})

    return program.side_by_side(one, 0, 0)(params, fixed)


def minibatches(
    key: PRNGKeyArray, samples: int, batch_size: int, steps: int
) -> Int[Array, "room batch"]:
    """Return the rows of all minibatches, and zeros up to a power of two of them.

    An epoch is a random order of the samples that follows from the key and its number
    alone; samples that are left after its last whole minibatch are left out. Drawn by
    NumPy, as sorting takes as long as a small step.
    """
    each = samples // batch_size
    seed = np.asarray(jax.random.key_data(key)).tolist()
    rows = np.zeros((1 << (steps - 1).bit_length(), batch_size), np.int32)
    for epoch, first in enumerate(range(0, steps, each)):
        order = np.random.default_rng([*seed, epoch]).permutation(samples)
        last = min(first + each, steps)
        rows[first:last] = order[: (last - first) * batch_size].reshape(-1, batch_size)
    return jnp.asarray(rows)
