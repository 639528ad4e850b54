"""The plugin as it is found and loaded: by its entry point, and without a client library."""

from __future__ import annotations

import subprocess
import sys

from streamll.sinks import RedisSink
from streamll_redis import RedisSink as Direct


def test_the_sink_is_found_under_its_published_name():
    """`from streamll.sinks import RedisSink` is the class of this plugin."""
    assert RedisSink is Direct


def test_discovering_the_plugin_imports_no_client_library():
    """A service that has the plugin installed but does not use it pays nothing for it."""
    code = "import sys, streamll_redis._plugin; sys.exit('redis' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
