"""Random requests after the OpenAPI document (schemathesis): no answer may be a 5xx, each must be as described.

A longer search: `STUDIO_FUZZ_SECONDS=300 make test-studio`, or docs/studio.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator.studio.client import Client

pytestmark = pytest.mark.studio
SECONDS = int(os.environ.get("STUDIO_FUZZ_SECONDS", "20"))


def test_random_requests_find_no_server_error(own_process: Client, tmp_path: Path) -> None:
    run = own_process.begin(seed=61, auto=True)
    own_process.settled(run)
    tool = Path(sys.executable).with_name("schemathesis")
    assert tool.exists() or shutil.which("schemathesis")
    base = f"http://127.0.0.1:{own_process.port}"
    config = tmp_path / "schemathesis.toml"
    config.write_text(f'[parameters]\n"run" = "{run}"\n')
    command = [str(tool), "--config-file", str(config), "run", f"{base}/api/openapi.json", "--url", base]
    command += ["-H", f"Authorization: Bearer {own_process.token}", "--exclude-path", "/api/events"]
    command += [
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]
    command += ["--max-time", str(SECONDS), "--seed", "1", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert own_process.call("GET", "/api/worker").status == 200
