"""The predecessor's container job: `docker run -e INPUT_BUCKET=… IMAGE KEY AUDIO [PROMPT] [LANGUAGE]`.

Reads s3://INPUT_BUCKET/AUDIO, writes whisper's JSON to s3://INPUT_BUCKET/KEY, and keeps the state of KEY in the table
DYNAMODB_TABLE where one is named (docs/migration.md). No Kubernetes is in it.
"""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transcription_runner import arguments
from transcription_runner.errors import OutputFailed, PermissionDenied, RunnerError, Temporary, Usage
from transcription_runner.job import Job, internal
from transcription_runner.outputs import deliver
from transcription_runner.redact import scrub
from transcription_runner.settings import File
from transcription_runner.sources import STDIN, Source
from transcription_runner.writers import render

PROCESSING, COMPLETED, FAILED = "PROCESSING", "COMPLETED", "FAILED"

_OTHER_COMMANDS = ("models", "prepare-folder")
_QUESTIONS = ("-h", "--help", "--version")
_OURS = ("--output_dir", "--output_format", "--output_name", "--output", "-o", "-f")
_OF_AN_EARLIER_ATTEMPT = ("finished_at", "error_class", "exit_code", "result", "language", "duration")
_REFUSED_CODES = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}
_REFUSED_CLASSES = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"}

_log = logging.getLogger(__name__)


