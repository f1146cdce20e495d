"""Whisper transcription for people, programs and pods."""
