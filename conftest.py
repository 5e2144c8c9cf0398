"""The bare-clone alias: in a clone, `claimlens` is this folder, whatever is installed.

`addopts` in pyproject.toml blocks the plugins of an installed claimlens; here the clone's own
are registered in their place.
"""

import sys
from pathlib import Path
from types import ModuleType

import pytest

CLONE = str(Path(__file__).parent)
PLUGINS = ("claimlens.fixtures.plugin", "claimlens.ci.plugin")


def _alias_clone() -> None:
    for name in [n for n in sys.modules if n == "claimlens" or n.startswith("claimlens.")]:
        del sys.modules[name]
    package = ModuleType("claimlens")
    package.__path__ = [CLONE]
    sys.modules["claimlens"] = package


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    _alias_clone()
    for name in PLUGINS:
        pluginmanager.unblock(name)
        pluginmanager.import_plugin(name)
