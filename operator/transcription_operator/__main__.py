"""`python -m transcription_operator`."""

import sys

from transcription_operator.cli import main

sys.exit(main())
