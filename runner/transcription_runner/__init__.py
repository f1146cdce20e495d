"""Whisper transcription for people, programs and pods."""

import os

# Threads that wait sleep instead of spinning: a pod rarely has its processors for itself, and where it does not, the
# spinning of the finished keeps the others from finishing. It counts only if it is there before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
