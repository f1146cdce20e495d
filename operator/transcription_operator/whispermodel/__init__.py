"""The WhisperModel: a model's files in the shared cache, from the wish for them to their removal."""
