"""The command: exit codes, messages, receipts, files."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.docs.options import whispers
from tests.materials import recordings, tiny_random
from tests.materials.faults import Fault
from tests.unit.runner_pod.conftest import RESULT, RUNNER, command, hub_cache
from transcription_runner import arguments, cli, job
from transcription_runner.errors import BadAudio, OutOfMemory, Usage
from transcription_runner.receipt import digest
from transcription_runner.writers import Layout, render


@pytest.fixture
def audio(tmp_path):
    path = tmp_path / "talk.mp3"
    path.write_bytes(b"sound")
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_help_is_quick_and_lists_every_command():
    script = (
        "import sys; from transcription_runner.cli import main; main(['--help']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for text in ("--initial_prompt", "--languages", "list|download|verify|remove|du", "prepare-folder", "80 corrupt"):
        assert text in done.stdout


def test_version(run):
    assert run("--version", model=False).out.startswith("transcription-runner ")


@pytest.fixture(scope="module")
def theirs() -> dict[str, argparse.Action]:
    """The options of the whisper command itself."""
    return {action.dest: action for action in whispers()._actions}


def test_every_option_of_whisper_with_its_default(theirs):
    ours = {action.dest: action for action in arguments.transcription_parser({})._actions}
    assert theirs.keys() <= ours.keys()
    for name, action in theirs.items():
        assert set(action.option_strings) <= set(ours[name].option_strings), name
        # Ours are found out later: the device by the engine, quiet in pods; the cache is Hugging Face's.
        if name not in ("help", "device", "verbose"):
            assert ours[name].default == action.default, name


def test_ours_are_those_that_whisper_has_not(theirs):
    names = {name for action in theirs.values() for name in action.option_strings}
    assert set(arguments.transcription_parser({}).options) - names == arguments.OURS


def test_every_abbreviation_means_what_it_means_to_whisper(theirs):
    """Each beginning of each of its options, asked of its own parser."""
    names = [name for action in theirs.values() for name in action.option_strings]
    names = [name for name in names if name.startswith("--")]
    parser = arguments.transcription_parser({})
    for beginning in {name[:end] for name in names for end in range(3, len(name) + 1)}:
        meant = [beginning] if beginning in names else [name for name in names if name.startswith(beginning)]
        if beginning in arguments.OURS:
            assert arguments.spelled_out([beginning], parser) == [beginning]
        elif len(meant) == 1:
            assert arguments.spelled_out([f"{beginning}=a=b"], parser) == [f"{meant[0]}=a=b"]
        else:
            with pytest.raises(Usage) as caught:
                arguments.spelled_out(["talk.mp3", beginning, "1"], parser)
            assert all(name in caught.value.message for name in meant)


def test_what_follows_two_dashes_is_no_option():
    parser = arguments.transcription_parser({})
    assert arguments.spelled_out(["--lang", "en", "--", "--lang"], parser) == ["--language", "en", "--", "--lang"]


def test_an_abbreviated_call(run, audio, out, listener):
    done = run(audio, "--output_d", out, "--output_f=json", "--lang", "fr", "--init", "Digium", "--verb", "False")
    assert done.code == 0, done.err
    assert [path.name for path in out.iterdir()] == ["talk.json"]
    assert (listener.options[0].language, listener.options[0].initial_prompt) == ("fr", "Digium")


def test_temperatures_are_whispers():
    import numpy as np

    for first in (0.0, 0.1, 0.5, 1.0):
        for step in (0.2, 0.3, 0.1):
            assert arguments.temperatures(first, step) == tuple(np.arange(first, 1.0 + 1e-6, step))
    assert arguments.temperatures(0.4, None) == (0.4,)
    assert arguments.temperatures(0.4, 0.0) == (0.4,)


def test_whispers_own_call(run, audio, out, listener):
    done = run(audio, "--output_dir", out)
    assert done.code == 0, done.err
    for name in ("txt", "vtt", "srt", "tsv", "json"):
        assert (out / f"talk.{name}").read_bytes() == render(RESULT, name, Layout())
    assert "[00:00.000 --> 00:01.500]  Hello world." in done.out
    assert "Detected language: English" in done.out
    options = listener.options[0]
    assert options.mode == "sequential"
    assert options.temperature == (0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0)


def test_every_option_arrives(run, audio, out, listener):
    words = """
        --task translate --language French --languages en,fr --temperature 0.2 --best_of 3 --beam_size None
        --length_penalty 0.5 --suppress_tokens 1,2 --initial_prompt Names --carry_initial_prompt True
        --hotwords Digium,IAX
        --condition_on_previous_text False --temperature_increment_on_fallback None --logprob_threshold None
        --compression_ratio_threshold 2.0 --no_speech_threshold 0.5 --word_timestamps True
        --hallucination_silence_threshold 2 --clip_timestamps 1,2 --mode batched --no_vad --vad_threshold 0.4
        --vad_speech_pad_ms 10 --batch_size 4 --prepend_punctuations a --append_punctuations b --fp16 False
    """.split()  # noqa: SIM905
    done = run(audio, "-o", out, "-f", "json,srt", "--verbose", "False", *words)
    assert done.code == 0, done.err
    assert done.out == ""
    assert sorted(path.name for path in out.iterdir()) == ["talk.json", "talk.srt"]
    got = listener.options[0]
    assert (got.task, got.language, got.languages, got.temperature) == ("translate", "fr", ("en", "fr"), (0.2,))
    assert (got.best_of, got.beam_size, got.length_penalty, got.suppress_tokens) == (3, None, 0.5, "1,2")
    assert (got.initial_prompt, got.carry_initial_prompt, got.condition_on_previous_text) == ("Names", True, False)
    assert got.hotwords == "Digium,IAX"
    assert (got.logprob_threshold, got.compression_ratio_threshold, got.no_speech_threshold) == (None, 2.0, 0.5)
    assert (got.word_timestamps, got.hallucination_silence_threshold) == (True, 2.0)
    assert got.clips == ((1.0, 2.0),)
    assert (got.mode, got.vad.enabled, got.vad.threshold, got.vad.speech_pad_ms) == ("batched", False, 0.4, 10)
    assert (got.batch_size, got.prepend_punctuations, got.append_punctuations) == (4, "a", "b")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "AUDIO"),
        (["a.mp3", "--fp16", "maybe"], "neither True nor False"),
        (["a.mp3", "--langage", "en"], "--langage"),
        (["a.mp3", "--hotw", "x"], "--hotw"),
        (["a.mp3", "--max", "1"], "--max_line_count or --max_line_width or --max_words_per_line"),
        (["a.mp3", "--adapter", "lora"], "is no folder"),
        (["a.mp3", "--language", "klingon"], "klingon"),
        (["a.mp3", "--output_format", "doc"], "doc"),
        (["a.mp3", "--device", "tpu"], "tpu"),
        (["a.mp3", "--compute_type", "int4"], "int8"),
        (["a.mp3", "--model", "bas"], "bas"),
        (["a.mp3", "--beam_size", "x"], "whole number"),
        (["a.mp3", "--max_line_width", "40"], "--word_timestamps True"),
        (["a.mp3", "b.mp3", "--output_name", "x"], "several"),
        (["a.mp3", "--output_name", "../x"], "no file name"),
        (["-", "-"], "once"),
        (["a.mp3", "--threads", "-1"], "--threads must lie between 0 and"),
        (["a.mp3", "--clip_timestamps", "5,1"], "clip"),
        (["a.mp3", "--temperature_increment_on_fallback", "1e-9"], "too small"),
        (["a.mp3", "--vad_threshold", "2"], "vad_threshold"),
        (["models"], "download"),
        (["models", "download"], "MODEL"),
        (["models", "download", "/a/path"], "is a path"),
        (["prepare-folder"], "DIR"),
    ],
)
def test_usage(run, words, said):
    done = run(*words, model=False)
    assert done.code == 64
    assert said in done.err
    error = done.receipt["error"]
    assert (error["class"], error["code"]) == ("Usage", 64)
    assert said in error["message"]


def test_device_variable(run, audio, out, listener):
    assert run(audio, "-o", out, DEVICE="cpu").code == 0
    assert "DEVICE" in run(audio, "-o", out, DEVICE="tpu").err


def test_files_of_one_name_do_not_overwrite_each_other(run, tmp_path, out, listener):
    for name in ("a.mp3", "a.wav", "b.mp3"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.mp3").write_bytes(b"other")
    files = [tmp_path / "a.mp3", tmp_path / "a.wav", tmp_path / "b.mp3", tmp_path / "x" / "a.mp3"]
    assert run(*files, "-o", out, "-f", "txt").code == 0
    names = ["a.mp3-2.txt", "a.mp3.txt", "a.wav.txt", "b.txt"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert listener.loaded == 1
    assert len(listener.heard) == 4


def test_one_failed_file_does_not_stop_the_others(run, tmp_path, audio, out, listener):
    done = run(tmp_path / "gone.mp3", audio, "-o", out, "-f", "txt")
    assert done.code == 66
    assert (out / "talk.txt").exists()
    assert "gone.mp3 is skipped" in done.err
    assert done.receipt["error"]["class"] == "SourceMissing"


def three(tmp_path):
    files = [tmp_path / name for name in ("a.mp3", "b.mp3", "c.mp3")]
    for path in files:
        path.write_bytes(path.name.encode())
    return files


def test_several_files_share_batches(run, tmp_path, out, listener):
    files = three(tmp_path)
    done = run(*files, "-o", out, "-f", "json,txt")
    assert done.code == 0, done.err
    assert listener.together == ["c.mp3", "b.mp3", "a.mp3"], "in the order of their ends"
    assert sorted(path.name for path in out.iterdir()) == [f"{n}.{f}" for n in "abc" for f in ("json", "txt")]
    assert done.out.count("Hello world.") == 3
    assert done.receipt["result"]["path"] == str(out / "c.json"), "the last of the command line"
    assert set(done.receipt["timings"]) == {"fetch", "load", "transcribe", "total"}
    assert done.receipt["duration"] == 1.5


def test_where_the_time_went_is_told_on_standard_error(run, audio, out, listener):
    done = run(audio, "-o", out, "--profile")
    assert done.code == 0, done.err
    assert re.search(r"^start +\d", done.err, re.MULTILINE)
    assert "engine busy: " in done.err
    assert {"start", "fetch", "write", "wall", "busy", "total"} <= set(done.receipt["timings"])


def test_the_time_of_loading_is_not_the_transcriptions(run, tmp_path, out, listener, monkeypatch):
    load = job._engine

    def slow(*words):
        time.sleep(1)
        return load(*words)

    monkeypatch.setattr(job, "_engine", slow)
    many = listener.transcribe_many

    def in_order(engine, files, options, *, on_progress):
        for path in files:
            yield from many(engine, [path], options, on_progress=on_progress)

    listener.transcribe_many = in_order
    done = run(*three(tmp_path)[:1], tmp_path / "gone.mp3", "-o", out)
    assert done.code == 66
    [seconds] = re.findall(r"of audio in ([0-9.]+) s", done.err)
    assert float(seconds) < 0.9


def test_one_file_and_a_pod_do_not_share(run, tmp_path, out, listener):
    files = three(tmp_path)
    assert run(files[0], "-o", out).code == 0
    assert run(*files[:2], "-o", out, **POD).code == 0
    assert run(*files[1:], "-o", out, "--engine", "openai-whisper").code == 0
    assert listener.together == []
    assert listener.heard == [b"a.mp3", b"a.mp3", b"b.mp3", b"b.mp3", b"c.mp3"]


def test_the_exit_code_is_that_of_the_first_file_that_failed(run, server, tmp_path, out, listener):
    files = three(tmp_path)
    transcribe = listener.transcribe

    def bad(engine, path, options, on_progress):
        if path.name != "c.mp3":
            raise BadAudio(f"{path.name}: no audio stream")
        return transcribe(engine, path, options, on_progress=on_progress)

    listener.transcribe = bad
    done = run(files[0], tmp_path / "gone.mp3", server.put("b.mp3", b"b"), files[2], "-o", out, "-f", "txt")
    assert done.code == 65
    assert done.receipt["error"]["message"] == "a.mp3: no audio stream"
    assert [path.name for path in out.iterdir()] == ["c.txt"]
    for name in (files[0], tmp_path / "gone.mp3", f"{server.url}/b.mp3"):
        assert f"{name} is skipped" in done.err
    assert not list(Path(tempfile.gettempdir()).glob("transcription-source-*/b.mp3"))


def test_where_a_batch_is_too_much_files_go_one_at_a_time(run, tmp_path, out, listener, server):
    files = three(tmp_path)
    many = listener.transcribe_many

    def too_much(engine, audio, options, *, on_progress):
        outcomes = many(engine, [next(audio), next(audio)], options, on_progress=on_progress)
        yield next(outcomes)
        raise OutOfMemory("the GPU's memory is not enough")

    listener.transcribe_many = too_much
    done = run(*files, server.put("d.mp3", b"d.mp3"), "-o", out, "-f", "txt")
    assert done.code == 0, done.err
    assert "Going on with one file at a time" in done.err
    assert listener.heard == [b"b.mp3", b"a.mp3", b"c.mp3", b"d.mp3"]
    assert sorted(path.name for path in out.iterdir()) == ["a.txt", "b.txt", "c.txt", "d.txt"]


@pytest.mark.parametrize(("error", "code"), [(Usage("no such language"), 64), (ZeroDivisionError("x"), 70)])
def test_what_concerns_every_file_is_told_once(run, tmp_path, out, listener, error, code):
    def never(*_, **__):
        raise error
        yield

    listener.transcribe_many = never
    done = run(*three(tmp_path), "-o", out)
    assert done.code == code
    assert done.receipt["error"]["code"] == code
    assert done.err.count("no such language") == (code == 64)
    assert not list(out.iterdir())


def test_a_missing_model_is_told_once_for_several_files(run, tmp_path, out):
    done = run(*three(tmp_path), "-o", out, "--model", "tiny", "--model_dir", tmp_path / "empty", model=False)
    assert done.code == 66
    assert done.err.count("is not in") == 1


def test_standard_input(run, out, listener, monkeypatch):
    read, write = os.pipe()
    os.write(write, b"sound")
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run("-", "-o", out, "-f", "json").code == 0
    assert listener.heard == [b"sound"]
    assert (out / "-.json").exists()


def test_models_that_are_not_there(run, audio, out, tmp_path):
    empty = tmp_path / "empty"
    done = run(audio, "-o", out, "--model", "tiny", "--model_dir", empty, model=False)
    assert done.code == 66
    assert "openai/whisper-tiny is not in" in done.err
    assert done.receipt["error"]["class"] == "ModelMissing"
    assert "models download openai/whisper-tiny" in done.receipt["error"]["hint"]


def test_models_that_are_corrupt(run, audio, out, tmp_path):
    folder = hub_cache(tmp_path / "broken")
    (folder / "blobs" / "blob-of-model.safetensors").unlink()
    done = run(audio, "-o", out, "--model", "base", "--model_dir", tmp_path / "broken", model=False)
    assert done.code == 80
    assert done.receipt["error"]["class"] == "CorruptModelCache"


def test_errors_name_the_source_and_not_the_spool(run, server, out, listener):
    url = server.put("noise.bin", b"no sound")

    def transcribe(engine, path, options, on_progress):
        raise BadAudio(f"{path}: no audio stream", hint="h")

    listener.transcribe = transcribe
    done = run(f"{url}?signature=s3cret", "-o", out)
    assert done.code == 65
    assert done.receipt["error"]["message"].startswith(f"{url}?…: no audio stream")
    assert "s3cret" not in done.err
    assert "transcription-source" not in done.err


def test_the_unforeseen_is_70_with_a_receipt(run, audio, out, listener):
    listener.error = ZeroDivisionError("division by zero")
    done = run(audio, "-o", out)
    assert done.code == 70
    assert done.receipt["error"]["message"] == "ZeroDivisionError: division by zero"
    assert "Traceback" in done.err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")])
def test_out_of_memory(run, audio, out, listener, error):
    listener.error = error
    done = run(audio, "-o", out)
    assert done.code == 75
    assert done.receipt["error"]["class"] == "OutOfMemory"


def test_an_output_that_cannot_be_written_is_told_before_the_work(run, audio, tmp_path, listener):
    (tmp_path / "file").write_bytes(b"")
    done = run(audio, "-o", tmp_path / "file")
    assert done.code == 74
    assert listener.loaded == 0


# In a pod


POD = {"TRANSCRIPTION_JOB": "team/talk", "HOSTNAME": "tj-talk-0123abcd-x7k2p"}


def pod(run, audio, out, *words, **environ):
    return run(audio, "-o", out, "--output_name", "talk", "-f", "json,srt", *words, **{**POD, **environ})


def test_a_pod_leaves_a_receipt(run, audio, out, listener):
    done = pod(run, audio, out)
    assert done.code == 0
    assert done.out == ""
    data = (out / "talk.json").read_bytes()
    receipt = done.receipt
    assert receipt["result"]["path"] == "transcripts/team/talk/talk.json"
    assert receipt["result"]["bytes"] == len(data)
    assert receipt["result"]["digest"] == digest(RESULT)
    assert (receipt["text"], receipt["language"], receipt["segments"]) == (RESULT["text"], "en", 1)
    assert receipt["duration"] == 1.5
    assert receipt["delivered"] is False
    assert set(receipt["timings"]) == {"fetch", "load", "transcribe", "total"}
    assert receipt["model"] == "openai/whisper-base"


def test_a_second_attempt_delivers_what_the_first_wrote(run, audio, out, listener):
    first = pod(run, audio, out)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".srt"}
    (out / "talk.srt").unlink()
    listener.result["text"] = "something else"
    second = pod(run, audio, out, HOSTNAME="tj-talk-0123abcd-q9w8e")
    assert second.code == 0
    assert listener.loaded == 1
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".srt"} == before
    assert (out / "talk.srt").exists()
    for key in ("result", "text", "duration", "model", "device", "segments"):
        assert second.receipt[key] == first.receipt[key]


def test_a_new_job_of_the_same_name_is_transcribed_anew(run, audio, out, listener):
    pod(run, audio, out)
    listener.result["text"] = "something else"
    done = pod(run, audio, out, HOSTNAME="tj-talk-fedc9876-x7k2p")
    assert done.receipt["text"] == "something else"
    assert pod(run, audio, out, "--language", "fr", HOSTNAME="tj-talk-fedc9876-x7k2p").code == 0
    assert listener.loaded == 3


def test_the_jobs_own_output(run, audio, out, tmp_path, listener):
    done = pod(run, audio, out, "--output", str(tmp_path / "mine"))
    assert done.receipt["result"]["url"] == str(tmp_path / "mine" / "talk.json")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["talk.json", "talk.srt"]
    (tmp_path / "blocked").write_bytes(b"")
    done = pod(run, audio, out, "--output", str(tmp_path / "blocked"))
    assert done.code == 74
    assert listener.loaded == 1


def test_sigterm_ends_cleanly(server, tmp_path):
    """While the audio stalls, and while a model would be loaded."""
    url = server.put("slow.mp3", b"x" * 1000)
    server.behaviour.add(Fault("stall", at=100))
    root = tmp_path / "models"
    hub_cache(root)
    log = tmp_path / "log"
    process = subprocess.Popen(
        [*RUNNER, url, "--model", "base", "--model_dir", str(root), "-o", str(tmp_path / "out")],
        env={**os.environ, "TRANSCRIPTION_TERMINATION_LOG": str(log), "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("transcription-source-*/slow.mp3")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 143, errors
    assert "SIGTERM" in json.loads(log.read_text())["error"]["message"]
    assert not list(tmp_path.glob("transcription-source-*"))


def test_a_missing_source_ends_the_process_while_the_model_loads(server, tmp_path):
    hub_cache(tmp_path / "models")
    done = command(
        f"{server.url}/gone.mp3", "--model", "base", "--model_dir", tmp_path / "models", "-o", tmp_path / "out"
    )
    assert done.code == 66, done.err
    assert "gone.mp3" in done.err


def test_the_real_thing(tmp_path):
    """A small random model: it writes nonsense, but all parts are the real ones."""
    log, out = tmp_path / "log", tmp_path / "out"
    done = command(
        recordings.dashwood(),
        *("--model", tiny_random.tiny_random(), "-o", out, "--output_name", "talk", "-f", "json,vtt"),
        *("--temperature_increment_on_fallback", "None", "--beam_size", "None", "--language", "en"),
        *("--clip_timestamps", "0,1"),
        TRANSCRIPTION_TERMINATION_LOG=str(log),
        HF_HUB_OFFLINE="1",
    )
    assert done.code == 0, done.err
    receipt = json.loads(log.read_text())
    result = json.loads((out / "talk.json").read_bytes())
    assert result["language"] == receipt["language"] == "en"
    assert receipt["duration"] == pytest.approx(1.0, abs=0.1)  # of the clip
    assert receipt["result"]["digest"] == digest(result)
    assert (out / "talk.vtt").read_text().startswith("WEBVTT")


def test_the_real_thing_on_several_files(tmp_path):
    """The same text as one by one; one file that cannot be read is skipped, and the exit code says so."""
    good = [recordings.dashwood(), recordings.telephone()]
    words = [
        *("--model", tiny_random.tiny_random(), "-f", "json", "--verbose", "False"),
        *("--temperature_increment_on_fallback", "None", "--beam_size", "None", "--language", "en"),
        *("--clip_timestamps", "0,1"),
    ]
    alone, together = tmp_path / "alone", tmp_path / "together"
    for path in good:
        assert command(path, "-o", alone, *words, HF_HUB_OFFLINE="1").code == 0
    done = command(good[0], recordings.empty(), good[1], "-o", together, *words, HF_HUB_OFFLINE="1")
    assert done.code == 65, done.err
    assert "empty.wav is skipped" in done.err
    assert sorted(path.name for path in together.iterdir()) == sorted(path.name for path in alone.iterdir())
    for path in alone.iterdir():
        ours, theirs = json.loads((together / path.name).read_bytes()), json.loads(path.read_bytes())
        assert ours["text"] == theirs["text"]
        assert [s["tokens"] for s in ours["segments"]] == [s["tokens"] for s in theirs["segments"]] != []


# models


def test_models_list_and_verify(tmp_path):
    hub_cache(tmp_path / "models")
    done = command("models", "list", "--model_dir", tmp_path / "models", "--json")
    [entry] = json.loads(done.out)
    assert (entry["repo"], entry["state"]) == ("openai/whisper-base", "ready")
    assert command("models", "verify", "base", "--model_dir", tmp_path / "models").code == 0
    assert command("models", "verify", "tiny", "--model_dir", tmp_path / "models").code == 66


def test_main_restores_the_signals(run, audio, out, listener):
    before = signal.getsignal(signal.SIGTERM)
    run(audio, "-o", out)
    assert signal.getsignal(signal.SIGTERM) is before
    assert cli.Stopped(signal.SIGTERM).exit_code == 143
