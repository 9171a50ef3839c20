"""The optimizers that others are compared with, and what is tuned in each.

Every rate is searched over three decades, centred where the method's authors or common
practice put it. Momentum's and Nesterov's decay and AdamW's weight decay are tuned
together with the rate. What is not tuned has its authors' value, given in `fixed` or,
where it depends on the length of the run, in the function that builds the method.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from benchmarks._options import described, import_object
from benchmarks.adaptive_memory import adaptive_memory, adaptive_memory_adam

Hyper = Mapping[str, Any]

# The rate is constant, falls to zero along half a cosine, or rises, stays and falls to
# zero, both linearly.
SCHEDULES = ("constant", "cosine", "warmup_stable_decay")
_WARMUP, _DECAYED = 0.05, 0.2  # shares of the run in which the last rises and falls


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval that a hyper-parameter is searched in, uniformly on its scale."""

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"

    def at(self, fraction: float) -> float:
        """Return the value at a fraction in [0, 1] of the way up."""
        if self.scale == "log":
            return self.low * (self.high / self.low) ** fraction
        return self.low + (self.high - self.low) * fraction

    def widened(self, factor: float) -> "Range":
        """Return the interval whose ends are a factor further from each other."""
        low = self.low * factor if self.low < 0 else self.low / factor
        high = self.high / factor if self.high < 0 else self.high * factor
        return Range(low, high, self.scale)

    @property
    def valid(self) -> bool:
        """Whether the ends are finite and ordered, and the scale has all of them."""
        least = {"log": 0.0, "linear": -math.inf}.get(self.scale, math.inf)
        return least < self.low < self.high < math.inf


