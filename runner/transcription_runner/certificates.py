"""Further certificate authorities, for every library that opens a connection."""

from __future__ import annotations

import atexit
import contextlib
import os
import ssl
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from transcription_runner.errors import Usage

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""What httpx2 and OpenSSL, requests, botocore and curl read."""

_joined: list[Path] = []


def install(environ: MutableMapping[str, str] = os.environ) -> Path | None:
    """Join `TRANSCRIPTION_CA_BUNDLE` with the system's authorities and point every library at the result.

    Returns the joined file (removed when the process ends), or None where the variable is not set.
    Raises Usage for a bundle that cannot be read or holds no certificate.
    """
    bundle = environ.get("TRANSCRIPTION_CA_BUNDLE")
    if not bundle:
        return None
    try:
        ours = Path(bundle).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Usage(
            f"TRANSCRIPTION_CA_BUNDLE={bundle} cannot be read: {error.strerror}.",
            hint="Let it name a PEM file of certificates that this process may read.",
        ) from error
    try:
        ssl.create_default_context().load_verify_locations(cadata=ours)
    except (ssl.SSLError, ValueError) as error:
        raise Usage(
            f"TRANSCRIPTION_CA_BUNDLE={bundle} holds no certificate that OpenSSL understands: {error}.",
            hint="It must be PEM: -----BEGIN CERTIFICATE----- and so on.",
        ) from error
    descriptor, name = tempfile.mkstemp(prefix="transcription-ca-", suffix=".pem")
    joined = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(_system(environ).rstrip() + "\n" + ours)
    _joined.append(joined)
    atexit.register(remove_joined)
    for variable in VARIABLES:
        environ[variable] = name
    return joined


def remove_joined() -> None:
    """Remove the joined files."""
    while _joined:
        with contextlib.suppress(OSError):
            _joined.pop().unlink(missing_ok=True)


def _system(environ: MutableMapping[str, str]) -> str:
    candidates = [environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile]
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return Path(candidate).read_text(encoding="utf-8", errors="replace")
    import certifi

    return Path(certifi.where()).read_text(encoding="utf-8", errors="replace")
