"""Where runs execute: worker processes on this machine, or an engine of the user's."""

from titrant.engines.job import Event, RunJob
from titrant.engines.local import BackendSpec, LocalEngine, execute
from titrant.engines.protocol import AskingEngine, Engine

__all__ = ["AskingEngine", "BackendSpec", "Engine", "Event", "LocalEngine", "RunJob", "execute"]
