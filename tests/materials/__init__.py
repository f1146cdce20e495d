"""OpenAI's own Whisper weights, people's speech, and the servers that tests need.

Everything is built once from pinned packages and kept in a cache outside the checkout; see `README.md`.
"""
