"""Each package builds as a wheel of its own that declares what it needs."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from support.snippets import ROOT

UV = shutil.which("uv") or str(ROOT / ".tools/bin/uv")
PACKAGES = {
    "streamll": None,
    "streamll_core": "streamll",
    "streamll_terminal": "streamll_terminal",
    "streamll_redis": "streamll_redis",
    "streamll_rabbitmq": "streamll_rabbitmq",
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """All wheels of the workspace, by distribution."""
    if not Path(UV).exists():
        pytest.skip("uv is not at hand")
    out = tmp_path_factory.mktemp("dist")
    command = [UV, "build", "--quiet", "--wheel", "--all-packages", "--out-dir", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return {path.name.split("-")[0]: zipfile.ZipFile(path) for path in out.glob("*.whl")}


def metadata(wheel):
    """The METADATA of a wheel."""
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


@pytest.mark.slow
@pytest.mark.parametrize("distribution", PACKAGES)
def test_a_wheel_is_typed_licensed_and_of_the_common_version(wheels, distribution):
    """py.typed where there is code, Apache-2.0, one version."""
    wheel = wheels[distribution]
    described = metadata(wheel)
    package = PACKAGES[distribution]
    assert described["License-Expression"] == "Apache-2.0"
    assert described["Requires-Python"] == ">=3.11"
    assert described["Version"] == metadata(wheels["streamll_core"])["Version"]
    names = wheel.namelist()
    assert package is None or f"{package}/py.typed" in names
    assert package is not None or not [n for n in names if n.endswith(".py")]


@pytest.mark.slow
def test_a_reader_of_events_needs_neither_dspy_nor_rich(wheels):
    """streamll-redis and streamll-rabbitmq require core and their client only."""
    for distribution in ("streamll_redis", "streamll_rabbitmq"):
        required = " ".join(metadata(wheels[distribution]).get_all("Requires-Dist"))
        assert "dspy" not in required
        assert "rich" not in required


@pytest.mark.slow
@pytest.mark.parametrize("name", ["terminal", "redis", "rabbitmq"])
def test_a_plugin_is_found_by_its_entry_point(wheels, name):
    """Group streamll, module _plugin."""
    wheel = wheels[f"streamll_{name}"]
    (points,) = [n for n in wheel.namelist() if n.endswith("entry_points.txt")]
    assert f"[streamll]\n{name} = streamll_{name}._plugin" in wheel.read(points).decode()
