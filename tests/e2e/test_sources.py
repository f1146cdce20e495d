"""A recording from everywhere people keep them, to the words in the resource's status."""

from __future__ import annotations

import json

from tests.e2e.world import durable_copy
from tests.materials import recordings
from tests.materials.wer import word_error_rate

DASHWOOD = (
    "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his power to do for them."
)


def test_a_wav_on_a_volume(namespace, volume, kubectl):
    job = namespace.job("interview", recording=recordings.dashwood())

    status = job.succeeded()

    assert status["result"]["text"].strip() == DASHWOOD
    assert status["result"]["language"] == status["language"] == "en"
    assert status["result"]["segments"][0]["start"] < 1 < status["result"]["segments"][-1]["end"]
    assert status["progress"]["percent"] == 100
    assert durable_copy(volume, job)["text"] == status["result"]["text"]
    assert status["resultRef"]["path"] == f"transcripts/{namespace.name}/interview/interview.json"
    # The two commands of the README.
    kubectl.run("wait", "--for=condition=Complete", "tj/interview", "-n", namespace.name, "--timeout=5s")
    text = kubectl.run("get", "tj", "interview", "-n", namespace.name, "-o", "jsonpath={.status.result.text}")
    assert text.strip() == DASHWOOD
    reasons = {e["reason"] for e in namespace.events("interview")}
    # A claim that is not bound yet is told in the place of the Job that waits for it.
    assert "Transcribed" in reasons
    assert reasons & {"JobCreated", "VolumeNotBound"}


def test_an_mp3_from_an_s3_server(namespace, s3_here):
    namespace.secret("reader", **s3_here.environment)

    job = namespace.job(
        "from-s3", audio=f"s3://{s3_here.bucket}/interviews/english.mp3", credentialsSecret={"name": "reader"}
    )

    assert word_error_rate(recordings.transcript(recordings.english()).text, job.succeeded()["result"]["text"]) < 0.1


def test_a_result_goes_to_its_own_output_too(namespace, s3_here):
    namespace.secret("writer", **s3_here.environment)

    job = namespace.job(
        "to-s3",
        recording=recordings.dashwood(),
        output={
            "formats": ["json", "srt"],
            "url": f"s3://{s3_here.bucket}/transcripts",
            "credentialsSecret": {"name": "writer"},
        },
    )

    status = job.succeeded()
    assert (
        json.loads(s3_here.files().cat(f"{s3_here.bucket}/transcripts/to-s3.json"))["text"] == status["result"]["text"]
    )
    assert s3_here.files().cat(f"{s3_here.bucket}/transcripts/to-s3.srt").decode().startswith("1\n00:00:0")


def test_an_https_url(namespace, https_here):
    job = namespace.job("from-web", audio=f"{https_here.url}/video.mp4")

    assert word_error_rate(recordings.transcript(recordings.video()).text, job.succeeded()["result"]["text"]) < 0.1


def test_french_and_spanish_are_heard_as_such(namespace):
    french = namespace.job("french", recording=recordings.french())
    spanish = namespace.job("spanish", recording=recordings.spanish())

    assert french.succeeded()["language"] == "fr"
    assert spanish.succeeded()["language"] == "es"


def test_twenty_minutes(namespace, kubectl, volume):
    path, transcript = recordings.english_20min().path, recordings.english_20min().transcript
    job = namespace.job("long", recording=path, language="en")

    on_the_way = job.until(
        lambda r: 0 < r["status"].get("progress", {}).get("percent", 0) < 100, "progress shows", seconds=400
    )
    assert on_the_way["status"]["phase"] == "Running"
    status = job.succeeded(seconds=900)

    whole = durable_copy(volume, job)
    starts = [s["start"] for s in whole["segments"]]
    assert starts == sorted(starts)
    assert abs(whole["segments"][-1]["end"] - transcript.utterances[-1].end) < 5
    assert word_error_rate(transcript.text, whole["text"]) < 0.2
    assert abs(status["duration"] - 1200) < 60
