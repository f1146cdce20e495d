"""Files at fsspec URLs (s3:// and others), and what their libraries' failures mean."""

from __future__ import annotations

import importlib
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from transcription_runner.errors import (
    OutputFailed,
    PermissionDenied,
    Reason,
    RunnerError,
    SourceMissing,
    SourceUnreachable,
    Usage,
    causes,
)
from transcription_runner.redact import host_of, redact, scrub

_CREDENTIALS = (
    "Give credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment (in a TranscriptionJob by "
    "spec.credentialsSecret, or spec.output.credentialsSecret for the output), and AWS_ENDPOINT_URL for a store that "
    "is not Amazon's. A public bucket needs FSSPEC_S3_ANON=true."
)
_MISSING_CODES = {"NoSuchKey", "NoSuchBucket", "404", "NotFound", "NoSuchVersion"}
_REFUSED_CODES = {
    "AccessDenied",
    "403",
    "401",
    "Forbidden",
    "InvalidAccessKeyId",
    "XAdminUserNotFound",  # versitygw's name for it
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
}
_BUSY_CODES = {"SlowDown", "429", "TooManyRequests", "RequestLimitExceeded"}
_REFUSED_CLASSES = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"}


def open_url(url: str, *, stall_seconds: float = 30.0) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it; a connection without a byte for so long is given up.

    Raises Usage for a scheme that nothing here understands.
    """
    fsspec = importlib.import_module("fsspec")
    scheme = url.partition("://")[0]
    options = _s3_options(stall_seconds) if scheme in ("s3", "s3a") else {}
    try:
        filesystem, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise Usage(
            f"{scheme}:// needs a package that is not installed here: {error}.",
            hint="Use s3://, http(s):// or a path, or add the package to the runner's image.",
        ) from error
    except ValueError as error:
        raise Usage(
            f"{redact(url)} cannot be understood: {scrub(str(error))}.",
            hint="Use s3://bucket/key, http(s)://… or a path.",
        ) from error
    return filesystem, path


def _s3_options(stall_seconds: float) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "connect_timeout": 10,
        "read_timeout": stall_seconds,
    }
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        configuration["retries"] = {"max_attempts": 4, "mode": "standard"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    style = os.environ.get("AWS_S3_ADDRESSING_STYLE")
    if style is None and endpoint and "amazonaws.com" not in endpoint:
        style = "path"  # other stores seldom have a DNS name for each bucket
    if style:
        configuration["s3"] = {"addressing_style": style}
    return {"config_kwargs": configuration, "skip_instance_cache": True}


def explain_remote(error: BaseException, url: str, *, writing: bool = False) -> RunnerError:
    """Turn an fsspec (or botocore) failure at `url` into one that says what to do."""
    shown = redact(url)
    verb = "write to" if writing else "read"
    chain = list(causes(error))
    codes = {code for cause in chain for code in _codes(cause)}
    names = {name for cause in chain for name in (kind.__name__ for kind in type(cause).__mro__)}
    if codes & _REFUSED_CODES or names & _REFUSED_CLASSES or "PermissionError" in names:
        return PermissionDenied(
            f"We may not {verb} {shown}: {_detail(error)}.", hint=_CREDENTIALS, reason=Reason.UNAUTHORIZED
        )
    if codes & _MISSING_CODES or "FileNotFoundError" in names:
        what = "bucket" if "NoSuchBucket" in codes else "object"
        if writing:
            return OutputFailed(f"There is no such {what} to write to: {shown}.", hint="Check the bucket's name.")
        return SourceMissing(
            f"There is no such {what}: {shown}.",
            hint="Check the bucket and the key.",
            reason=Reason.BUCKET_NOT_FOUND if what == "bucket" else Reason.OBJECTS_NOT_FOUND,
        )
    if codes & _BUSY_CODES:
        return (OutputFailed if writing else SourceUnreachable)(
            f"The store finds that too much is asked of it: {_detail(error)}.",
            hint="Try again later.",
            reason=Reason.RATE_LIMITED,
        )
    if names & {"ConnectionError", "HTTPClientError", "EndpointConnectionError", "TimeoutError", "OSError"} or codes:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        host = host_of(endpoint) if endpoint and url.startswith("s3") else host_of(url)
        kind = OutputFailed if writing else SourceUnreachable
        return kind(
            f"{host} could not be reached for {shown}: {_detail(error)}.",
            hint="Check AWS_ENDPOINT_URL, the cluster's DNS, and whether pods may reach it (NetworkPolicy, proxy). "
            "For a private certificate authority set TRANSCRIPTION_CA_BUNDLE.",
            reason=_network_reason(chain, codes),
        )
    kind = OutputFailed if writing else SourceUnreachable
    return kind(f"{shown} could not be {'written' if writing else 'read'}: {_detail(error)}.")


def _network_reason(chain: Sequence[BaseException], codes: set[str]) -> Reason:
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return Reason.TLS_FAILURE
    if any(isinstance(cause, socket.gaierror) for cause in chain):
        return Reason.DNS_FAILURE
    if any("ReadTimeout" in kind.__name__ for cause in chain for kind in type(cause).__mro__):
        return Reason.STALLED
    return Reason.HUB_SERVER_ERROR if codes else Reason.CONNECTION_FAILED


def _detail(error: BaseException) -> str:
    return (scrub(str(error)).strip().rstrip(".") or type(error).__name__)[:300]


def _codes(error: BaseException) -> Iterator[str]:
    """The store's own code and the HTTP status of a botocore error."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        yield str(response.get("Error", {}).get("Code", ""))
        yield str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
