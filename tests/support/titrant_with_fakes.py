"""The command line with the toy model and a trial backend in place of real ones, for tests that need a process to kill.

    python titrant_with_fakes.py run study.yaml --out folder

`TITRANT_TRIAL` in the environment holds {"prepared": folder of the toy model, "backend": arguments of `TrialBackend`,
"file_bytes": the largest file that may be written, "real_page": true}. Without that the page is its data as text.
"""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

from fake_study import fake_prepare, page_as_text, trial_backend


def main() -> None:
    from titrant.cli import main as command_line
    from titrant.experiment import prepare, runner
    from titrant.report import page

    said = json.loads(os.environ["TITRANT_TRIAL"])

    def backend_of_the_test(**_: Any) -> Any:
        return trial_backend(**said.get("backend", {}))

    prepare.prepare = fake_prepare(Path(said["prepared"]))
    runner.BackendSpec = backend_of_the_test  # type: ignore[assignment,misc]
    if not said.get("real_page"):
        page.render = page_as_text
    if "file_bytes" in said:
        resource.setrlimit(resource.RLIMIT_FSIZE, (said["file_bytes"], said["file_bytes"]))
    command_line()


if __name__ == "__main__":  # workers import this file too
    main()
