"""What is made of settings and a spec."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.building import a_job, settings
from transcription_operator import names
from transcription_operator.manifests import model_job, quantity, resources, runner_job
from transcription_operator.spec import Spec
from transcription_operator.whispermodel.spec import ModelSpec
from transcription_operator.whispermodel.spec import parse as parse_model
from transcription_operator.whispermodel.views import Task

OWNER = runner_job.Owner("team-a", "interview", "uid-1")
MODEL = runner_job.Model("openai/whisper-base", "base", "model-uid.0")
LORA = runner_job.Model("owner/lora", "lora", "lora-uid.0")


def job_for(settings_changes: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    parsed = a_job().having(**spec).observed().spec
    assert isinstance(parsed, Spec)
    return runner_job.build(OWNER, parsed, settings(**(settings_changes or {})), model=MODEL)


def a_model(repo: str = "openai/whisper-base", revision: str = "main", **spec: Any) -> ModelSpec:
    return parse_model("base", {"source": {"hub": {"repo": repo, "revision": revision}}, **spec})


def model_job_for(model: ModelSpec, task: Task = Task.DOWNLOAD, **changes: Any) -> dict[str, Any]:
    return model_job.build(model, settings(**changes), model_job.Work(task, retries=2))


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


def runner_of(job: dict[str, Any]) -> dict[str, Any]:
    return pod_of(job)["containers"][0]


def env_of(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


def mounts_of(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


def arguments_of(**spec: Any) -> list[str]:
    return runner_of(job_for(**spec))["args"]


def test_the_simplest_job():
    job = job_for()
    assert runner_of(job)["args"] == [
        "s3://bucket/interview.mp3",
        "--model=openai/whisper-base",
        "--model_dir=/models",
        "--output_dir=/transcripts",
        "--output_name=interview",
        "--output_format=json",
        "--mode=batched",
        "--device=auto",
        "--engine=transformers",
    ]
    assert env_of(runner_of(job)) == {
        "HOME": "/tmp",
        "TRANSCRIPTION_JOB": "team-a/interview",
        "TRANSCRIPTION_JOB_UID": "uid-1",
        "TRANSCRIPTION_INLINE_LIMIT": "262144",
        "TRANSCRIPTION_REPORT_PATIENCE": "120",
        "HF_HUB_OFFLINE": "1",
        "TRANSCRIPTION_TERMINATION_LOG": "/dev/termination-log",
    }
    assert job["metadata"]["name"] == names.runner_job_name("interview", "uid-1")
    [owner] = job["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("uid-1", True)
    assert job["spec"]["backoffLimit"] == 3
    assert job["spec"]["suspend"] is False
    assert "ttlSecondsAfterFinished" not in job["spec"]


def test_the_folder_is_prepared_before_it_is_mounted():
    job = job_for()
    [prepare] = pod_of(job)["initContainers"]
    assert prepare["args"] == ["prepare-folder", "/cache/transcripts/team-a/interview"]
    mounts = mounts_of(runner_of(job))
    assert mounts["/models"] == {"name": "cache", "mountPath": "/models", "subPath": "models", "readOnly": True}
    assert mounts["/transcripts"]["subPath"] == "transcripts/team-a/interview"
    assert "/cache" not in mounts, "only its own folder"


def test_every_option():
    arguments = arguments_of(
        language="fr",
        languages=["en", "fr"],
        task="translate",
        initialPrompt="--help",
        carryInitialPrompt=True,
        hotwords="--no_vad, Digium",
        clipTimestamps="0,5",
        wordTimestamps=True,
        mode="sequential",
        device="cuda",
        engine="openai-whisper",
        decoding={
            "beamSize": 5,
            "temperature": 0,
            "temperatureIncrementOnFallback": 0,
            "conditionOnPreviousText": False,
            "suppressTokens": "-1",
        },
        vad={"enabled": True, "threshold": 0.4, "speechPadMs": 200},
        output={"formats": ["srt", "json"], "url": "s3://out/x/"},
    )
    assert arguments[5:] == [
        "--output_format=json,srt",
        "--output=s3://out/x/",
        "--mode=sequential",
        "--device=cuda",
        "--engine=openai-whisper",
        "--language=fr",
        "--languages=en,fr",
        "--task=translate",
        "--initial_prompt=--help",
        "--carry_initial_prompt=True",
        "--hotwords=--no_vad, Digium",
        "--clip_timestamps=0,5",
        "--word_timestamps=True",
        "--beam_size=5",
        "--temperature=0",
        "--temperature_increment_on_fallback=None",
        "--condition_on_previous_text=False",
        "--suppress_tokens=-1",
        "--vad_threshold=0.4",
        "--vad_speech_pad_ms=200",
    ]


def test_auto_is_left_to_the_runner():
    assert not any("language" in argument for argument in arguments_of(language="auto"))


def test_without_voice_activity_detection():
    arguments = arguments_of(vad={"enabled": False, "threshold": 0.5})
    assert arguments[-1] == "--no_vad"
    assert not any("threshold" in argument for argument in arguments)


def test_volumes_of_the_users_own():
    job = job_for(
        audio={"volume": {"claimName": "recordings", "path": "2026/a.mp3"}},
        output={"volume": {"claimName": "recordings", "path": "out"}},
    )
    assert runner_of(job)["args"][0] == "/audio/2026/a.mp3"
    assert "--output=/output/out" in runner_of(job)["args"]
    mounts = mounts_of(runner_of(job))
    assert mounts["/audio"]["readOnly"] is True
    assert "readOnly" not in mounts["/output"]
    claims = {v["name"]: v["persistentVolumeClaim"] for v in pod_of(job)["volumes"] if "persistentVolumeClaim" in v}
    assert claims["audio"] == {"claimName": "recordings", "readOnly": True}
    assert claims["output"] == {"claimName": "recordings"}


def test_a_fresh_cache_is_the_pods_own_and_online():
    job = job_for(cache="Fresh")
    assert {"name": "models", "emptyDir": {}} in pod_of(job)["volumes"]
    assert "HF_HUB_OFFLINE" not in env_of(runner_of(job))


def test_secrets_become_variables_once():
    job = job_for(credentialsSecret={"name": "keys"}, output={"url": "s3://x/", "credentialsSecret": {"name": "keys"}})
    assert runner_of(job)["envFrom"] == [{"secretRef": {"name": "keys"}}]


def test_the_outputs_own_secret_does_not_hide_the_sources():
    job = job_for(credentialsSecret={"name": "in"}, output={"url": "s3://x/", "credentialsSecret": {"name": "out"}})
    assert runner_of(job)["envFrom"] == [
        {"secretRef": {"name": "in"}},
        {"prefix": "TRANSCRIPTION_OUTPUT_", "secretRef": {"name": "out"}},
    ]


def test_scheduling_is_passed_through():
    job = job_for(
        nodeSelector={"pool": "gpu"},
        tolerations=[{"operator": "Exists"}],
        affinity={"nodeAffinity": {}},
        priorityClassName="low",
        runtimeClassName="nvidia",
        backoffLimit=0,
        activeDeadlineSeconds=60,
    )
    pod = pod_of(job)
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["affinity"] == {"nodeAffinity": {}}
    assert (pod["priorityClassName"], pod["runtimeClassName"]) == ("low", "nvidia")
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 60)


def test_a_queued_job_is_born_suspended():
    job = job_for(queueName="gpus")
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_every_container_is_restricted():
    for pod in (
        pod_of(job_for()),
        model_job_for(a_model("a/b"))["spec"]["template"]["spec"],
    ):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_hopeless_exit_codes_end_the_job():
    rules = job_for()["spec"]["podFailurePolicy"]["rules"]
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert [(r["action"], r["onExitCodes"]["containerName"]) for r in rules[1:]] == [
        ("FailJob", "runner"),
        ("FailJob", "prepare"),
    ]
    assert rules[1]["onExitCodes"]["values"] == [64, 65, 66, 77, 80]


def test_what_the_settings_add():
    changes = {
        "runner": {
            "caBundle": "PEM",
            "env": [{"name": "HTTPS_PROXY", "value": "http://p"}, {"name": "TRANSCRIPTION_JOB", "value": "forged"}],
        },
        "hub": {"endpoint": "http://hub"},
        "imagePullSecrets": [{"name": "one"}, "two"],
    }
    job = job_for(changes)
    env = env_of(runner_of(job))
    assert env["HTTPS_PROXY"] == "http://p"
    assert env["HF_ENDPOINT"] == "http://hub"
    assert env["TRANSCRIPTION_CA_BUNDLE"] == "/etc/transcription-ca/ca.pem"
    assert env["TRANSCRIPTION_JOB"] == "team-a/interview", "the contract's come last and win"
    assert mounts_of(runner_of(job))["/etc/transcription-ca"]["readOnly"] is True
    assert pod_of(job)["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


def test_a_runner_is_counted_as_a_user_of_its_model():
    job = job_for()
    assert job["metadata"]["labels"]["transcription.dev/model"] == "base"
    assert job["metadata"]["annotations"]["transcription.dev/model-version"] == "model-uid.0"


def test_an_adapter_is_passed_and_counted():
    parsed = a_job().with_adapter().observed().spec
    assert isinstance(parsed, Spec)

    def job(**changes: Any) -> dict[str, Any]:
        return runner_job.build(OWNER, parsed, settings(**changes), model=MODEL, adapter=LORA)

    assert runner_of(job())["args"][1:3] == ["--model=openai/whisper-base", "--model_dir=/models"]
    assert "--adapter=owner/lora" in runner_of(job())["args"]
    assert job()["metadata"]["labels"]["transcription.dev/adapter"] == "lora"
    assert job()["metadata"]["annotations"]["transcription.dev/adapter-version"] == "lora-uid.0"
    assert "/models" in mounts_of(runner_of(job(bakedModels=["base"]))), "the image has the model alone"
    assert "/models" not in mounts_of(runner_of(job(bakedModels=["base", "owner/lora"])))


def test_a_download():
    job = model_job_for(a_model("Some.One/whisper_X", "v1"), hub={"tokenSecret": "hf"})
    pod = pod_of(job)
    assert job["metadata"]["name"].startswith("model-some-one-whisper-x-")
    assert job["metadata"]["namespace"] == "transcription-system"
    assert job["metadata"]["annotations"] == {
        "transcription.dev/model": "Some.One/whisper_X@v1",
        "transcription.dev/whispermodel": "base",
        "transcription.dev/task": "download",
        "transcription.dev/retries": "2",
        "transcription.dev/repairs": "0",
    }
    assert runner_of(job)["args"] == [
        "models",
        "download",
        "Some.One/whisper_X",
        "--revision=v1",
        "--model_dir=/cache/models",
    ]
    assert pod["serviceAccountName"] == "transcription-download"
    assert env_of(runner_of(job))["TRANSCRIPTION_MODEL"] == "base"
    assert token_of(job) == {"name": "hf", "key": "token"}
    assert "ttlSecondsAfterFinished" not in job["spec"]


def token_of(job: dict[str, Any]) -> object:
    [token] = [v for v in runner_of(job)["env"] if v["name"] == "HF_TOKEN"]
    return token["valueFrom"]["secretKeyRef"]


def test_a_models_own_token_comes_before_the_settings():
    job = model_job_for(a_model(tokenSecret={"name": "gated"}), hub={"tokenSecret": "hf"})
    assert token_of(job) == {"name": "gated", "key": "token"}


@pytest.mark.parametrize(("task", "more"), [(Task.DOWNLOAD, []), (Task.REPAIR, ["--refresh"])])
def test_a_model_from_an_object_store(task, more):
    model = parse_model("ours", {"source": {"url": "s3://b/m"}, "credentialsSecret": {"name": "keys"}})
    container = runner_of(model_job_for(model, task, hub={"tokenSecret": "hf"}))
    assert container["args"] == [
        "models", "download", "s3://b/m", "--name=whispermodel/ours", "--model_dir=/cache/models", *more,
    ]  # fmt: skip
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert "HF_TOKEN" not in env_of(container), "a token of the Hub is nobody else's"


@pytest.mark.parametrize(
    ("model", "task", "arguments"),
    [
        (a_model(revision="v1"), Task.VERIFY, ["verify", "openai/whisper-base@v1"]),
        (a_model(), Task.REMOVE, ["remove", "openai/whisper-base", "--missing_ok"]),
        (parse_model("x", {"source": {"volume": {"path": "own/x/"}}}), Task.VERIFY, ["verify", "/cache/models/own/x"]),
        (parse_model("x", {"source": {"url": "s3://b/m"}}), Task.REMOVE, ["remove", "whispermodel/x", "--missing_ok"]),
    ],
)
def test_other_work_on_a_models_files(model, task, arguments):
    assert model_job.arguments(model, task) == ["models", *arguments, "--model_dir=/cache/models"]


DEFAULTS = {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "16Gi", "nvidia.com/gpu": 1}}


@pytest.mark.parametrize(
    ("wishes", "device", "expected"),
    [
        ({}, "auto", DEFAULTS),
        ({}, "cpu", {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "16Gi"}}),
        (
            {"limits": {"memory": "2Gi"}},
            "auto",
            {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi", "nvidia.com/gpu": 1}},
        ),
        (
            {"requests": {"memory": "32Gi"}},
            "auto",
            {"requests": {"cpu": "1", "memory": "32Gi"}, "limits": {"memory": "32Gi", "nvidia.com/gpu": 1}},
        ),
        (
            {"requests": {"nvidia.com/gpu": 2}, "limits": {"nvidia.com/gpu": 2}},
            "auto",
            {
                "requests": {"cpu": "1", "memory": "4Gi", "nvidia.com/gpu": 2},
                "limits": {"memory": "16Gi", "nvidia.com/gpu": 2},
            },
        ),
    ],
)
def test_resources(wishes, device, expected):
    assert resources.merge(DEFAULTS, wishes, device=device) == expected


def test_cuda_makes_sure_of_a_gpu():
    assert resources.merge({}, {}, device="cuda") == {"limits": {"nvidia.com/gpu": 1}}
    assert resources.merge({"limits": {"nvidia.com/mig-1g.5gb": 1}}, {}, device="cuda") == {
        "limits": {"nvidia.com/mig-1g.5gb": 1}
    }


@pytest.mark.parametrize(
    ("less", "more"), [("500m", 1), ("1", "1001m"), ("999Mi", "1Gi"), ("1G", "1Gi"), ("1e3", "1Ki"), (".5", "0.6")]
)
def test_quantities(less, more):
    assert quantity.parse(less) < quantity.parse(more)


@pytest.mark.parametrize("text", ["", "4 Gi", "Gi", "4gi", "0x4"])
def test_no_quantities(text):
    with pytest.raises(ValueError, match="no quantity"):
        quantity.parse(text)


NO_VOLUME: dict[str, Any] = {"cache": {"volume": {}}, "bakedModels": ["base"]}


def test_without_a_shared_volume_a_pod_keeps_to_itself():
    job = job_for(NO_VOLUME)
    pod, runner = pod_of(job), runner_of(job)
    assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert "initContainers" not in pod
    assert mounts_of(runner)["/transcripts"] == {"name": "transcripts", "mountPath": "/transcripts"}
    assert {"name": "transcripts", "emptyDir": {}} in pod["volumes"]
    assert "/models" not in mounts_of(runner)
    assert env_of(runner)["TRANSCRIPTION_EPHEMERAL"] == "1"
    assert env_of(runner)["HF_HUB_OFFLINE"] == "1"
    [_, rule] = job["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == "runner"


def test_a_baked_model_needs_no_mount_beside_a_shared_volume():
    runner = runner_of(job_for({"bakedModels": ["base"]}))
    assert "/models" not in mounts_of(runner), "the folder may not be there yet, and the node would make it as root"
    assert mounts_of(runner)["/transcripts"]["subPath"] == "transcripts/team-a/interview"
    assert "TRANSCRIPTION_EPHEMERAL" not in env_of(runner)
    assert "/models" in mounts_of(runner_of(job_for({"bakedModels": ["base"]}, model="small")))


def test_a_fresh_model_needs_no_shared_volume():
    job = job_for(NO_VOLUME, model="small", cache="Fresh")
    assert mounts_of(runner_of(job))["/models"] == {"name": "models", "mountPath": "/models"}
    assert {"name": "models", "emptyDir": {}} in pod_of(job)["volumes"]
