from __future__ import annotations

import pytest

from transcription_runner.redact import host_of, redact, scrub


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@host:8443/a/b.mp3?X-Amz-Signature=s#f", "https://…@host:8443/a/b.mp3?…"),
        ("s3://bucket/key with space.mp3", "s3://bucket/key with space.mp3"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("http://user:pass@[broken/a?q", "http://[broken/a"),
    ],
)
def test_redact(url, shown):
    assert redact(url) == shown


def test_scrub_finds_urls_inside_texts():
    text = "GET 'https://host/a?token=s3cret': failed (see http://u:s3cret@other/x?y=s3cret)."
    assert "s3cret" not in scrub(text)
    assert "host/a" in scrub(text)
    assert scrub(text).endswith(").")


def test_host_of():
    assert host_of("https://user:pass@host:8443/a") == "host:8443"
