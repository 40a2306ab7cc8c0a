from __future__ import annotations

import signal
import sys

import pytest
from command_line import Said, Titrant


@pytest.fixture
def titrant(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Titrant:
    """Run a command in this process."""
    from titrant.cli import main

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["titrant", *map(str, arguments)])
        capsys.readouterr()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            main()
        except SystemExit as end:
            code = end.code
        else:
            code = 0
        finally:
            signal.signal(signal.SIGTERM, handler)
        printed = capsys.readouterr()
        assert isinstance(code, int)
        return Said(code, printed.out, printed.err)

    return run
