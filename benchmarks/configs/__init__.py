"""The options of every experiment; imported without JAX, so that help is quick."""
