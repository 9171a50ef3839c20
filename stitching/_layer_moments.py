"""All layers of one network with all layers of another, in one pass over batches."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from jaxtyping import Array, Float, PyTree

from stitching._moments import Moments, merge, moments
from stitching.cutting import layer_outputs
from stitching.cutting._network import Method
from stitching.similarity._cka import unbiased_hsic
from stitching.similarity._samples import flattened

View = Callable[[Array], Array]


class LayerMatrix(NamedTuple):
    """A number for every pair of layers.

    Attributes:
        values: one row per layer of network a, one column per layer of network b.
        layers_a: names of the rows.
        layers_b: names of the columns.
    """

    values: Float[np.ndarray, "l m"]
    layers_a: Sequence[str]
    layers_b: Sequence[str]


class LayerMoments(NamedTuple):
    """Moments of every layer of network a with every layer of network b.

    Attributes:
        a: for each layer of a, its name and its own moments.
        b: for each layer of b, its name and its own moments.
        cross: covariances, `cross[i][j]` of layer i of a with layer j of b.
    """

    a: dict[str, Moments]
    b: dict[str, Moments]
    cross: Sequence[Sequence[Float[Array, "p q"]]]

    def pair(self, layer_a: str, layer_b: str) -> Moments:
        """Return the moments of one layer of a with one of b.

        Raises:
            KeyError: for an unknown layer.
        """
        x, y = self.a[layer_a], self.b[layer_b]
        i, j = list(self.a).index(layer_a), list(self.b).index(layer_b)
        return Moments(x.count, x.mean_x, y.mean_x, x.xx, self.cross[i][j], y.xx)

    def matrix(self, index: Callable[[Moments], Any]) -> LayerMatrix:
        """Return an index of all pairs of layers.

        Args:
            index: from the moments of a pair to a number: an index of
                `stitching.similarity`, or the R² of a fit.
        """
        values = [[float(index(self.pair(i, j))) for j in self.b] for i in self.a]
        return LayerMatrix(np.array(values), list(self.a), list(self.b))


def layer_moments(
    module_a: nn.Module | nnx.Module,
    variables_a: PyTree,
    module_b: nn.Module | nnx.Module,
    variables_b: PyTree,
    batches: Iterable[PyTree],
    *,
    layers: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    view: View | None = None,
    method: Method = "__call__",
    **options: Any,
) -> LayerMoments:
    """Return the moments of all pairs of layers of two networks.

    Each batch runs through each network once. Memory holds one batch of activations and
    the moments: for layers of p and q channels, p² + p q + q² numbers per pair.

    Args:
        module_a: a Linen or NNX module, as for `cut`.
        variables_a: of it.
        module_b: another, or the same.
        variables_b: of it.
        batches: inputs of both networks; a batch of several inputs is a tuple. The
            last one may be smaller.
        layers: paths of layers, as `cut_points` lists them; all that return one array
            by default. The later calls of a layer that is called more than once are
            named `"path, call 1"`, and so on.
        layers_b: those of b, if they are others.
        view: from the output of a layer to (..., features), to compare layers of
            different shapes: `similarity.flattened`, or a mean over positions. By
            default every position is a sample and every channel a feature.
        method: the method of both modules that is called, as for `cut`.
        **options: keyword arguments of that, for instance `train=False`.

    Returns:
        The `LayerMoments`; `.matrix(similarity.cka)` is the layer × layer matrix.

    Raises:
        TypeError: if a module is no module of Flax.
        ValueError: for unknown layers, no batch, or layers whose samples differ.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, stitching
        >>> module = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
        >>> x = jax.random.normal(jax.random.key(0), (3, 50, 4))
        >>> a, b = (module.init(jax.random.key(seed), x[0]) for seed in (1, 2))
        >>> found = stitching.layer_moments(module, a, module, b, x)
        >>> matrix = found.matrix(stitching.similarity.cka)
        >>> matrix.values.shape, matrix.layers_a
        ((2, 2), ['layers_0', 'layers_2'])
    """

    def alone(outputs):
        return [moments(view(output) if view else output) for output in outputs]

    @jax.jit
    def see(variables_a, variables_b, batch):
        xs, ys = first.run(variables_a, batch), second.run(variables_b, batch)
        shapes = {
            name: jax.eval_shape(view, output).shape[:-1] if view else output.shape[:-1]
            for names, outputs in ((first.names, xs), (second.names, ys))
            for name, output in zip(names, outputs, strict=True)
        }
        if len(set(shapes.values())) > 1:
            raise ValueError(
                f"view: expected one that gives all layers the same samples, got "
                f"{shapes}; for instance view=stitching.similarity.flattened, or a "
                "mean over positions"
            )
        x, y = ([view(o) if view else o for o in outputs] for outputs in (xs, ys))
        cross = [[moments(each, other).xy for other in y] for each in x]
        return alone(xs), alone(ys), cross

    @jax.jit
    def add(seen, more):
        (a, b, cross), (more_a, more_b, more_cross) = seen, more
        count = a[0].count + more_a[0].count
        share = more_a[0].count / count
        shift_a = [m.mean_x - each.mean_x for each, m in zip(a, more_a, strict=True)]
        shift_b = [m.mean_x - each.mean_x for each, m in zip(b, more_b, strict=True)]
        for i, x in enumerate(shift_a):
            for j, y in enumerate(shift_b):
                between = share * (1 - share) * jnp.outer(x, y)
                old, new = cross[i][j], more_cross[i][j]
                cross[i][j] = (1 - share) * old + share * new + between
        a = [merge(each, m) for each, m in zip(a, more_a, strict=True)]
        b = [merge(each, m) for each, m in zip(b, more_b, strict=True)]
        return a, b, cross

    seen = None
    for batch in batches:
        if seen is None:
            given = module_a, variables_a, batch, layers, method, options
            first = layer_outputs(*given)
            chosen = layers if layers_b is None else layers_b
            second = layer_outputs(
                module_b, variables_b, batch, chosen, method, options
            )
        more = see(first.plain(variables_a), second.plain(variables_b), batch)
        seen = more if seen is None else add(seen, more)
    if seen is None:
        raise ValueError("batches: expected at least 1 batch, got none")
    a, b, cross = seen
    return LayerMoments(
        dict(zip(first.names, a, strict=True)),
        dict(zip(second.names, b, strict=True)),
        cross,
    )


def layer_cka(
    module_a: nn.Module | nnx.Module,
    variables_a: PyTree,
    module_b: nn.Module | nnx.Module,
    variables_b: PyTree,
    batches: Iterable[PyTree],
    *,
    layers: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    view: View = flattened,
    method: Method = "__call__",
    **options: Any,
) -> LayerMatrix:
    r"""Return the minibatch CKA of all pairs of layers of two networks.

    .. math::

        \frac{\sum_b \mathrm{HSIC}_1(K_b, L_b)}
             {\sqrt{\sum_b \mathrm{HSIC}_1(K_b, K_b) \sum_b \mathrm{HSIC}_1(L_b, L_b)}}

    with the unbiased estimate HSIC₁ of each batch, weighted by its size. For layers of
    many features: memory grows with the square of a batch, not of their number.

    All three sums are unbiased whatever the batch size; their ratio is not. Its bias
    falls as one over the number of *all* samples, as that of `cka(debiased=True)` of
    all samples at once does, and its variance is larger than there. It may be negative.

    Args:
        module_a: a Linen or NNX module, as for `cut`.
        variables_a: of it.
        module_b: another, or the same.
        variables_b: of it.
        batches: inputs of both networks, at least 4 samples each, in random order.
        layers: paths of layers, as for `layer_moments`.
        layers_b: those of b, if they are others.
        view: from the output of a layer to (samples, features); every entry is a
            feature by default.
        method: the method of both modules that is called, as for `cut`.
        **options: keyword arguments of that, for instance `train=False`.

    Returns:
        A matrix; NaN where an estimate of HSIC(K, K) is not positive.

    Raises:
        TypeError: if a module is no module of Flax.
        ValueError: for unknown layers, no batch, or a batch of fewer than 4 samples.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, stitching
        >>> module = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
        >>> x = jax.random.normal(jax.random.key(0), (3, 50, 4))
        >>> a = module.init(jax.random.key(1), x[0])
        >>> stitching.layer_cka(module, a, module, a, x).values.diagonal().round(3)
        array([1., 1.], dtype=float32)

    References:
        Nguyen, Raghu and Kornblith, 2021, arXiv 2010.15327, section 3.
    """

    @jax.jit
    def see(variables_a, variables_b, batch):
        x, y = (
            [view(output) for output in outputs.run(variables, batch)]
            for outputs, variables in ((first, variables_a), (second, variables_b))
        )
        return unbiased_hsic(x, y)

    seen = None
    for batch in batches:
        if seen is None:
            first = layer_outputs(module_a, variables_a, batch, layers, method, options)
            chosen = layers if layers_b is None else layers_b
            second = layer_outputs(
                module_b, variables_b, batch, chosen, method, options
            )
        more = see(first.plain(variables_a), second.plain(variables_b), batch)
        seen = more if seen is None else jax.tree.map(jnp.add, seen, more)
    if seen is None:
        raise ValueError("batches: expected at least 1 batch, got none")
    cross, own_a, own_b = (np.asarray(each) for each in seen)
    with np.errstate(invalid="ignore"):
        values = cross / (np.sqrt(own_a)[:, None] * np.sqrt(own_b))
    return LayerMatrix(values, first.names, second.names)
