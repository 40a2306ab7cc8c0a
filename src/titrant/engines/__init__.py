"""Where runs execute: worker processes on this machine."""

from titrant.engines.job import Event, RunJob
from titrant.engines.local import BackendSpec, execute

__all__ = ["BackendSpec", "Event", "RunJob", "execute"]
