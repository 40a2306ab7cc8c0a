"""What mkdocs.yml cannot say: every page of docs/decisions is in the navigation, whoever adds one."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """List the decisions by their own titles, in order."""
    docs = Path(config["docs_dir"])
    pages = sorted((docs / "decisions").glob("*.md"))
    config["nav"].append(
        {
            "Decisions": [
                {page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# "): f"decisions/{page.name}"}
                for page in pages
            ]
        }
    )
    return config
