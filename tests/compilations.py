"""Which programs are compiled."""

import contextlib

import jax


@contextlib.contextmanager
def compilations():
    """A list that has the name of each program that is compiled meanwhile."""
    seen = []

    def listen(event, duration_secs, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(about.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
