"""Fake installed distributions with streamll entry points."""

from __future__ import annotations

import sys
from importlib.metadata import PathDistribution
from pathlib import Path
from types import ModuleType
from typing import Any

import streamll


def distribution(folder: Path, name: str, plugin: str, target: str) -> PathDistribution:
    """Write the metadata of an installed package *name* with one entry point."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[streamll]\n{plugin} = {target}\n")
    return PathDistribution(info)


def entry_points(*distributions: PathDistribution) -> list[Any]:
    """Return their entry points, as `importlib.metadata` would."""
    return [point for dist in distributions for point in dist.entry_points]


def plugin_module(name: str, **hooks: Any) -> ModuleType:
    """Return an importable module that implements *hooks*."""
    module = ModuleType(name)
    for hook, function in hooks.items():
        setattr(module, hook, streamll.hookimpl(function))
    sys.modules[name] = module
    return module
