"""The command line with the toy model and a trial lab in place of real ones, for tests that need a process to kill.

    python titrant_with_fakes.py run study.yaml --out folder

`TITRANT_TRIAL` in the environment holds {"prepared": folder of the toy model, "lab": arguments of `TrialLab`,
"file_bytes": the largest file that may be written}.
"""

from __future__ import annotations

import json
import os

from fake_study import fake_prepare


def main() -> None:
    import titrant.study.bench
    import titrant.study.runner
    from titrant.cli import main as titrant

    said = json.loads(os.environ["TITRANT_TRIAL"])
    titrant.study.bench.prepare = fake_prepare(__import__("pathlib").Path(said["prepared"]))
    titrant.study.runner.REAL_LAB = ("fake_study", "TrialLab")
    trial = said.get("lab", {})
    made = titrant.study.runner.LabSpec
    titrant.study.runner.LabSpec = lambda **spec: made(**{**spec, "arguments": trial})
    if "file_bytes" in said:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (said["file_bytes"], said["file_bytes"]))
    titrant()


if __name__ == "__main__":  # workers import this file too
    main()
