"""Both programs on the same weights: what ours says in `sequential` mode against what openai-whisper says.

`python -m tests.differential --help` tells how to run it; what it found last is in docs/differential.md. Recordings
and options pair up in diagonals (`product`), so that a few of them meet every recording and every option. A run that
differs is looked into (`evidence`): does openai-whisper itself go the same way when the last digits of its numbers
change?
"""
