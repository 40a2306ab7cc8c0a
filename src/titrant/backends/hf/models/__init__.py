"""Models: found, checked, made loadable, and run over rows without padding."""
