"""All layers of one network with all layers of another, in one pass over batches."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from jaxtyping import Array, Float, PyTree

from stitching._checks import finite, real
from stitching._compiled import Static
from stitching._moments import Moments, merge, moments
from stitching.cutting import layer_outputs
from stitching.cutting._network import Method, check_kind, described
from stitching.similarity._cka import unbiased_hsic
from stitching.similarity._samples import Undefined, flattened, positions

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

        Returns:
            A matrix; NaN where an index of `stitching.similarity` is not defined, as
            for a layer that is constant, and where only some layers of a network have
            finite moments, for the others, such as masked logits.
        """
        infinite_a, infinite_b = map(_infinite, (self.a, self.b))

        def value(layer_a: str, layer_b: str) -> float:
            if layer_a in infinite_a or layer_b in infinite_b:
                return np.nan
            try:
                return float(index(self.pair(layer_a, layer_b)))
            except Undefined:
                return np.nan

        values = [[value(i, j) for j in self.b] for i in self.a]
        return LayerMatrix(np.array(values), list(self.a), list(self.b))


def _infinite(layers: Mapping[str, Moments]) -> set[str]:
    """The layers whose moments are not finite, unless no layer has finite ones."""
    found = {name for name, seen in layers.items() if not all(finite(*seen))}
    return found if len(found) < len(layers) else set()


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
    the moments: p² numbers for a layer of p channels, and p q for a pair of layers.

    Equal calls compile once: with the same or equal modules (NNX modules of the same
    structure), the same `view`, layers and options, and variables and batches of the
    same shapes. As with `jax.jit`, what functions of your own read beside their
    arguments is read when they are first traced.

    Args:
        module_a, variables_a: a Linen or NNX module, as for `cut`, and its variables.
        module_b, variables_b: another, or the same.
        batches: an iterable of inputs of both networks; a batch of several inputs is a
            tuple. The last one may be smaller. One batch alone is `[x]`.
        layers: paths of layers, as `cut_points` lists them; all that return one array
            by default. The later calls of a layer that is called more than once are
            named `"path, call 1"`, and so on. Steps of a recurrent network, such as
            `"cell[3]"`, are used only if they are named.
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
        ValueError: for unknown layers, no batch, one without samples and channels, or
            layers whose samples differ.

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
    networks = (module_a, variables_a), (module_b, variables_b)
    names, (a, b, cross) = _over_batches(
        _moments, _merged, networks, batches, (layers, layers_b), view, method, options
    )
    rows = jnp.split(cross, _ends(a)[:-1])
    cross = [jnp.split(row, _ends(b)[:-1], axis=1) for row in rows]
    a, b = (dict(zip(*each, strict=True)) for each in zip(names, (a, b), strict=True))
    return LayerMoments(a, b, cross)


# Moments of the layers of a, and of b, and the covariances of all channels of a with
# all of b: one product, as compiling one for each pair of layers takes minutes.
_All = tuple[list[Moments], list[Moments], Array]


def _moments(xs: dict[str, Array], ys: dict[str, Array]) -> _All:
    samples = [{k: x.shape[:-1] for k, x in named.items()} for named in (xs, ys)]
    if len({shape for named in samples for shape in named.values()}) > 1:
        raise ValueError(
            f"view: expected one that gives all layers the same samples, got "
            f"{samples[0]} and {samples[1]}; for instance "
            "view=stitching.similarity.flattened, or a mean over positions"
        )
    a, b = ([moments(each) for each in named.values()] for named in (xs, ys))
    x, y = (
        jnp.concatenate([real("view", each) for each in named.values()], axis=-1)
        for named in (xs, ys)
    )
    return a, b, moments(x, y).xy


def _ends(of_layers: list[Moments]) -> np.ndarray:
    """Where the channels of each layer end among those of all."""
    return np.cumsum([each.mean_x.size for each in of_layers])


@jax.jit
def _merged(seen: _All, more: _All) -> _All:
    def joint(a, b, xy):
        x, y = (jnp.concatenate([each.mean_x for each in of]) for of in (a, b))
        return Moments(a[0].count, x, y, jnp.zeros(()), xy, jnp.zeros(()))

    cross = merge(joint(*seen), joint(*more)).xy
    a, b = (list(map(merge, *both)) for both in zip(seen[:2], more[:2], strict=True))
    return a, b, cross


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
    Computed in at least float32. Equal calls compile once, as those of `layer_moments`.

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
        ValueError: for unknown layers, no batch, one without samples and channels, or
            one of fewer than 4 samples.

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
    networks = (module_a, variables_a), (module_b, variables_b)
    names, sums = _over_batches(
        _hsic, _sum, networks, batches, (layers, layers_b), view, method, options
    )
    cross, own_a, own_b = (np.asarray(each) for each in sums)
    a, b = (np.sqrt(np.where(own > 0, own, np.nan)) for own in (own_a, own_b))
    return LayerMatrix(cross / (a[:, None] * b), *names)


def _hsic(xs: dict[str, Array], ys: dict[str, Array]) -> Any:
    return unbiased_hsic(list(xs.values()), list(ys.values()))


@jax.jit
def _sum(seen: PyTree, more: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, seen, more)


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["names"]
)
@dataclasses.dataclass(frozen=True)
class _Seen:
    """Statistics of a batch, and the names of both networks' layers."""

    names: tuple[tuple[str, ...], ...]
    values: Any


def _over_batches(
    see: Callable[..., Any],
    add: Callable[[Any, Any], Any],
    networks: Any,
    batches: Iterable[PyTree],
    layers: tuple[Sequence[str] | None, Sequence[str] | None],
    view: View,
    method: Method,
    options: Mapping[str, Any],
) -> tuple[list[list[str]], Any]:
    """Names of both networks' layers, and what all batches add up to.

    Args:
        see: from the outputs of both networks' layers, by name, for a batch to a tree.
        add: from two of these trees to their sum.
    """
    paths = layers[0], layers[0] if layers[1] is None else layers[1]
    called = [described(module, method) for module, _ in networks]
    for module, given in networks:
        check_kind(given, of_nnx=isinstance(module, nnx.Module))
    static = Static(see, called, paths, view, options)
    variables = [each for _, each in networks]
    names, values = [], None
    for batch in batches:
        seen = _in_batch(static, variables, batch)
        names = [list(each) for each in seen.names]
        values = seen.values if values is None else add(values, seen.values)
    if values is None:
        raise ValueError("batches: expected at least 1 batch, got none")
    return names, values


@functools.partial(jax.jit, static_argnums=0)
def _in_batch(static: Static, variables: list[PyTree], batch: PyTree) -> _Seen:
    see, called, paths, view, options = static.parts
    named = []
    for (module, method), given, wanted in zip(called, variables, paths, strict=True):
        outputs = layer_outputs(module, given, batch, wanted, method, options)
        named.append({name: view(output) for name, output in outputs.items()})
    return _Seen(tuple(map(tuple, named)), see(*named))