def wanted(words: Sequence[str], environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the command is called as the predecessor's container was: INPUT_BUCKET, and a KEY first."""
    # A TranscriptionJob's Secret may happen to hold a variable of this name.
    if not environ.get("INPUT_BUCKET") or environ.get("TRANSCRIPTION_JOB") or not words:
        return False
    if any(word in _QUESTIONS for word in words):
        return False
    return words[0] not in _OTHER_COMMANDS and words[0] != STDIN and not words[0].startswith("-")


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one call of the container asks for."""

    bucket: str
    key: str
    audio: str
    table: str | None
    words: Sequence[str]
    """The same for the whisper command's parser."""

    @property
    def source(self) -> str:
        """Where the recording is."""
        return f"s3://{self.bucket}/{self.audio}"

    @property
    def result(self) -> str:
        """Where the transcript goes."""
        return f"s3://{self.bucket}/{self.key}"


def understand(words: Sequence[str], environ: Mapping[str, str] = os.environ) -> Call:
    """KEY AUDIO [PROMPT] [LANGUAGE], and after them any of the whisper command's options. Raises Usage."""
    count = next((index for index, word in enumerate(words) if word.startswith("--")), len(words))
    places = list(words[:count])
    options = arguments.spelled_out(words[count:], arguments.transcription_parser(environ))
    usage = "INPUT_BUCKET is set, so the call is KEY AUDIO [PROMPT] [LANGUAGE] [--option …]; unset it to name files."
    if not 2 <= len(places) <= 4:
        raise Usage(f"{len(places)} words where KEY AUDIO [PROMPT] [LANGUAGE] belong.", hint=usage)
    key, audio, prompt, language = [*places, "", ""][:4]
    if not key or not audio:
        raise Usage("KEY and AUDIO must not be empty.", hint=usage)
    if key == audio:
        raise Usage(f"KEY and AUDIO are both {key!r}: the transcript would take the recording's place.", hint=usage)
    for option in options:
        if option.partition("=")[0] in _OURS:
            raise Usage(f"{option} means nothing here: whisper's JSON goes into the bucket, under KEY.", hint=usage)
    bucket = environ["INPUT_BUCKET"].removeprefix("s3://").strip("/")
    call = [f"s3://{bucket}/{audio}"]
    call += [f"--initial_prompt={prompt}"] if prompt else []
    call += [f"--language={language}"] if language else []
    return Call(
        bucket=bucket, key=key, audio=audio, table=environ.get("DYNAMODB_TABLE") or None, words=[*call, *options]
    )


def run(call: Call) -> tuple[Job, dict[str, Any]]:
    """Transcribe; the job (its result, its loader) and its receipt. Raises RunnerError, after telling the table."""
    table = Table(call.table) if call.table else None
    if table is not None:
        table.begin(call)
    try:
        job, receipt = _transcribe(call)
    except RunnerError as error:
        _failed(table, call, error)
        raise
    except Exception as error:
        _failed(table, call, internal(error))
        raise
    except BaseException:
        _failed(table, call, Temporary("Stopped before the transcript was finished."))
        raise
    if table is not None:
        table.completed(call, receipt)
    return job, receipt


def _transcribe(call: Call) -> tuple[Job, dict[str, Any]]:
    parsed = arguments.parse(call.words)
    if len(parsed.audio) != 1:
        raise Usage(f"{parsed.audio[1]!r} belongs to no option.", hint="Options come last, each with its value.")
    warnings: list[str] = []
    with tempfile.TemporaryDirectory(prefix="transcription-job-") as folder:
        parsed.output_dir, parsed.output_format = folder, ("json",)
        settings = arguments.settings(parsed, warn=warnings)
        for warning in warnings:
            _log.warning("%s", warning)
        job = Job(settings)
        receipt = job.run(File(source=Source(text=call.source), name=Path(call.key).name or "transcript"))
    address = deliver(f"s3://{call.bucket}", {call.key: render(job.last_result or {}, "json")})[call.key]
    _log.info("copied to %s", address)
    receipt["result"] |= {"path": None, "url": address}
    return job, receipt


def _failed(table: Table | None, call: Call, error: RunnerError) -> None:
    """Tell the table of a failure; one in telling it must not hide the first."""
    if table is None:
        return
    try:
        table.failed(call, error)
    except RunnerError as second:
        _log.error("%s", second.message)


class Table:
    """A DynamoDB table that holds an item for each KEY; attributes that others put there are left alone."""

    def __init__(self, name: str, environ: Mapping[str, str] = os.environ) -> None:
        """Look at the table. Raises Usage, PermissionDenied, OutputFailed."""
        self._name = name
        session = importlib.import_module("boto3.session").Session()
        config = importlib.import_module("botocore.config").Config
        # boto3 reads AWS_DEFAULT_REGION alone; a container of ECS or Batch, and the predecessor's SDK, have AWS_REGION.
        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None
        if region is None and (environ.get("AWS_ENDPOINT_URL_DYNAMODB") or environ.get("AWS_ENDPOINT_URL")):
            region = "us-east-1"  # a store that is not Amazon's has no use for it, and no call is signed without one
        retries = {} if "AWS_MAX_ATTEMPTS" in environ else {"retries": {"max_attempts": 4, "mode": "standard"}}
        try:
            self._client = session.client(
                "dynamodb", region_name=region, config=config(connect_timeout=10, read_timeout=30, **retries)
            )
            described = self._client.describe_table(TableName=name)["Table"]
        except Exception as error:
            raise self._explain(error) from error
        self._key = self._partition_key(described)

    def begin(self, call: Call) -> None:
        """Say that the work has begun; what an earlier attempt left is forgotten."""
        now = _now()
        self._update(
            call.key,
            {"state": PROCESSING, "message": f"Transcribing {call.source}.", "audio": call.source, "started_at": now},
            forget=_OF_AN_EARLIER_ATTEMPT,
            now=now,
        )

    def completed(self, call: Call, receipt: Mapping[str, Any]) -> None:
        """Say that the transcript is in the bucket."""
        now = _now()
        values = {
            "state": COMPLETED,
            "message": f"Transcribed {receipt['duration']} s of audio to {call.result}.",
            "finished_at": now,
            "result": call.result,
            "language": str(receipt["language"]),
            "duration": receipt["duration"],
        }
        self._update(call.key, values, now=now)

    def failed(self, call: Call, error: RunnerError) -> None:
        """Say what went wrong, and what to do about it."""
        now = _now()
        values = {
            "state": FAILED,
            "message": scrub(f"{error.message} {error.hint or ''}".strip()),
            "finished_at": now,
            "error_class": error.error_class,
            "exit_code": error.exit_code,
        }
        self._update(call.key, values, now=now)

    def _update(self, key: str, values: Mapping[str, Any], *, now: str, forget: Sequence[str] = ()) -> None:
        values = {**values, "updated_at": now}
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in values)
        if forget:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in forget)
        try:
            self._client.update_item(
                TableName=self._name,
                Key={self._key: {"S": key}},
                UpdateExpression=expression,
                # Half of these names are words of DynamoDB's own.
                ExpressionAttributeNames={f"#{name}": name for name in (*values, *forget)},
                ExpressionAttributeValues={
                    f":{name}": {"S": value} if isinstance(value, str) else {"N": str(value)}
                    for name, value in values.items()
                },
            )
        except Exception as error:
            raise self._explain(error) from error

    def _partition_key(self, described: Mapping[str, Any]) -> str:
        """The name of the table's key, whatever it was called when the table was made."""
        keys = [entry["AttributeName"] for entry in described["KeySchema"]]
        types = {entry["AttributeName"]: entry["AttributeType"] for entry in described["AttributeDefinitions"]}
        if len(keys) != 1 or types[keys[0]] != "S":
            shown = ", ".join(f"{name} ({types[name]})" for name in keys)
            raise Usage(
                f"DYNAMODB_TABLE={self._name} has the key {shown}, which is not one text.",
                hint="Name a table whose partition key is a string (S), without a sort key.",
            )
        return str(keys[0])

    def _explain(self, error: Exception) -> RunnerError:
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        names = {kind.__name__ for kind in type(error).__mro__}
        detail = (scrub(str(error)).strip().rstrip(".") or type(error).__name__)[:300]
        shown = f"DYNAMODB_TABLE={self._name}"
        if code == "ResourceNotFoundException":
            return Usage(
                f"{shown}: there is no such table.", hint="Check its name, AWS_REGION and AWS_ENDPOINT_URL_DYNAMODB."
            )
        if "NoRegionError" in names or "ParamValidationError" in names or code == "ValidationException":
            return Usage(f"{shown} cannot be used: {detail}.", hint="Check the table's name, and set AWS_REGION.")
        if code in _REFUSED_CODES or names & _REFUSED_CLASSES:
            return PermissionDenied(
                f"{shown} refuses us: {detail}.",
                hint="The credentials need dynamodb:DescribeTable and dynamodb:UpdateItem on it.",
            )
        return OutputFailed(
            f"{shown} could not be reached: {detail}.", hint="Check AWS_REGION, AWS_ENDPOINT_URL and the network."
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
