from __future__ import annotations

import ssl

import pytest

from transcription_runner import certificates
from transcription_runner.errors import Usage


def test_nothing_to_do():
    environ = {}
    assert certificates.install(environ) is None
    assert environ == {}


def test_the_bundle_joins_the_systems(authority, tmp_path):
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    environ = {"TRANSCRIPTION_CA_BUNDLE": str(bundle)}
    joined = certificates.install(environ)
    assert joined is not None
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        assert environ[name] == str(joined)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(joined)
    assert len(context.get_ca_certs()) > 20
    assert authority.cert_pem.bytes().decode().strip() in joined.read_text()
    certificates.remove_joined()
    assert not joined.exists()


def test_a_bundle_that_is_none(tmp_path):
    with pytest.raises(Usage, match="cannot be read"):
        certificates.install({"TRANSCRIPTION_CA_BUNDLE": str(tmp_path / "none")})
    (tmp_path / "text").write_text("hello")
    with pytest.raises(Usage, match="no certificate"):
        certificates.install({"TRANSCRIPTION_CA_BUNDLE": str(tmp_path / "text")})