@dataclasses.dataclass(frozen=True)
class Horizon:
    """The length of a run and how its rates change over it."""

    steps: int  # steps of the whole run
    # Place in `SCHEDULES`; may be traced, so that runs of all share a compilation.
    kind: Any

    def schedule(self, peak: Any) -> optax.Schedule:
        """Return the rate at each step count."""

        def rate(count: Any) -> jax.Array:
            progress = jnp.minimum(count / self.steps, 1.0)
            cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
            rise = (count + 1) / (_WARMUP * self.steps)
            stable = jnp.clip(jnp.minimum(rise, (1.0 - progress) / _DECAYED), 0.0, 1.0)
            return peak * jnp.stack([jnp.ones_like(cosine), cosine, stable])[self.kind]

        return rate


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """An optimizer in a comparison."""

    name: str  # how results name it
    # `build(horizon, hyper)` makes the optimizer.
    build: Callable[[Horizon, Hyper], optax.GradientTransformation]
    # What is tuned; the rate, whose range decides on `at_border`, comes first.
    space: Mapping[str, Range]
    # Hyper-parameters that are not tuned, for the record.
    fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # Whether the method follows a schedule; one that does not is trained
    # once, whatever the schedules of the others.
    scheduled: bool = True
    # As in `benchmarks.networks.train`.
    eval_params: Callable[[Any, Any], Any] | None = None

    @property
    def rate(self) -> str:
        """The name of the hyper-parameter that sets the size of the steps."""
        return next(iter(self.space))

    def widened(self, factor: float) -> dict[str, Range]:
        """Return the space with the rate's range extended by a factor at both ends."""
        return {**self.space, self.rate: self.space[self.rate].widened(factor)}


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes a method's optimizer from a run's traced hyper-parameters.

    The hyper-parameters are those of the method's space and "schedule", a place in
    `SCHEDULES`. Equal makers share their compilations.
    """

    method: Method
    steps: int

    def __call__(self, hyper: Hyper) -> optax.GradientTransformation:
        hyper = {**self.method.fixed, **hyper}
        return self.method.build(Horizon(self.steps, hyper["schedule"]), hyper)


def scale_by_aggmo(
    decays: tuple[float, ...] = (0.0, 0.9, 0.99),
) -> optax.GradientTransformation:
    r"""Average momentum over several decays.

    .. math::

      v_i \leftarrow \beta_i v_i + g, \qquad u = \frac{1}{K} \sum_{i=1}^K v_i

    References:
        Lucas, Sun, Zemel, Grosse, "Aggregated momentum: stability through passive
        damping", 2019 (arXiv 1804.00325), section 3.
    """

    traces = [optax.trace(decay) for decay in decays]

    def init(params: optax.Params) -> tuple[optax.OptState, ...]:
        return tuple(trace.init(params) for trace in traces)

    def update(updates, state, params=None):
        del params
        found = [t.update(updates, s) for t, s in zip(traces, state, strict=True)]
        velocities, state = zip(*found, strict=True)
        average = jax.tree.map(lambda *v: sum(v) / len(v), *velocities)
        return average, state

    return optax.GradientTransformation(init, update)


def half_life_schedule(first: float, last: float, steps: int) -> optax.Schedule:
    r"""Let a decay grow from `first` to `last` so that its half-life grows linearly.

    .. math::

      \frac{1}{\ln \beta_t} = \Bigl(1 - \frac{t}{T}\Bigr) \frac{1}{\ln \beta_0}
        + \frac{t}{T} \frac{1}{\ln \beta_T}

    References:
        Pagliardini, Ablin, Grangier, "The AdEMAMix optimizer", 2024 (arXiv 2409.03137).
    """

    def decay(count: Any) -> jax.Array:
        share = jnp.minimum(count / steps, 1.0)
        return jnp.exp(1.0 / ((1.0 - share) / jnp.log(first) + share / jnp.log(last)))

    return decay


def with_schedule(
    name: str,
    make: Callable[..., optax.GradientTransformation],
    space: Mapping[str, Range],
    *,
    eval_params: Callable[[Any, Any], Any] | None = None,
    **fixed: float,
) -> Method:
    """Return a method whose learning rate follows the schedule.

    Args:
        name: as in `Method`.
        make: `make(rate, **others)` returns the optimizer from the rate as a schedule
            and the other hyper-parameters.
        space: as in `Method`, with a `learning_rate`.
        eval_params: as in `Method`.
        **fixed: hyper-parameters that are not tuned.
    """

    def build(horizon: Horizon, hyper: Hyper) -> optax.GradientTransformation:
        others = {**hyper}
        del others["schedule"]
        return make(horizon.schedule(others.pop("learning_rate")), **others)

    return Method(name, build, space, fixed, eval_params=eval_params)


def _aggmo(rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.chain(scale_by_aggmo(), optax.scale_by_learning_rate(rate))


def _ademamix(horizon: Horizon, hyper: Hyper) -> optax.GradientTransformation:
    """The slow average and its weight grow over the whole run, as its authors advise.

    Its decay ends at the value that they use for runs of few steps.
    """
    rate = horizon.schedule(hyper["learning_rate"])
    b3 = half_life_schedule(0.9, hyper["b3"], horizon.steps)
    alpha = optax.linear_schedule(0.0, hyper["alpha"], horizon.steps)
    return optax.contrib.ademamix(rate, b1=0.9, b3=b3, alpha=alpha)


def schedule_free(
    name: str, make: Callable[[Any, int], optax.GradientTransformation]
) -> Method:
    """Return a method whose rate is constant after a short warm-up.

    Args:
        name: as in `Method`.
        make: `make(learning_rate, warmup)` returns an optimizer with the state of
            `optax.contrib.schedule_free`, whose rate rises for `warmup` steps.
    """

    def build(horizon: Horizon, hyper: Hyper) -> optax.GradientTransformation:
        return make(hyper["learning_rate"], max(1, horizon.steps // 20))

    return Method(
        name,
        build,
        {"learning_rate": Range(3e-4, 3e-1)},
        scheduled=False,
        eval_params=optax.contrib.schedule_free_eval_params,
    )


def _prodigy(horizon: Horizon, hyper: Hyper) -> optax.GradientTransformation:
    """The peak rate stays 1; its authors advise to tune the estimate's factor."""
    coefficient = hyper["estim_lr_coef"]
    return optax.contrib.prodigy(horizon.schedule(1.0), estim_lr_coef=coefficient)


ADAM_RATE = {"learning_rate": Range(1e-4, 1e-1)}
SGD_RATE = {"learning_rate": Range(1e-2, 1e1)}
MOMENTUM_RATE = {"learning_rate": Range(1e-3, 1e0)}
SIGN_RATE = {"learning_rate": Range(1e-5, 1e-2)}
_DECAY = {"decay": Range(0.8, 0.99, "linear")}

