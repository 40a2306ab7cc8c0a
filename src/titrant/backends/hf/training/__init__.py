"""Training: an optimiser step over rows without padding, its loss, weights, adapters and checkpoints."""

from titrant.backends.hf.training.adapters import Adapter
from titrant.backends.hf.training.forward import Traits
from titrant.backends.hf.training.loop import Trained, TrainingOptions, train, training_fingerprint

__all__ = ["Adapter", "Trained", "TrainingOptions", "Traits", "train", "training_fingerprint"]
