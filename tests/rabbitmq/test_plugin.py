"""The plugin as it is found and loaded: by its entry point, and without a client library."""

from __future__ import annotations

import subprocess
import sys

import streamll
from streamll.sinks import RabbitMQSink
from streamll_rabbitmq import RabbitMQSink as Direct


def test_the_sink_is_found_under_its_published_name():
    """`from streamll.sinks import RabbitMQSink` is the class of this plugin."""
    assert RabbitMQSink is Direct


def test_discovering_the_plugin_imports_no_client_library():
    """A service that has the plugin installed but does not use it pays nothing for it."""
    code = "import sys, streamll_rabbitmq._plugin; sys.exit('aiormq' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_its_command_is_registered_by_name_only():
    """`streamll rabbitmq topology` is imported when it is run."""
    (plugin,) = [plugin for plugin in streamll.plugins() if plugin.name == "rabbitmq"]
    assert plugin.commands == {"topology": "streamll_rabbitmq._commands:topology"}
