"""What is decided from what is seen."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.operator.building import MODEL, NOW, RESULT, a_job, condition, state
from transcription_operator import names
from transcription_operator.decide import (
    AskForModel,
    AskForRepair,
    CreateJob,
    DeleteJob,
    DeleteResource,
    EnsureAccess,
    EnsureModel,
    MarkFinished,
    SetSuspend,
    decide,
)
from transcription_operator.manifests.runner_job import Model
from transcription_operator.models import ModelRef

BASE = ModelRef("openai/whisper-base")
CACHED = Model("openai/whisper-base", MODEL, "model-uid.0")


def plan_of(job: a_job):
    return decide(job.observed())


# --- the model ---------------------------------------------------------------------------------------------


def test_a_new_job_waits_for_its_model_and_no_pod_exists_meanwhile():
    plan = plan_of(a_job().whose_model_is("Absent"))
    assert plan.actions == (EnsureModel(BASE),)
    assert plan.status["phase"] == "WaitingForModel"
    assert state(plan, "ModelReady") == "False/Downloading"
    assert MODEL in condition(plan, "ModelReady")["message"]
    assert "jobName" not in plan.status  # until there is one, the spec may change
    assert plan.waits_for == MODEL


def test_while_the_model_is_on_its_way_nothing_is_done():
    plan = plan_of(a_job().whose_model_is("Waiting", message="Its pod does not start: no node"))
    assert plan.actions == ()
    assert "no node" in condition(plan, "ModelReady")["message"]


def test_once_the_model_is_there_the_job_is_made():
    plan = plan_of(a_job())
    assert plan.actions == (EnsureAccess(), CreateJob(CACHED))
    assert plan.status["phase"] == "Pending"
    assert plan.status["jobName"].startswith("tj-interview-")
    assert state(plan, "ModelReady") == "True/Ready"


def test_a_model_in_the_image_waits_for_nothing():
    plan = plan_of(a_job().whose_model_is("Baked", uid=None))
    assert state(plan, "ModelReady") == "True/Baked"
    assert isinstance(plan.actions[-1], CreateJob)


def test_without_a_volume_no_other_model_can_be_had():
    plan = plan_of(a_job().of_model("small").whose_model_is("NoVolume", uid=None, message="Name another."))
    assert state(plan, "Failed") == "True/ModelNotAvailable"
    assert "Name another." in condition(plan, "Failed")["message"]
    assert plan.actions == (MarkFinished(),)


def test_a_fresh_cache_waits_for_nothing():
    plan = plan_of(a_job().having(cache="Fresh").whose_model_is("NotNeeded", uid=None))
    assert state(plan, "ModelReady") == "True/NotNeeded"
    assert isinstance(plan.actions[-1], CreateJob)


@pytest.mark.parametrize("error_class", ["ModelMissing", "PermissionDenied", "SourceMissing", "Usage"])
def test_a_model_that_cannot_be_had_fails_the_jobs_that_waited_for_it(error_class):
    plan = plan_of(a_job().whose_download_failed(error_class))
    assert state(plan, "Failed") == "True/ModelNotAvailable"
    message = condition(plan, "Failed")["message"]
    assert "no such model. Do this." in message
    assert "apply it again" in message
    assert plan.actions == (MarkFinished(),)


def test_a_job_applied_after_that_failure_has_the_download_tried_again():
    plan = plan_of(a_job().whose_download_failed("ModelMissing", ago=timedelta(hours=2)))
    assert plan.actions == (AskForModel(MODEL, "download-uid"),)
    assert plan.status["phase"] == "WaitingForModel"


def test_a_download_that_may_work_later_is_waited_for():
    job = a_job().whose_model_is("Retrying", reason="RateLimited", message="It is tried again at 12:00:40.")
    plan = plan_of(job)
    assert plan.actions == ()
    assert state(plan, "ModelReady") == "False/DownloadFailed"
    assert "RateLimited: It is tried again at 12:00:40." in condition(plan, "ModelReady")["message"]


def test_files_that_were_evicted_are_asked_for_again():
    plan = plan_of(a_job().whose_model_is("Evicted", last_job="removal-uid"))
    assert plan.actions == (AskForModel(MODEL, "removal-uid"),)
    assert plan.status["phase"] == "WaitingForModel"


def test_a_model_that_policy_forbids_fails_with_what_to_do():
    plan = plan_of(a_job().whose_model_is("NotAllowed", uid=None, message="Ask the administrator."))
    assert state(plan, "Failed") == "True/ModelNotAllowed"
    assert condition(plan, "Failed")["message"] == "Ask the administrator."
    assert plan.actions == (MarkFinished(),)


def test_a_model_that_nobody_knows_is_waited_for():
    job = a_job().of_model("large-v33").whose_model_is("NotFound", name="large-v33", message="Did you mean large-v3?")
    plan = plan_of(job)
    assert plan.actions == ()
    assert plan.status["phase"] == "WaitingForModel"
    assert state(plan, "ModelReady") == "False/ModelNotFound"
    assert plan.waits_for == "large-v33"


# --- its adapter -------------------------------------------------------------------------------------------

LORA = Model("owner/lora", "lora", "lora-uid.0")


def test_an_adapter_is_there_before_the_job_as_well():
    plan = plan_of(a_job().with_adapter("Waiting"))
    assert plan.actions == ()
    assert (plan.status["phase"], plan.waits_for) == ("WaitingForModel", "lora")
    assert "WhisperModel lora brings owner/lora" in condition(plan, "ModelReady")["message"]
    plan = plan_of(a_job().with_adapter())
    assert plan.actions == (EnsureAccess(), CreateJob(CACHED, LORA))
    message = condition(plan, "ModelReady")["message"]
    assert MODEL in message
    assert "owner/lora@main is in the cache (WhisperModel lora)" in message


def test_model_and_adapter_come_at_the_same_time():
    plan = plan_of(a_job().whose_model_is("Absent").with_adapter("Absent", uid=None))
    assert plan.actions == (EnsureModel(BASE), EnsureModel(ModelRef("owner/lora")))
    assert plan.waits_for == MODEL


@pytest.mark.parametrize("status", ["NotAllowed", "Unusable", "NoVolume", "Failed"])
def test_an_adapter_that_cannot_be_had_ends_the_job_before_its_model_is_asked_for(status):
    job = a_job().whose_model_is("Absent").with_adapter(status, message="Do this.", failed_at=NOW)
    plan = plan_of(job)
    assert plan.status["phase"] == "Failed"
    assert "Do this." in condition(plan, "Failed")["message"]
    assert plan.actions == (MarkFinished(),)


def test_what_may_be_damaged_is_repaired_the_adapter_too():
    relied_on = {names.ANNOTATION_MODEL_VERSION: "model-uid.0", names.ANNOTATION_ADAPTER_VERSION: "lora-uid.0"}
    job = a_job().with_adapter().with_failed_job().with_failure("CorruptModelCache")
    job.with_job(ended="Failed", ended_at=NOW, annotations=relied_on)
    plan = plan_of(job)
    assert plan.actions == (
        AskForRepair(MODEL, "model-uid.0"),
        AskForRepair("lora", "lora-uid.0"),
        DeleteJob("job-uid"),
    )
    job.after(plan).with_adapter(repairs=1)._job = None
    repaired = plan_of(job)
    assert state(repaired, "ModelReady") == "True/Repaired"
    job.with_job(ended="Failed", ended_at=NOW, annotations={names.ANNOTATION_ADAPTER_VERSION: "lora-uid.1"})
    baked = plan_of(job.whose_model_is("Baked", uid=None).with_adapter(repairs=1))
    assert baked.actions == (AskForRepair("lora", "lora-uid.1"), DeleteJob("job-uid")), "the image is not repaired"


# --- suspension and queues ---------------------------------------------------------------------------------


def test_a_suspended_job_makes_nothing():
    plan = plan_of(a_job().suspended().whose_model_is("Absent"))
    assert plan.actions == ()
    assert plan.status["phase"] == "Suspended"
    assert state(plan, "Suspended") == "True/Suspended"


def test_suspending_reaches_the_job():
    plan = plan_of(a_job().suspended().with_job())
    assert SetSuspend("job-uid", True) in plan.actions


def test_resuming_reaches_the_job_and_is_told():
    suspended = a_job().suspended().with_job(suspended=True)
    suspended.after(plan_of(suspended)).having(suspend=False)
    assert plan_of(suspended).actions == (SetSuspend("job-uid", False),)
    plan = plan_of(suspended.with_job())
    assert state(plan, "Suspended") == "False/Resumed"


@pytest.mark.parametrize("suspended", [True, False])
@pytest.mark.parametrize("wish", [True, False])
def test_a_queued_jobs_suspension_is_the_queues_alone(suspended, wish):
    plan = plan_of(a_job().queued_in("gpus").having(suspend=wish).with_job(suspended=suspended))
    assert not any(isinstance(action, SetSuspend) for action in plan.actions)


def test_waiting_in_a_queue_is_told():
    plan = plan_of(a_job().queued_in("gpus").with_job(suspended=True))
    assert plan.status["phase"] == "Suspended"
    assert "queue gpus" in condition(plan, "Suspended")["message"]


# --- on its way --------------------------------------------------------------------------------------------


def test_running():
    plan = plan_of(a_job().with_job(active=1).with_pod("Running", running=True, started_at=NOW))
    assert plan.status["phase"] == "Running"
    assert state(plan, "Started") == "True/Running"
    assert plan.status["startTime"] == "2026-11-22T12:00:00Z"
    assert plan.status["attempts"] == 1
    assert plan.requeue is None


def test_the_start_time_never_moves():
    job = a_job().with_status(startTime="2026-11-22T10:00:00Z").with_job(active=1)
    plan = plan_of(job.with_pod("Running", running=True, started_at=NOW))
    assert plan.status["startTime"] == "2026-11-22T10:00:00Z"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Unschedulable", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
        ("VolumeNotBound", 'persistentvolumeclaim "recordings" not found'),
        ("ImagePullFailed", "ErrImagePull: not found"),
        ("ContainerConfigError", 'CreateContainerConfigError: secret "keys" not found'),
    ],
)
def test_a_pod_that_does_not_start_says_why(reason, words):
    from transcription_operator.views import Trouble

    plan = plan_of(a_job().with_job(active=1).with_pod(trouble=Trouble(reason, words)))
    assert plan.status["phase"] == "Pending"
    assert state(plan, "Started") == f"False/{reason}"
    message = condition(plan, "Started")["message"]
    assert words in message
    assert "pod-0" in message


def test_a_job_that_cannot_make_its_pod_says_why():
    plan = plan_of(a_job().with_job().with_warning("FailedCreate: exceeded quota: gpus"))
    assert "exceeded quota" in condition(plan, "Started")["message"]
    assert plan.actions == (EnsureAccess(),)
    assert plan.requeue


def test_a_second_attempt_tells_what_became_of_the_first():
    job = a_job().with_job(active=1, failed=1).with_failure("SourceUnreachable", "no route to host")
    plan = plan_of(job.with_pod("Running", running=True))
    message = condition(plan, "Started")["message"]
    assert "Attempt 2 of 4." in message
    assert "SourceUnreachable: no route to host" in message
    assert plan.status["attempts"] == 2


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_between_a_pods_end_and_the_jobs_verdict_nothing_changes(phase):
    job = a_job().with_job(active=1).with_pod("Running", running=True, started_at=NOW)
    running = plan_of(job)
    job.after(running)._pods.clear()
    plan = plan_of(job.with_pod(phase))
    assert plan.status == running.status
    assert plan.actions == ()


def test_a_foreign_job_of_the_name_is_a_conflict():
    plan = plan_of(a_job().with_job(owner_uid="somebody else's"))
    assert state(plan, "Started") == "False/JobConflict"
    assert plan.actions == ()
    assert plan.requeue


def test_a_job_deleted_by_hand_is_made_again_and_its_attempts_count():
    job = a_job().with_status(attempts=2, jobName="x").with_condition("Started", True, "Running")
    plan = plan_of(job)
    assert state(plan, "Started") == "False/JobDeleted"
    assert plan.actions[-1] == CreateJob(CACHED, attempts_before=2)


def test_a_resource_that_is_being_deleted_is_left_alone():
    plan = plan_of(a_job().being_deleted().with_complete_job().with_receipt())
    assert plan.status is None
    assert plan.actions == ()


# --- done --------------------------------------------------------------------------------------------------


def test_receipt_and_result_agree():
    plan = plan_of(a_job().with_complete_job().with_receipt().with_result())
    assert plan.status["phase"] == "Succeeded"
    assert state(plan, "Complete") == "True/Transcribed"
    assert condition(plan, "Complete")["message"] == "Transcribed 4.96 s of audio in 5 s (en, 1 segment)."
    assert plan.status["resultRef"] == {
        "path": "transcripts/team-a/interview/interview.json",
        "sha256": "ab" * 32,
        "bytes": 120,
    }
    assert plan.status["language"] == "en"
    assert plan.status["duration"] == 4.96
    assert plan.status["completionTime"] == "2026-11-22T11:59:59Z"
    assert "result" not in plan.status  # the runner's own
    assert plan.actions == (MarkFinished(),)


def test_numbers_that_the_api_server_has_rewritten_still_agree():
    rewritten = {**RESULT, "segments": [{**RESULT["segments"][0], "start": 0, "tokens": [1.0, 2]}]}
    plan = plan_of(a_job().with_complete_job().with_receipt().with_result(rewritten))
    assert state(plan, "Complete") == "True/Transcribed"


def test_a_result_that_was_not_delivered_is_given_by_reference():
    plan = plan_of(a_job().with_complete_job().with_receipt(delivered=False))
    assert state(plan, "Complete") == "True/ResultByReference"
    assert plan.status["result"] == {"text": " Hello.", "language": "en", "truncated": True}
    assert "transcripts/team-a/interview/interview.json" in condition(plan, "Complete")["message"]


def test_a_delivery_that_the_runner_only_believed_failed_counts():
    plan = plan_of(a_job().with_complete_job().with_receipt(delivered=False).with_result())
    assert state(plan, "Complete") == "True/Transcribed"


@pytest.mark.parametrize("delivered", [True, False])
def test_a_result_that_is_not_what_the_pod_wrote_fails(delivered):
    job = a_job().with_complete_job().with_receipt(delivered=delivered).with_result({**RESULT, "text": "forged"})
    plan = plan_of(job)
    assert state(plan, "Failed") == "True/ResultMismatch"
    assert "transcripts/team-a/interview" in condition(plan, "Failed")["message"]


def test_a_result_said_to_be_delivered_and_missing_fails():
    assert state(plan_of(a_job().with_complete_job().with_receipt()), "Failed") == "True/ResultMismatch"


def test_a_pod_without_a_readable_receipt_fails():
    plan = plan_of(a_job().with_complete_job().with_pod("Succeeded").with_result())
    assert state(plan, "Failed") == "True/ResultMismatch"


def test_a_receipt_lost_with_its_pod_is_got_by_one_more_run():
    job = a_job().with_complete_job()
    plan = plan_of(job)
    assert plan.actions == (DeleteJob("job-uid"),)
    assert state(plan, "Started") == "False/ReceiptLost"
    job.after(plan)._job = None
    again = plan_of(job)
    assert again.actions[-1] == CreateJob(CACHED, attempts_before=1, recreated_for="ReceiptLost")


def test_and_not_by_a_third():
    from transcription_operator import names

    job = (
        a_job().with_complete_job().with_job(ended="Complete", annotations={names.ANNOTATION_RECREATED: "ReceiptLost"})
    )
    assert state(plan_of(job), "Failed") == "True/ResultMismatch"


# --- failed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error_class",
    ["Usage", "BadAudio", "SourceMissing", "ModelMissing", "Internal", "OutputFailed", "PermissionDenied"],
)
def test_the_receipts_class_is_the_reason(error_class):
    plan = plan_of(a_job().with_failed_job().with_failure(error_class, "what is wrong.", hint="What to do."))
    assert state(plan, "Failed") == f"True/{error_class}"
    assert condition(plan, "Failed")["message"] == "what is wrong. What to do."
    assert plan.status["phase"] == "Failed"
    assert plan.actions == (MarkFinished(),)


def test_of_several_attempts_the_latest_counts():
    job = a_job().with_failed_job("BackoffLimitExceeded", failed=4)
    job.with_failure("Temporary", "first").with_failure("SourceUnreachable", "last")
    plan = plan_of(job)
    assert state(plan, "Failed") == "True/SourceUnreachable"
    assert condition(plan, "Failed")["message"] == "last (attempt 4 of 4)"


def test_the_deadline():
    plan = plan_of(a_job().having(activeDeadlineSeconds=60).with_failed_job("DeadlineExceeded"))
    assert state(plan, "Failed") == "True/DeadlineExceeded"
    assert "(60 s)" in condition(plan, "Failed")["message"]


@pytest.mark.parametrize(
    ("fields", "reason", "advice"),
    [
        ({"oom_killed": True, "exit_code": 137, "signal": 9}, "OutOfMemory", "limits.memory"),
        ({"evicted": "low on ephemeral-storage"}, "Evicted", "ephemeral-storage"),
        ({"signal": 9, "exit_code": 137}, "RunnerKilled", "signal 9"),
        ({}, "BackoffLimitExceeded", "backoffLimit"),
    ],
)
def test_a_pod_that_could_say_nothing_is_spoken_for(fields, reason, advice):
    job = a_job().with_failed_job("BackoffLimitExceeded").with_pod("Failed", **fields)
    plan = plan_of(job)
    assert state(plan, "Failed") == f"True/{reason}"
    assert advice in condition(plan, "Failed")["message"]


def test_a_corrupt_cache_is_repaired_once_and_the_job_runs_again():
    job = a_job().with_failed_job().with_failure("CorruptModelCache", "sizes differ", code=80)
    plan = plan_of(job)
    assert plan.actions == (AskForRepair(MODEL, "model-uid.0"), DeleteJob("job-uid"))
    assert state(plan, "ModelReady") == "False/Repairing"
    assert plan.status["phase"] == "WaitingForModel"

    job.after(plan).whose_model_is("Waiting", reason="Repairing")._job = None
    job._pods.clear()
    plan = plan_of(job)
    assert plan.actions == ()
    assert state(plan, "ModelReady") == "False/Repairing"

    job.after(plan).whose_model_is("Ready", repairs=1)
    plan = plan_of(job)
    assert state(plan, "ModelReady") == "True/Repaired"
    repaired = Model("openai/whisper-base", MODEL, "model-uid.1")
    assert plan.actions[-1] == CreateJob(repaired, attempts_before=1)

    job.after(plan).with_failed_job().with_failure("CorruptModelCache", "still", code=80)
    plan = plan_of(job)
    assert state(plan, "Failed") == "True/CorruptModelCache"


@pytest.mark.parametrize(("status", "repairs"), [("Waiting", 0), ("Ready", 1)])
def test_a_repair_that_somebody_else_began_is_not_begun_again(status, repairs):
    job = a_job().with_failed_job().with_failure("CorruptModelCache").whose_model_is(status, repairs=repairs)
    assert plan_of(job).actions == (DeleteJob("job-uid"),)


def test_a_fresh_cache_is_not_repaired():
    job = a_job().having(cache="Fresh").with_job(ended="Failed", ended_at=NOW, annotations={})
    job.with_failure("CorruptModelCache")
    assert state(plan_of(job), "Failed") == "True/CorruptModelCache"


# --- afterwards --------------------------------------------------------------------------------------------


def test_a_finished_job_is_labelled_and_nothing_else():
    finished = (
        a_job().with_condition("Complete", True, "Transcribed").with_status(completionTime="2026-11-22T11:59:00Z")
    )
    assert plan_of(finished).actions == (MarkFinished(),)
    assert plan_of(finished).status is None
    assert plan_of(finished.labelled_finished()).actions == ()


def test_its_time_to_live():
    finished = (
        a_job().having(ttlSecondsAfterFinished=120).with_condition("Failed", True, "BadAudio").labelled_finished()
    )
    finished.with_status(completionTime="2026-11-22T11:59:00Z")
    assert plan_of(finished).requeue == 60
    assert plan_of(finished.at(NOW + timedelta(seconds=60))).actions == (DeleteResource(),)


# --- at any time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job",
    [
        a_job().whose_model_is("Absent"),
        a_job(),
        a_job().suspended(),
        a_job().with_job(active=1),
        a_job().with_job(active=1).with_pod("Running", running=True, started_at=NOW),
        a_job().whose_model_is("Retrying", reason="Temporary", message="Later."),
        a_job().whose_model_is("NotFound", message="No such model."),
    ],
)
def test_deciding_again_changes_nothing(job):
    plan = plan_of(job)
    assert plan_of(job.after(plan).at(NOW + timedelta(seconds=3))).status == plan.status
