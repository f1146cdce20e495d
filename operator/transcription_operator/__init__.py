"""Kubernetes operator for Whisper transcription."""
