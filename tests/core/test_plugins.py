"""Discovery is tolerant, names are unique, what is broken says so."""

from __future__ import annotations

import pytest

import streamll
from streamll._plugins import Registry
from streamll.testing import MemorySink
from support.plugins import distribution, entry_points, plugin_module


def registers(name, *schemes):
    """A hook that registers MemorySink under *name*."""

    def streamll_register_sinks(register):
        register(name, MemorySink, schemes=schemes)

    return streamll_register_sinks


def found(tmp_path, **plugins):
    """A registry that discovers the given plugin name -> target."""
    points = entry_points(
        *(distribution(tmp_path, f"pkg-{name}", name, target) for name, target in plugins.items())
    )
    return Registry(points)


def test_a_broken_plugin_is_recorded_and_does_not_stop_the_others(tmp_path):
    """The import error of one entry point is kept; the next one still loads."""
    plugin_module("plugin_good", streamll_register_sinks=registers("good"))
    registry = found(tmp_path, bad="no_such_module_anywhere", good="plugin_good")
    status = {plugin.name: (plugin.status, plugin.error) for plugin in registry.plugins}
    assert status["good"] == ("loaded", None)
    assert status["bad"][0] == "broken"
    assert "No module named 'no_such_module_anywhere'" in status["bad"][1]
    assert registry.sink("good").resolve() is MemorySink


def test_a_broken_plugin_that_is_asked_for_by_name_raises_with_its_reason(tmp_path):
    """Asked for by name, the reason is told."""
    registry = found(tmp_path, bad="no_such_module_anywhere")
    with pytest.raises(streamll.PluginError, match=r"'bad' \(pkg-bad\) is broken: ModuleNotFound"):
        registry.sink("bad")


def test_two_distributions_with_one_plugin_name_are_an_error_that_names_both(tmp_path):
    """Independent of order, both packages are named, and the way out."""
    plugin_module("plugin_one", streamll_register_sinks=registers("same"))
    one = distribution(tmp_path / "1", "pkg-one", "same", "plugin_one")
    two = distribution(tmp_path / "2", "pkg-two", "same", "plugin_one")
    messages = []
    for order in ((one, two), (two, one)):
        with pytest.raises(streamll.PluginError) as caught:
            Registry(entry_points(*order))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "pkg-one and pkg-two" in messages[0]
    assert "STREAMLL_PLUGINS=-same" in messages[0]


def test_a_second_plugin_that_takes_a_registered_sink_name_is_broken_and_named(tmp_path):
    """Two plugins, one sink name: the later one is refused, the earlier one works."""
    plugin_module("plugin_a", streamll_register_sinks=registers("sink"))
    plugin_module("plugin_b", streamll_register_sinks=registers("sink"))
    registry = found(tmp_path, a="plugin_a", b="plugin_b")
    broken = [plugin for plugin in registry.plugins if plugin.status == "broken"]
    assert [plugin.name for plugin in broken] == ["b"]
    assert "plugin 'a' (pkg-a) and plugin 'b' (pkg-b)" in broken[0].error
    assert registry.sink("sink").plugin == "plugin 'a' (pkg-a)"


def test_the_environment_allows_and_denies_plugins(tmp_path, monkeypatch):
    """STREAMLL_PLUGINS is read before anything is imported."""
    monkeypatch.setenv("STREAMLL_PLUGINS", "-bad")
    registry = found(tmp_path, bad="would_fail_if_imported")
    assert [plugin.status for plugin in registry.plugins] == ["denied"]
    with pytest.raises(streamll.PluginError, match="denied by STREAMLL_PLUGINS"):
        registry.sink("bad")


def test_an_unknown_name_or_scheme_says_what_to_install(tmp_path):
    """The message names the package to install."""
    registry = Registry([])
    with pytest.raises(streamll.ConfigurationError, match=r'pip install "streamll\[redis\]"'):
        registry.sink("redis://")
    with pytest.raises(streamll.ConfigurationError, match="pip install streamll-kafka"):
        registry.sink("kafka://")


def test_a_misspelt_name_is_met_with_a_suggestion(tmp_path):
    """Close names are suggested."""
    plugin_module("plugin_w", streamll_register_sinks=registers("webhook"))
    registry = found(tmp_path, webhook="plugin_w")
    with pytest.raises(streamll.ConfigurationError, match="did you mean 'webhook'"):
        registry.sink("webhok")


def test_a_plugin_whose_registration_raises_leaves_nothing_behind(tmp_path):
    """Registered halfway is not registered."""

    def streamll_register_sinks(register):
        register("half", MemorySink)
        raise RuntimeError("no")

    plugin_module("plugin_half", streamll_register_sinks=streamll_register_sinks)
    registry = found(tmp_path, half="plugin_half")
    assert registry.sinks == {}


def test_the_installed_sinks_are_found_like_a_strangers():
    """Our own sinks come through the same entry points."""
    names = {plugin.name: plugin.status for plugin in streamll.plugins()}
    assert names["terminal"] == names["redis"] == names["rabbitmq"] == "loaded"
