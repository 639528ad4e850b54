"""Views on DSPy's settings for one module of DSPy, which looks them up by a name of its own.

What the view adds is seen there and nowhere else: not by the program, not by who saves the
settings or hands them to a thread.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from dspy.dsp.utils.settings import settings

__all__ = ["PackageView", "SettingsView"]


class SettingsView:
    """The settings. Subclasses say what they add; writing goes through. Thread-safe as these."""

    __slots__ = ()

    def seen(self, name: str, value: Any) -> Any:
        """Return what is seen of setting *name*, which has *value*."""
        return value

    def get(self, name: str, default: Any = None) -> Any:
        return self.seen(name, settings.get(name, default))

    def __getattr__(self, name: str) -> Any:
        return self.seen(name, getattr(settings, name))

    def __getitem__(self, name: str) -> Any:
        return self.seen(name, settings[name])

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(settings, name, value)

    def __setitem__(self, name: str, value: Any) -> None:
        settings[name] = value

    def __contains__(self, name: str) -> bool:
        return name in settings


class PackageView(ModuleType):
    """The package `dspy`, with a view on its settings."""

    def __init__(self, package: ModuleType, view: SettingsView) -> None:
        super().__init__(package.__name__, package.__doc__)
        self.__dict__["settings"] = view
        self.__dict__["_package"] = package

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_package"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_package"], name, value)
