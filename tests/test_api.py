"""The public names of the libraries and how they are called, as `api.txt` lists them.

A change to them is to be deliberate. Where it is, write the list anew and look at it:

    python -m tests.test_api
"""

import importlib
import inspect
import pathlib
import typing

import flax.linen as nn

LISTED = pathlib.Path(__file__).with_name("api.txt")
# Modules whose `__all__` users import from; those that these name are found from here.
ROOTS = ("rllc", "combinability", "combinability.symmetry", "stitching")
ROOTS += ("rllc.plot", "combinability.plot", "stitching.plot")


def modules():
    """The public modules, each once."""
    waiting, seen = [importlib.import_module(name) for name in ROOTS], []
    while waiting:
        module = waiting.pop(0)
        if module not in seen:
            seen.append(module)
            members = (getattr(module, name) for name in module.__all__)
            waiting += [member for member in members if inspect.ismodule(member)]
    return seen


class Default(str):
    """A default as text that is the same in every process."""

    def __new__(cls, value):
        if type(value) in (bool, int, float, str, tuple, type(None)):
            return super().__new__(cls, repr(value))
        return super().__new__(cls, getattr(value, "__name__", "…").strip("<>"))

    __repr__ = str.__str__


def parameters(called):
    """`(a, b, *, key=None)`: names, kinds and defaults, without types."""
    if typing.get_origin(called):  # the name of a type, which is not called
        return ""
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return ""
    hidden = {"self", "parent", "name"} if is_flax(called) else {"self"}
    kept = [
        each.replace(annotation=each.empty, default=each.default)
        if each.default is each.empty
        else each.replace(annotation=each.empty, default=Default(each.default))
        for each in signature.parameters.values()
        if each.name not in hidden
    ]
    return str(inspect.Signature(kept))


def is_flax(called):
    return inspect.isclass(called) and issubclass(called, nn.Module)


def methods(cls):
    """What a class adds to its bases: methods as they are called, and properties."""
    for name, member in sorted(vars(cls).items()):
        private = name.startswith("_") and name != "__call__"
        if private or name in getattr(cls, "_fields", ()):
            continue
        if inspect.isfunction(member) and member.__module__.split(".")[0] in ROOTS:
            yield f".{name}{parameters(member)}"
        elif isinstance(member, property):
            yield f".{name}"


def lines():
    for module in modules():
        yield f"{module.__name__}"
        for name in sorted(module.__all__):
            member = getattr(module, name)
            if inspect.ismodule(member):
                yield f"    {name}: module"
                continue
            yield f"    {name}{parameters(member) if callable(member) else ''}"
            if inspect.isclass(member):
                yield from (f"        {method}" for method in methods(member))


def test_the_public_names_and_their_parameters_are_those_listed():
    assert list(lines()) == LISTED.read_text().splitlines(), (
        "the public interface is not as listed; if that is meant, run "
        "`python -m tests.test_api`"
    )


def test_every_public_name_says_what_it_is():
    for module in modules():
        for name in module.__all__:
            member = getattr(module, name)
            if callable(member) and not hasattr(member, "__origin__"):
                assert inspect.getdoc(member), f"{module.__name__}.{name}"


if __name__ == "__main__":
    LISTED.write_text("".join(f"{line}\n" for line in lines()))
