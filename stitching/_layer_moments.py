"""All layers of one network with all layers of another, in one pass over batches."""

import functools
import itertools
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
from stitching.similarity._samples import flattened, positions

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
        return _pair(x, y, self.cross[i][j])

    def matrix(self, index: Callable[[Moments], Any]) -> LayerMatrix:
        """Return an index of all pairs of layers.

        Args:
            index: from the moments of a pair to a number: an index of
                `stitching.similarity`, or the R² of a fit.
        """
        values = [[float(index(self.pair(i, j))) for j in self.b] for i in self.a]
        return LayerMatrix(np.array(values), list(self.a), list(self.b))


def _pair(x: Moments, y: Moments, xy: Array) -> Moments:
    return Moments(x.count, x.mean_x, y.mean_x, x.xx, xy, y.xx)


def layer_moments(
    module_a: nn.Module | nnx.Module,
    variables_a: PyTree,
    module_b: nn.Module | nnx.Module,
    variables_b: PyTree,
    batches: Iterable[PyTree],
    *,
    layers: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    view: View = positions,
    method: Method = "__call__",
    **options: Any,
) -> LayerMoments:
    """Return the moments of all pairs of layers of two networks.

    Each batch runs through each network once. Memory holds one batch of activations and
    the moments: for layers of p and q channels, p² + p q + q² numbers per pair.

    Args:
        module_a, variables_a: a Linen or NNX module, as for `cut`, and its variables.
        module_b, variables_b: another, or the same.
        batches: inputs of both networks; a batch of several inputs is a tuple. The
            last one may be smaller.
        layers: paths of layers, as `cut_points` lists them; all that return one array
            by default. The later calls of a layer that is called more than once are
            named `"path, call 1"`, and so on.
        layers_b: those of b, if they are others.
        view: from the output of a layer to (samples, features). By default every
            position is a sample; `similarity.flattened`, or a mean over positions,
            compares layers of different shapes.
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

    def see(xs, ys):
        samples = [{k: x.shape[:-1] for k, x in named.items()} for named in (xs, ys)]
        if len({shape for named in samples for shape in named.values()}) > 1:
            raise ValueError(
                f"view: expected one that gives all layers the same samples, got "
                f"{samples[0]} and {samples[1]}; for instance "
                "view=stitching.similarity.flattened, or a mean over positions"
            )
        a, b = ([moments(each) for each in named.values()] for named in (xs, ys))
        return a, b, [[moments(x, y).xy for y in ys.values()] for x in xs.values()]

    @jax.jit
    def add(seen, more):
        (a, b, cross), (c, d, others) = seen, more
        cross = [
            [
                merge(_pair(x, y, cross[i][j]), _pair(c[i], d[j], others[i][j])).xy
                for j, y in enumerate(b)
            ]
            for i, x in enumerate(a)
        ]
        return list(map(merge, a, c)), list(map(merge, b, d)), cross

    networks = (module_a, variables_a), (module_b, variables_b)
    names, (a, b, cross) = _over_batches(
        see, add, networks, batches, (layers, layers_b), view, method, options
    )
    a, b = (dict(zip(*each, strict=True)) for each in zip(names, (a, b), strict=True))
    return LayerMoments(a, b, cross)


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

    It may be negative. Its bias falls as one over the number of *all* samples, as that
    of `cka(debiased=True)` of all samples at once does; its variance is larger.

    Args:
        module_a, variables_a, module_b, variables_b: as for `layer_moments`.
        batches: as for `layer_moments`, of at least 4 samples each, in random order.
        layers, layers_b, method, **options: as for `layer_moments`.
        view: from the output of a layer to (samples, features); every entry is a
            feature by default.

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

    def see(xs, ys):
        return unbiased_hsic(list(xs.values()), list(ys.values()))

    def add(seen, more):
        return jax.tree.map(jnp.add, seen, more)

    networks = (module_a, variables_a), (module_b, variables_b)
    names, sums = _over_batches(
        see, add, networks, batches, (layers, layers_b), view, method, options
    )
    cross, own_a, own_b = (np.asarray(each) for each in sums)
    with np.errstate(invalid="ignore"):
        values = cross / (np.sqrt(own_a)[:, None] * np.sqrt(own_b))
    return LayerMatrix(values, *names)


def _over_batches(
    see: Callable[..., Any],
    add: Callable[[Any, Any], Any],
    networks: Any,
    batches: Iterable[PyTree],
    layers: tuple[Sequence[str] | None, Sequence[str] | None],
    view: View,
    method: Method,
    options: dict[str, Any],
) -> tuple[list[list[str]], Any]:
    """Names of both networks' layers, and what all batches add up to.

    Args:
        see: from the outputs of both networks' layers, by name, for a batch to a tree.
        add: from two of these trees to their sum.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("batches: expected at least 1 batch, got none")
    paths = layers[0], layers[0] if layers[1] is None else layers[1]
    found = [
        layer_outputs(module, variables, first, path, method, options)
        for (module, variables), path in zip(networks, paths, strict=True)
    ]
    plain = [each.plain(v) for each, (_, v) in zip(found, networks, strict=True)]

    @jax.jit
    def seen_in(variables, batch):
        outputs = [each.run(v, batch) for each, v in zip(found, variables, strict=True)]
        named = zip(found, outputs, strict=True)
        return see(*[dict(zip(f.names, map(view, o), strict=True)) for f, o in named])

    seen = (seen_in(plain, batch) for batch in itertools.chain([first], batches))
    return [each.names for each in found], functools.reduce(add, seen)
