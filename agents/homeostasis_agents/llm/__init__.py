"""Language-model agents."""
