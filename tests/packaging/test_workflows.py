"""The workflows run what the Makefile and tox have, with actions that cannot change and the rights that they need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))

MAY_WRITE = {
    "attest": {"id-token": "write", "attestations": "write"},
    "publish": {"id-token": "write"},
    "announce": {"contents": "write"},
}
"""Rights of jobs of the release beyond those to read."""


class Job(NamedTuple):
    """A job of a workflow."""

    workflow: str
    name: str
    content: dict[str, Any]

    @property
    def steps(self) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = self.content["steps"]
        return steps

    @property
    def commands(self) -> list[str]:
        return [step["run"] for step in self.steps if "run" in step]

    @property
    def actions(self) -> list[str]:
        return [step["uses"] for step in self.steps if "uses" in step]


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


JOBS = [Job(path.name, name, job) for path in WORKFLOWS for name, job in read(path)["jobs"].items()]
EACH_JOB = pytest.mark.parametrize("job", JOBS, ids=[f"{job.workflow}-{job.name}" for job in JOBS])


@EACH_JOB
def test_every_target_of_make_that_a_job_runs_exists(job: Job) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    for command in job.commands:
        for arguments in re.findall(r"\bmake ([^\n&|;]+)", command):
            assert {word for word in arguments.split() if "=" not in word} <= targets, command


def test_every_environment_of_tox_is_a_job() -> None:
    """Those of ``make test``, and of the lowest dependencies all tests in place of a selection."""
    tox = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["tox"]
    matrix = read(GITHUB / "workflows" / "ci.yml")["jobs"]["tox"]["strategy"]["matrix"]["include"]
    run = {"lowest" if name == "lowest-quick" else name for name in tox["env_list"]}
    assert {each["env"] for each in matrix} == run


def test_a_release_is_checked_with_every_python_that_tox_runs() -> None:
    """It skips those that it does not find."""
    tox = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["tox"]
    (check,) = [job for job in JOBS if (job.workflow, job.name) == ("release.yml", "check")]
    (versions,) = [step["with"]["python-version"] for step in check.steps if "setup-python@" in step.get("uses", "")]
    assert set(versions.split()) == {name for name in tox["env_list"] if re.fullmatch(r"3\.\d+", name)}
    redis = [command for job in JOBS for command in job.commands if "redis-server" in command]
    assert len(redis) == 2
    assert redis[0] == redis[1]
    assert redis[0] in check.commands


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_rights_but_those_of_its_jobs(path: Path) -> None:
    assert read(path)["permissions"] == {}


@EACH_JOB
def test_a_job_may_read_the_repository_or_do_one_thing_that_it_is_for(job: Job) -> None:
    expected = MAY_WRITE.get(job.name) if job.workflow == "release.yml" else None
    assert job.content["permissions"] == (expected or {"contents": "read"})
    assert job.content["timeout-minutes"] <= 30


@EACH_JOB
def test_a_job_that_may_write_runs_no_code_of_the_repository_or_its_dependencies(job: Job) -> None:
    if "write" in job.content["permissions"].values():
        assert not [action for action in job.actions if action.startswith("actions/checkout@")]
        assert not [command for command in job.commands if not command.startswith("gh ")]


@EACH_JOB
def test_actions_are_pinned_by_commit_and_leave_no_credentials_behind(job: Job) -> None:
    for action in job.actions:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
    for step in job.steps:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@EACH_JOB
def test_no_expression_is_pasted_into_a_command(job: Job) -> None:
    """The text of a tag or a title would be run."""
    assert not [command for command in job.commands if "${{" in command]


def test_every_pin_names_its_version_and_an_action_has_one() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses:" in line:
                found = re.fullmatch(r" +- uses: ([\w/-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", line)
                assert found, line
                pins.setdefault(found[1], set()).add(found[2])
    assert {action: len(each) for action, each in pins.items()} == dict.fromkeys(pins, 1)


def test_publishing_waits_for_the_checks_for_the_attestation_and_for_approval() -> None:
    jobs = {job.name: job.content for job in JOBS if job.workflow == "release.yml"}
    assert [jobs[name].get("needs") for name in jobs] == [None, "check", "build", "attest", "publish"]
    assert jobs["publish"]["environment"] == "release"
    assert jobs["publish"]["steps"][-1]["with"]["attestations"] is True


def test_the_notes_of_a_release_are_its_part_of_the_changelog(tmp_path: Path) -> None:
    (command,) = [each for job in JOBS for each in job.commands if "notes.md" in each and each.startswith("awk")]
    parts = ("# Changelog", "## [Unreleased]", "- later", "## [1.10.0] - 2026-02-01", "- new", "## [1.1.0]", "- old")
    (tmp_path / "CHANGELOG.md").write_text("\n\n".join(parts))
    shell = shutil.which("bash")
    assert shell is not None
    subprocess.run(  # noqa: S603 - a command of the workflow
        [shell, "-e", "-c", command], cwd=tmp_path, env={**os.environ, "GITHUB_REF_NAME": "v1.10.0"}, check=True
    )
    assert (tmp_path / "notes.md").read_text().strip() == "- new"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_has_what_the_host_requires(path: Path) -> None:
    form = read(path)
    assert form.keys() >= {"name", "description", "body"}
    identifiers = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(set(identifiers)) == len(identifiers)
    for part in form["body"]:
        assert part["type"] in {"markdown", "input", "textarea", "dropdown", "checkboxes"}
        assert part["type"] == "markdown" or part["attributes"]["label"]


def test_the_form_for_bugs_asks_for_what_finds_them_and_never_for_the_key() -> None:
    text = (GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    for asked in ("request_id", "zenovay-async --version", "explain()"):
        assert asked in text
    assert "Never paste an API key" in text
