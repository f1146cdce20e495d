"""A model at the Hub, or at a mirror of it (HF_ENDPOINT)."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import httpx2

from transcription_runner.backoff import Patience, retry_after
from transcription_runner.errors import ModelMissing, PermissionDenied, Reason, RunnerError, SourceUnreachable
from transcription_runner.origin import Arrival, Listing, RemoteFile
from transcription_runner.redact import host_of, scrub
from transcription_runner.transfer import Refused, download, proxy_refused, unreachable

_log = logging.getLogger(__name__)


class HubOrigin:
    """`repo` at `revision`; asked through huggingface_hub, and its files fetched by `transfer`."""

    def __init__(self, repo: str, revision: str, patience: Patience) -> None:
        """Read the endpoint and the token as huggingface_hub does."""
        from huggingface_hub import constants, get_token

        self.repo = repo
        self.revision = revision
        self._patience = patience
        self._endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self._token = get_token()
        self._commit = revision

    @property
    def host(self) -> str:
        """The Hub's."""
        return host_of(self._endpoint)

    @property
    def shown(self) -> str:
        """`owner/name@revision`."""
        return f"{self.repo}@{self.revision}"

    def list(self) -> Listing:
        """The commit of the revision and its files, asked again while the Hub fails. Raises RunnerError."""
        from huggingface_hub.errors import HfHubHTTPError

        patience = self._patience
        wait = patience.first_wait
        for attempt in range(1, patience.tries + 1):
            pause: float | None = None
            try:
                return self._ask()
            except HfHubHTTPError as error:
                status, headers = error.response.status_code, error.response.headers
                explained = self._refused(status, headers, scrub(str(error)))
                pause = retry_after(headers)
                final = status < 500 and status not in (408, 429)
                final = final or (pause or 0) > patience.longest_wait
                if final or attempt == patience.tries:
                    raise explained from error
            except httpx2.TransportError as error:
                explained = unreachable(error, self._endpoint, patience)
                if attempt == patience.tries or explained.finer == Reason.TLS_FAILURE:
                    raise explained from error
            pause = pause if pause is not None else min(wait, patience.longest_wait)
            wait *= 2
            _log.warning("%s Trying again in %.1f s.", explained.message, pause)
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _ask(self) -> Listing:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self._endpoint, token=self._token, library_name="transcription-runner")
        information = api.model_info(
            self.repo, revision=self.revision, files_metadata=True, timeout=self._patience.stall_seconds
        )
        if not information.sha:
            raise SourceUnreachable(f"{self.host} names no commit for {self.shown}.", reason=Reason.HUB_SERVER_ERROR)
        self._commit = information.sha
        files = []
        for sibling in information.siblings or ():
            blob = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
            if "/" not in sibling.rfilename and blob and sibling.size is not None:
                files.append(RemoteFile(name=sibling.rfilename, size=sibling.size, key=blob, blob=blob))
        return Listing(commit=information.sha, files=files)

    def fetch(self, file: RemoteFile, part: Path, start: int, arrival: Arrival) -> None:
        """Write a file's bytes from `start` on to `part`. Raises RunnerError."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils._headers import build_hf_headers

        # huggingface_hub's own client: its redirects, proxies and hooks; with our time limits.
        client = get_session()
        client.timeout = httpx2.Timeout(self._patience.stall_seconds, connect=self._patience.connect_seconds)
        try:
            download(
                client,
                hf_hub_url(self.repo, file.name, revision=self._commit, endpoint=self._endpoint),
                part,
                headers=build_hf_headers(token=self._token, library_name="transcription-runner"),
                start=start,
                expected_size=file.size,
                patience=self._patience,
                on_bytes=arrival.got,
                on_restart=arrival.restart,
                on_retry=arrival.retry,
            )
        except Refused as refusal:
            raise self._refused(refusal.status, httpx2.Headers(refusal.headers), str(refusal)) from refusal

    def _refused(self, status: int, headers: httpx2.Headers, detail: str) -> RunnerError:
        code = headers.get("X-Error-Code")
        how = (
            "Set HF_TOKEN (in a cluster the secret in hub.tokenSecret, or the WhisperModel's own) to a token that may "
            "read it, and accept its conditions on its page where it is gated."
        )
        if status == 407:
            return proxy_refused(self.host, None, "it wants a name and a password (407)")
        if code == "RevisionNotFound":
            return ModelMissing(
                f"{self.repo} at {self.host} has no revision {self.revision!r}.",
                hint="Check the branch, tag or commit.",
                reason=Reason.REVISION_NOT_FOUND,
            )
        if code == "GatedRepo" or status == 403:
            return PermissionDenied(
                f"{self.host} does not let us read {self.repo} ({status}).",
                hint=how,
                reason=Reason.GATED_REPOSITORY,
            )
        if status == 401 and not self._token:
            # The Hub answers so for a repository that is not there as well, to strangers.
            return PermissionDenied(
                f"{self.host} shows {self.repo} to nobody without a token (401): it is private, gated, or misspelt.",
                hint=f"Check the name. {how}",
                reason=Reason.UNAUTHORIZED,
            )
        if status == 401:
            return PermissionDenied(
                f"{self.host} refuses our token for {self.repo} (401).", hint=how, reason=Reason.UNAUTHORIZED
            )
        if status == 404 or code == "RepoNotFound":
            return ModelMissing(
                f"There is no model {self.repo} at {self.host}.",
                hint="Check the name; a private one needs HF_TOKEN.",
                reason=Reason.REPOSITORY_NOT_FOUND,
            )
        if status == 429:
            asked = retry_after(headers)
            when = f" and asks to be left alone for {asked:.0f} s (Retry-After)" if asked is not None else ""
            return SourceUnreachable(
                f"{self.host} finds that too much is asked of it (429){when}.",
                hint="Try again later; with HF_TOKEN set the Hub's limits are higher.",
                reason=Reason.RATE_LIMITED,
            )
        return SourceUnreachable(
            f"{self.host} answered {status} for {self.repo}: {detail[:200]}.",
            hint="The server failed; the next attempt may succeed.",
            reason=Reason.HUB_SERVER_ERROR,
        )
