"""Plugins of the whole test suite; pytest takes them from its topmost conftest alone."""

pytest_plugins = ["pytester"]
