"""What is decided for a WhisperModel from what is seen."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.operator.building import NOW, condition, state
from tests.unit.operator.model_building import JOB, a_model
from transcription_operator import names
from transcription_operator.whispermodel.decide import (
    AddFinalizer,
    DeleteJob,
    DeleteModel,
    RemoveFinalizer,
    StartJob,
    decide,
)
from transcription_operator.whispermodel.views import Sibling, Task


def plan_of(model: a_model):
    return decide(model.observed())


def is_(plan, phase: str, ready: str) -> bool:
    assert plan.status["phase"] == phase
    assert state(plan, "Ready") == ready
    return True


def message(plan) -> str:
    return condition(plan, "Ready")["message"]


# --- downloads ---------------------------------------------------------------------------------------------


def test_a_new_one_is_held_and_downloaded():
    plan = plan_of(a_model().without_finalizer())
    assert plan.actions == (AddFinalizer(), StartJob(Task.DOWNLOAD))
    assert is_(plan, "Downloading", "False/Downloading")
    assert plan.status["progress"] == {"percent": 0}, "what an earlier download said is over"
    assert JOB in message(plan)


def test_while_it_is_downloaded_nothing_is_done():
    plan = plan_of(a_model().with_job().saying("Its pod does not start: no node"))
    assert plan.actions == ()
    assert is_(plan, "Downloading", "False/Downloading")
    assert "no node" in message(plan)
    assert "progress" not in plan.status, "that is the download's own"
    assert plan.requeue


@pytest.mark.parametrize(("task", "phase"), [(Task.DOWNLOAD, "Downloading"), (Task.REPAIR, "Corrupt")])
def test_a_slow_volume_has_a_reason_as_long_as_the_job_says_so(task, phase):
    plan = plan_of(a_model().with_job(task).with_status(progress={"percent": 7, "reason": "VolumeSlow"}))
    assert is_(plan, phase, "False/VolumeSlow")
    assert "BurstCreditBalance" in message(plan)
    assert JOB in message(plan)
    over = plan_of(a_model().with_job(task).that_is(phase, "VolumeSlow", progress={"percent": 9}))
    assert "VolumeSlow" not in str(over.status)


def test_what_an_earlier_download_said_of_the_volume_is_not_said_of_a_check():
    plan = plan_of(a_model().with_job(Task.VERIFY).with_status(progress={"percent": 7, "reason": "VolumeSlow"}))
    assert is_(plan, "Verifying", "False/Verifying")


def test_then_it_is_ready_and_says_what_it_is():
    plan = plan_of(a_model().with_complete_job())
    assert is_(plan, "Ready", "True/Ready")
    assert state(plan, "Verified") == "True/Verified"
    facts = {"commit": "c0ffee", "bytes": 290, "files": 9, "repo": "openai/whisper-base", "revision": "main"}
    assert facts.items() <= plan.status.items()
    assert plan.settled is Task.DOWNLOAD


def test_files_that_were_there_already_are_not_called_verified():
    plan = plan_of(a_model().with_complete_job().found_there_already())
    assert is_(plan, "Ready", "True/Ready")
    assert [c["type"] for c in plan.status["conditions"]] == ["Ready"]


def test_and_its_jobs_end_counts_once():
    model = a_model().with_complete_job()
    plan = plan_of(model.after(plan_of(model)))
    assert plan.settled is None
    assert is_(plan, "Ready", "True/Ready")


def test_a_job_from_before_it_speaks_of_other_files():
    model = a_model().with_complete_job(created=NOW - timedelta(days=1))
    assert plan_of(model).actions == (StartJob(Task.DOWNLOAD, replacing="job-uid"),)


def test_a_ready_one_needs_no_job_any_more():
    plan = plan_of(a_model().that_is_ready())
    assert is_(plan, "Ready", "True/Ready")
    assert plan.actions == ()


@pytest.mark.parametrize("error_class", ["ModelMissing", "PermissionDenied", "Usage"])
def test_a_failure_that_no_retry_helps_says_what_to_do(error_class):
    plan = plan_of(a_model().with_failed_job(error_class, reason="GatedRepository"))
    assert is_(plan, "Failed", "False/GatedRepository")
    assert "in words. Do this." in message(plan)
    assert f"{names.ANNOTATION_RETRY}=" in message(plan)
    assert plan.status["failedAt"] == "2026-11-22T12:00:00Z"
    assert plan.actions == ()


@pytest.mark.parametrize(
    "again",
    [
        lambda m: m.annotated(names.ANNOTATION_RETRY, "1"),
        lambda m: m.annotated(names.ANNOTATION_WANTED, "job-uid"),
        lambda m: m.changed(),
    ],
)
def test_it_is_tried_again_when_somebody_asks_and_once_for_each_asking(again):
    model = a_model().with_failed_job("ModelMissing")
    again(model.after(plan_of(model)))
    plan = plan_of(model)
    assert plan.actions == (StartJob(Task.DOWNLOAD, replacing="job-uid"),)
    assert "failedAt" not in plan.status
    model.after(plan).with_failed_job("ModelMissing", uid="second-job")
    plan = plan_of(model)
    assert is_(plan, "Failed", "False/ModelMissing")
    assert plan_of(model.after(plan)).actions == ()


def test_what_the_operator_could_not_get_does_not_stay():
    model = a_model().made_by_the_operator().with_failed_job("ModelMissing")
    plan = plan_of(model)
    assert plan_of(model.after(plan)).requeue == 86400
    assert plan_of(model.at(NOW + timedelta(days=1))).actions == (DeleteModel(),)


def test_a_removal_for_another_one_of_the_same_files_is_waited_for_and_made_good():
    model = a_model().with_job(Task.REMOVE)
    plan = plan_of(model)
    assert is_(plan, "Pending", "False/Removing")
    plan = plan_of(model.after(plan).with_complete_job(Task.REMOVE))
    assert plan.actions == (StartJob(Task.DOWNLOAD, replacing="job-uid"),)


def test_what_may_work_later_is_tried_later_and_each_time_later_than_before():
    model = a_model().with_failed_job("Temporary", reason="RateLimited")
    plan = plan_of(model)
    assert is_(plan, "Pending", "False/RateLimited")
    assert plan.requeue == 60
    assert "It is tried again at 2026-11-22T12:01:00Z" in message(plan)
    plan = plan_of(model.after(plan).at(NOW + timedelta(seconds=60)))
    assert plan.actions == (StartJob(Task.DOWNLOAD, retries=1, replacing="job-uid"),)
    plan = plan_of(a_model().with_failed_job("Temporary", retries=3))
    assert plan.requeue == 8 * 60
    assert plan_of(a_model().with_failed_job("Temporary", retries=99)).requeue == 30 * 60


def test_nobody_has_to_wait_for_the_next_try():
    model = a_model().with_failed_job("Temporary")
    model.after(plan_of(model)).annotated(names.ANNOTATION_RETRY, "now")
    assert plan_of(model).actions == (StartJob(Task.DOWNLOAD, retries=1, replacing="job-uid"),)


def test_a_job_that_is_lost_is_started_again():
    model = a_model()
    assert plan_of(model.after(plan_of(model))).actions == (StartJob(Task.DOWNLOAD),)


def test_a_foreign_job_of_the_name_is_a_conflict():
    plan = plan_of(a_model().with_job(annotations={}))
    assert is_(plan, "Pending", "False/JobConflict")
    assert plan.actions == ()


def test_files_that_another_one_has_are_not_downloaded_again():
    facts = {"commit": "c0ffee", "bytes": 290, "files": 9}
    plan = plan_of(a_model().beside(Sibling("other", ready=True, facts=facts)))
    assert is_(plan, "Ready", "True/Ready")
    assert facts.items() <= plan.status.items()
    assert plan.actions == ()


# --- damage ------------------------------------------------------------------------------------------------


def test_what_a_runner_found_damaged_is_repaired_once():
    model = a_model().that_is_ready().annotated(names.ANNOTATION_REPAIR, "uid-of-base.0")
    plan = plan_of(model)
    assert plan.actions == (StartJob(Task.REPAIR, repairs=1),)
    assert is_(plan, "Corrupt", "False/Repairing")
    assert state(plan, "Verified") == "False/CorruptModelCache"
    plan = plan_of(model.after(plan).with_complete_job(Task.REPAIR, repairs=1))
    assert is_(plan, "Ready", "True/Repaired")
    assert plan.status["repairs"] == 1
    plan = plan_of(model.after(plan))
    assert is_(plan, "Ready", "True/Repaired")
    assert plan.actions == (), "the same report again is of the damage before"


def test_a_repair_that_fails_stays_a_repair():
    model = a_model().that_is_ready().with_failed_job("SourceUnreachable", task=Task.REPAIR, repairs=1)
    plan = plan_of(model)
    assert is_(plan, "Corrupt", "False/SourceUnreachable")
    plan = plan_of(model.after(plan).at(NOW + timedelta(minutes=1)))
    assert plan.actions == (StartJob(Task.REPAIR, retries=1, repairs=1, replacing="job-uid"),)


def test_a_check_that_people_ask_for():
    model = a_model().that_is_ready().annotated(names.ANNOTATION_VERIFY, "monday")
    plan = plan_of(model)
    assert plan.actions == (StartJob(Task.VERIFY),)
    assert is_(plan, "Verifying", "False/Verifying")
    plan = plan_of(model.after(plan).with_complete_job(Task.VERIFY))
    assert is_(plan, "Ready", "True/Ready")
    assert "2026-11-22T12:00:00Z" in condition(plan, "Verified")["message"]
    assert plan_of(model.after(plan)).actions == ()
    plan = plan_of(model.annotated(names.ANNOTATION_VERIFY, "tuesday"))
    assert plan.actions == (StartJob(Task.VERIFY, replacing="job-uid"),)


def test_a_check_that_finds_damage_leads_to_a_repair():
    model = a_model().that_is_ready().with_failed_job("CorruptModelCache", task=Task.VERIFY, reason="ChecksumMismatch")
    plan = plan_of(model)
    assert state(plan, "Verified") == "False/ChecksumMismatch"
    assert plan.actions == (StartJob(Task.REPAIR, repairs=1, replacing="job-uid"),)
    assert plan.status["phase"] == "Corrupt"


# --- a folder of the volume --------------------------------------------------------------------------------

OWN = {"volume": {"path": "own/ours"}}


def of_volume(model: a_model) -> a_model:
    annotations = {names.ANNOTATION_MODEL: "volume/own/ours@main", names.ANNOTATION_TASK: "verify"}
    return model.with_job(annotations=annotations)


def test_a_folder_of_the_volume_is_checked_and_not_downloaded():
    assert plan_of(a_model(**OWN)).actions == (StartJob(Task.VERIFY),)


def test_and_never_repaired():
    model = a_model(**OWN).that_is_ready().annotated(names.ANNOTATION_REPAIR, "uid-of-base.0")
    plan = plan_of(model)
    assert plan.actions == (StartJob(Task.VERIFY, repairs=1),)
    model.after(plan).with_failed_job("CorruptModelCache", task=Task.VERIFY)
    annotations = {names.ANNOTATION_MODEL: "volume/own/ours@main", names.ANNOTATION_TASK: "verify"}
    model.with_job(annotations=annotations, ended="Failed", ended_at=NOW)
    plan = plan_of(model)
    assert is_(plan, "Failed", "False/CorruptModelCache")
    assert "did not put these files there" in message(plan)


def test_and_never_removed():
    plan = plan_of(a_model(**OWN).that_is_ready().being_deleted())
    assert plan.actions == (RemoveFinalizer(),)
    assert plan_of(a_model(**OWN).that_is_ready().unused_for(40).kept_for(30)).actions == ()


# --- use and retention -------------------------------------------------------------------------------------


def test_its_last_use_is_written_in_steps():
    model = a_model().that_is_ready(lastUsed="2026-11-22T11:30:00Z")
    assert plan_of(model.used_by("team-a/x")).status["lastUsed"] == "2026-11-22T11:30:00Z"
    later = model.used_at(NOW + timedelta(minutes=30)).at(NOW + timedelta(minutes=30))
    assert plan_of(later).status["lastUsed"] == "2026-11-22T12:30:00Z"
    assert plan_of(later.used_by("team-a/x", "team-b/y")).status["users"] == 2


def test_unused_for_long_it_goes():
    model = a_model().that_is_ready().unused_for(31).kept_for(30)
    plan = plan_of(model)
    assert is_(plan, "Evicted", "False/Evicting")
    assert plan.actions == (), "first of all no new job may find it Ready"
    plan = plan_of(model.after(plan).at(NOW + timedelta(seconds=30)))
    assert plan.actions == (StartJob(Task.REMOVE),)
    plan = plan_of(model.after(plan).with_complete_job(Task.REMOVE))
    assert is_(plan, "Evicted", "False/Evicted")
    assert "bytes" not in plan.status
    assert plan_of(model.after(plan)).actions == ()


def test_the_next_job_has_it_downloaded_again():
    model = a_model().that_is("Evicted", "Evicted").annotated(names.ANNOTATION_WANTED, "old-job")
    assert plan_of(model).actions == (StartJob(Task.DOWNLOAD),)


@pytest.mark.parametrize("somebody", [lambda m: m.used_by("team-a/x"), lambda m: m.awaited()])
def test_never_while_somebody_needs_it(somebody):
    model = somebody(a_model().that_is_ready().unused_for(40).kept_for(30))
    plan = plan_of(model)
    assert is_(plan, "Ready", "True/Ready")
    assert plan.actions == ()
    leaving = somebody(a_model().that_is("Evicted", "Evicting"))
    assert is_(plan_of(leaving), "Ready", "True/Ready")


def test_a_dry_run_only_says_so():
    plan = plan_of(a_model().that_is_ready().unused_for(40).kept_for(30, dry_run=True))
    assert is_(plan, "Ready", "True/Ready")
    assert state(plan, "EvictionDue") == "True/DryRun"
    assert "290 bytes would be removed" in condition(plan, "EvictionDue")["message"]
    assert plan.actions == ()


def test_what_the_operator_made_goes_as_a_whole():
    model = a_model().made_by_the_operator().that_is_ready().unused_for(40).kept_for(30)
    plan = plan_of(model)
    assert plan.actions == (), "no new job may find it Ready"
    assert plan_of(model.after(plan).at(NOW + timedelta(seconds=30))).actions == (DeleteModel(),)


@pytest.mark.parametrize("days", [0, 41])
def test_kept_for_good_or_for_longer(days):
    plan = plan_of(a_model().that_is_ready().unused_for(40).kept_for(days))
    assert is_(plan, "Ready", "True/Ready")
    assert plan.actions == ()
    assert plan.requeue == (86400 if days else None)


# --- deletion ----------------------------------------------------------------------------------------------


def test_its_files_go_before_it_goes():
    model = a_model().that_is_ready().being_deleted()
    plan = plan_of(model)
    assert plan.actions == (StartJob(Task.REMOVE),)
    assert is_(plan, "Deleting", "False/Removing")
    plan = plan_of(model.after(plan).with_job(Task.REMOVE))
    assert plan.actions == ()
    plan = plan_of(model.after(plan).with_complete_job(Task.REMOVE))
    assert plan.actions == (DeleteJob("job-uid"), RemoveFinalizer())


def test_not_while_it_is_used():
    plan = plan_of(a_model().that_is_ready().being_deleted().used_by("team-a/interview"))
    assert plan.actions == ()
    assert is_(plan, "Deleting", "False/InUse")
    assert "team-a/interview" in message(plan)


def test_a_download_is_stopped_first():
    plan = plan_of(a_model().that_is("Downloading", "Downloading").being_deleted().with_job())
    assert plan.actions == (DeleteJob("job-uid"),)


def test_files_that_another_one_has_stay():
    plan = plan_of(a_model().that_is_ready().being_deleted().with_complete_job().beside(Sibling("other")))
    assert plan.actions == (RemoveFinalizer(),), "and so does their Job"


def test_files_can_be_kept_or_given_up():
    model = a_model().that_is_ready().being_deleted().used_by("team-a/x")
    model.annotated(names.ANNOTATION_KEEP_FILES, "true")
    assert plan_of(model).actions == (RemoveFinalizer(),)


def test_a_removal_that_fails_is_tried_again_and_says_how_to_give_up():
    model = a_model().that_is_ready().being_deleted().with_failed_job("OutputFailed", "no volume.", task=Task.REMOVE)
    plan = plan_of(model)
    assert is_(plan, "Deleting", "False/OutputFailed")
    assert f"{names.ANNOTATION_KEEP_FILES}=true" in message(plan)
    assert plan.requeue == 60
    plan = plan_of(model.after(plan).at(NOW + timedelta(minutes=1)))
    assert plan.actions == (StartJob(Task.REMOVE, retries=1, replacing="job-uid"),)


def test_one_that_was_never_there_goes_at_once():
    assert plan_of(a_model().being_deleted()).actions == (RemoveFinalizer(),)


def test_what_holds_it_else_is_not_our_business():
    plan = plan_of(a_model().without_finalizer().being_deleted())
    assert plan.status is None
    assert plan.actions == ()


# --- at any time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        a_model().that_is_ready().unused_for(40).kept_for(30, dry_run=True),
        a_model().with_complete_job(),
        a_model().with_job(),
        a_model().with_failed_job("Temporary"),
        a_model().with_failed_job("ModelMissing"),
        a_model().that_is("Evicted", "Evicted"),
        a_model().that_is_ready().being_deleted().with_failed_job("OutputFailed", task=Task.REMOVE),
        a_model().that_is_ready().being_deleted().used_by("team-a/x"),
    ],
)
def test_deciding_again_changes_nothing(model):
    plan = plan_of(model)
    assert plan_of(model.after(plan).at(NOW + timedelta(seconds=3))).status == plan.status
