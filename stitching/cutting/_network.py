"""What the two Flax interfaces have in common."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import errors, nnx
from flax import linen as nn
from jaxtyping import PyTree

from stitching.cutting import _linen, _nnx
from stitching.cutting._program import Program, trace

_OWN = ("rngs", "mutable", "capture_intermediates")


class Network(NamedTuple):
    """A module and how it is called.

    Attributes:
        module: a Linen or NNX module.
        method: the name of its method.
        options: keyword arguments of that.
    """

    module: nn.Module | nnx.Module
    method: str
    options: Mapping[str, Any]

    def variables(self, x: PyTree) -> PyTree:
        """Shapes and dtypes of its variables for inputs like x."""
        if isinstance(self.module, nnx.Module):
            return _nnx.abstract_variables(self.module)
        return _linen.abstract_variables(self.module, x, self.method, self.options)

    def check_frozen(self, x: PyTree) -> None:
        """Raises a ValueError if the module changes its variables while it runs."""
        # Linen itself refuses that, when the program is traced.
        if isinstance(self.module, nnx.Module):
            _nnx.check_frozen(self.module, self.method, self.options, x)

    def program(self, variables: PyTree, x: PyTree, path: str | None) -> Program:
        """Its program with the outputs of one layer tagged, or of all."""
        tagged: Callable[..., Any] = (
            _nnx.tagged if isinstance(self.module, nnx.Module) else _linen.tagged
        )
        try:
            network = tagged(self.module, self.method, self.options, path)
            return trace(network, variables, x)
        except (errors.ModifyScopeVariableError, errors.InvalidRngError) as error:
            raise ValueError(
                "module: changes its variables or draws random numbers while it runs, "
                "but a cut network is frozen; pass the keyword argument that turns "
                "this off, for instance `train=False`"
            ) from error


def network(module: Any, method: str, options: Mapping[str, Any]) -> Network:
    """A module and how it is called.

    Raises:
        TypeError: if it is no module of Flax.
        ValueError: for an unknown method or an option that is not the network's.
    """
    if not isinstance(module, nn.Module | nnx.Module):
        raise TypeError(
            f"module: expected an instance of flax.linen.Module or flax.nnx.Module, "
            f"got {module!r}; for others make Cut(front, back) from two functions"
        )
    if not callable(getattr(module, method, None)):
        raise ValueError(
            f"method: {type(module).__name__} has no method {method!r} to call"
        )
    for name in _OWN:
        if name in options:
            raise ValueError(
                f"{name}: a cut network is frozen and draws no random numbers; "
                "pass only keyword arguments of the module's own method"
            )
    return Network(module, method, options)