BASELINES = {
    method.name: method
    for method in (
        with_schedule("sgd", optax.sgd, SGD_RATE),
        with_schedule(
            "momentum",
            lambda rate, decay: optax.sgd(rate, decay),
            {**MOMENTUM_RATE, **_DECAY},
        ),
        with_schedule(
            "nesterov",
            lambda rate, decay: optax.sgd(rate, decay, nesterov=True),
            {**MOMENTUM_RATE, **_DECAY},
        ),
        with_schedule("adam", optax.adam, ADAM_RATE),
        with_schedule(
            "adamw", optax.adamw, {**ADAM_RATE, "weight_decay": Range(1e-3, 1e0)}
        ),
        with_schedule("nadam", optax.nadam, ADAM_RATE),
        with_schedule("aggmo", _aggmo, MOMENTUM_RATE),
        Method("ademamix", _ademamix, ADAM_RATE, {"b3": 0.999, "alpha": 5.0}),
        # Its sums of gradients are not divided: rates are a hundredth of Adam's. With
        # Optax's b2 of 0.95 steps of rare features grow, as their squares are forgotten
        # sooner than their sums.
        with_schedule(
            "simplified_ademamix",
            optax.contrib.simplified_ademamix,
            {"learning_rate": Range(1e-6, 1e-3), "alpha": Range(1.0, 100.0)},
            b2=0.999,
        ),
        with_schedule("lion", lambda rate: optax.lion(rate, weight_decay=0), SIGN_RATE),
        # Adam's form, with a short warm-up, as its authors advise.
        schedule_free("schedule_free", optax.contrib.schedule_free_adamw),
        Method("prodigy", _prodigy, {"estim_lr_coef": Range(3e-2, 3e1)}),
        # Updates have Adam's root mean square: vectors can follow Adam's rate.
        with_schedule("muon", optax.contrib.muon, ADAM_RATE, consistent_rms=0.2),
        # Its direction is a mean of gradients, not a sum: rates are those of SGD.
        with_schedule("adaptive_memory", adaptive_memory, SGD_RATE),
        with_schedule("adaptive_memory_adam", adaptive_memory_adam, ADAM_RATE),
    )
}


def own_method(optimizer: str | Callable[..., optax.GradientTransformation]) -> Method:
    """Return your own optimizer as a method of a comparison.

    A schedule scales its updates, so the learning rate that it is given is a
    (traced) number. What is tuned is in its attribute `space`, if it has one: by
    argument `(low, high)`, or `(low, high, "linear")`; else `learning_rate` from 10⁻⁴
    to 10⁻¹. The learning rate, whose range decides on `at_border`, comes first. Where
    other parameters are evaluated than those that are trained, such as averages of
    them, its attribute `eval_params` is what makes them of the optimizer's state and
    the parameters, as `optax.contrib.schedule_free_eval_params` does.

    Args:
        optimizer: a function of the names in its space, by default of `learning_rate`,
            that returns an Optax transformation; or its import path.

    Raises:
        ValueError: if there is no such function, or an attribute is not as described.

    Example:
        >>> method = own_method(optax.adamax)
        >>> method.name, list(method.space)
        ('adamax', ['learning_rate'])
    """
    make: Any = optimizer
    name = getattr(optimizer, "__name__", type(optimizer).__name__)
    if isinstance(optimizer, str):
        make, name = import_object("methods", optimizer), optimizer.replace(":", ".")
    if not callable(make):
        raise ValueError(f"methods: expected {name!r} to be a function, got {make!r}")
    given = getattr(make, "space", {"learning_rate": (1e-4, 1e-1)})
    try:
        space = {argument: Range(*bounds) for argument, bounds in given.items()}
        valid = all(one.valid for one in space.values()) and bool(space)
    except (TypeError, AttributeError):
        space, valid = {}, False
    if not valid:
        raise ValueError(
            f"methods: expected the attribute space of {name!r} to be like "
            "{'learning_rate': (1e-4, 1e-1), 'b1': (0.5, 0.99, 'linear')}, with finite "
            f"ends, positive unless linear, got {given!r}"
        )
    _check_steps(name, make, space)

    def build(horizon: Horizon, hyper: Hyper) -> optax.GradientTransformation:
        own: Any = make(**{argument: hyper[argument] for argument in space})
        return optax.chain(own, optax.scale_by_schedule(horizon.schedule(1.0)))

    evaluated: Any = getattr(make, "eval_params", None)
    if evaluated is None:
        return Method(name, build, space)
    if not callable(evaluated):
        raise ValueError(
            f"methods: expected the attribute eval_params of {name!r} to be a function "
            f"of the optimizer's state and the parameters, got {evaluated!r}"
        )
    return Method(
        name,
        build,
        space,
        eval_params=lambda state, params: evaluated(state[0], params),
    )


def _check_steps(name: str, make: Any, space: Mapping[str, Range]) -> None:
    """Raise if your own optimizer asks for more than its space, or takes no steps."""
    params = {"layer": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}}

    def step(hyper: Hyper) -> Any:
        own = make(**hyper)
        if not (hasattr(own, "init") and hasattr(own, "update")):
            raise TypeError(f"expected an Optax transformation, got {own!r}")
        return own.update(params, own.init(params), params)

    try:
        jax.eval_shape(step, {argument: one.at(0.5) for argument, one in space.items()})
    except TypeError as error:
        said = f"{name!r} makes no step: {described(error)}"
        raise ValueError(f"methods: {said}") from error
    except Exception:  # it may be made for the layers of your own network
        return
