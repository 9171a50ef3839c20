"""Products in full precision, on accelerators too, whose default is lower."""

import functools

import jax
import jax.numpy as jnp

einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
vdot = functools.partial(jnp.vdot, precision=jax.lax.Precision.HIGHEST)
