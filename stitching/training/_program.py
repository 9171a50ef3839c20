"""One training step of a stitching layer, and the loops it is compiled into."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from stitching.training._stitched import Stitched

# What a user gives: an optimizer, or a function to one from hyper-parameters.
Optimizer = optax.GradientTransformation | Callable[[Any], optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class Program:
    """What is static in a step; equal programs share compilations."""

    stitched: Stitched
    optimizer: Optimizer

    def made(self, hyperparameters: PyTree) -> optax.GradientTransformationExtraArgs:
        """The optimizer of a stitch."""
        optimizer: Any = self.optimizer
        if not is_optimizer(optimizer):
            optimizer = optimizer(hyperparameters)
        return optax.with_extra_args_support(optimizer)


def is_optimizer(given: Any) -> bool:
    """Whether this is an optimizer of optax, `optax.MultiSteps` included."""
    return hasattr(given, "init") and hasattr(given, "update")


class Data(NamedTuple):
    """What a stitch does not change while it trains.

    Attributes:
        fixed: the layer's collections other than "params".
        variables_1: of network 1; None where its activations are kept.
        variables_2: of network 2.
        activation: what network 1 gives for all samples, or None.
        x: all samples; None where no step needs them.
        target: of all samples.
        hyperparameters: of the optimizer.
    """

    fixed: PyTree
    variables_1: PyTree
    variables_2: PyTree
    activation: PyTree[Float[Array, "n ..."]]
    x: PyTree[Array]
    target: Any
    hyperparameters: PyTree


class Run(NamedTuple):
    """What a stitch carries from step to step.

    Attributes:
        params: of the layer.
        opt_state: of the optimizer.
        losses: of each step; zeros where it is yet to come, and at the end: its length
            is a power of two, so that few programs serve all numbers of steps.
    """

    params: PyTree
    opt_state: PyTree
    losses: Float[Array, " room"]


def start(program: Program, params: PyTree, data: Data, steps: int) -> Run:
    """A run before its first step, in buffers of its own, which may be given away."""
    opt_state = program.made(data.hyperparameters).init(params)
    run = Run(params, opt_state, jnp.zeros(1 << (steps - 1).bit_length()))
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), run)


def loss(program: Program, params: PyTree, data: Data) -> Float[Array, ""]:
    """The loss of a minibatch; its data are those of the minibatch alone."""
    stitched = program.stitched
    activation = data.activation
    if activation is None:
        activation = stitched.cut_1.front(data.variables_1, data.x)
    mapped = stitched.layer.apply({**data.fixed, "params": params}, activation)
    logits = stitched.back(data.variables_2, mapped, data.x)
    return data.target.loss(logits, mapped)


def step(
    program: Program, run: Run, data: Data, rows: Int[Array, " batch"], index: Any
) -> Run:
    """Takes the step of a number, on some rows of the data.

    Only the parameters are differentiated by, so nothing is computed for gradients of
    network 2 but what leads back to its activation.
    """
    batch = data._replace(
        activation=_taken(data.activation, rows),
        x=_taken(data.x, rows),
        target=_taken(data.target, rows),
    )
    value_fn = functools.partial(loss, program, data=batch)
    value, grads = jax.value_and_grad(value_fn)(run.params)
    updates, opt_state = program.made(data.hyperparameters).update(
        grads, run.opt_state, run.params, value=value, grad=grads, value_fn=value_fn
    )
    params = optax.apply_updates(run.params, updates)
    losses = run.losses.at[index].set(value.astype(run.losses.dtype))
    return Run(params, opt_state, losses)


def _taken(tree: PyTree, rows: Int[Array, " batch"]) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), tree)


@functools.partial(jax.jit, static_argnums=(0, 3))
def mapped(program, params, fixed, stacked):
    """The map that the layer, or each of a stack of them, is."""

    def one(params, fixed):
        return program.stitched.layer.fit({**fixed, "params": params})

    return jax.vmap(one)(params, fixed) if stacked else one(params, fixed)


# In all of these, rows has the minibatches of some steps, the first of which is number
# `first` of the run; `begin` and `end` (exclusive) count among them. Bounds are traced:
# one compilation serves segments of every length.


def looped(program, run, data, rows, first, begin, end):
    """Takes steps from Python."""
    for index in range(begin, end):
        run = _one(program, run, data, rows, first, index)
    return run


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _one(program, run, data, rows, first, index):
    return step(program, run, data, rows[index], first + index)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def scanned(program, run, data, rows, first, begin, end):
    """Takes steps in a compiled loop."""

    def body(index, run):
        return step(program, run, data, rows[index], first + index)

    return jax.lax.fori_loop(begin, end, body, run)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def vmapped(program, axes, runs, data, rows, first, begin, end):
    """Takes steps of several runs side by side in a compiled loop.

    Args:
        program: of all of them.
        axes: for each field of the data and for the rows, 0 where each run has its own
            and None where they share.
        runs: with a leading axis, as the data and rows where axes say so.
        data, rows, first, begin, end: as above.
    """
    *data_axes, rows_axis = axes

    def one(run, data, rows, index):
        return step(program, run, data, rows[index], first + index)

    every = jax.vmap(one, in_axes=(0, Data(*data_axes), rows_axis, None))

    def body(index, runs):
        return every(runs, data, rows, index)

    return jax.lax.fori_loop(begin, end, body, runs)
