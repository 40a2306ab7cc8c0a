"""Where runs execute: worker processes on this machine."""

from titrant.engines.job import Event, RunJob
from titrant.engines.local import LabSpec, execute

__all__ = ["Event", "LabSpec", "RunJob", "execute"]
