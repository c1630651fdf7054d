"""Every public function and class of the room has an example in its docstring, and the examples hold."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import scoring

MODULES = [f"scoring.{module.name}" for module in pkgutil.iter_modules(scoring.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_docstrings_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_and_class_has_an_example(name):
    module = importlib.import_module(name)
    public = [
        (what, one)
        for what, one in vars(module).items()
        if (inspect.isfunction(one) or inspect.isclass(one))
        and one.__module__ == name
        and not what.startswith("_")
    ]
    assert [what for what, one in public if ">>>" not in (one.__doc__ or "")] == []
