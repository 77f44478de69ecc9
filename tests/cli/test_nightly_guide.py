"""Every block of docs/nightly.md runs, or is at least what its reader takes it for."""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import date
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from helpers import ROOT
from kill_helpers import WAYS

from zenovay_async import QuotaExceededError
from zenovay_async.cli.exit_codes import FAILED, OK, REJECTED, STOPPED, USAGE
from zenovay_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PAGE = (ROOT / "docs" / "nightly.md").read_text(encoding="utf-8")
PARTS = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
BLOCKS: dict[str, list[tuple[str, str]]] = {
    title: re.findall(r"```(\w+)\n(.+?)```", text, re.DOTALL)
    for title, text in zip(PARTS[1::2], PARTS[2::2], strict=True)
}
DAY = "2026-11-26"
FILES = {name.replace("DAY", DAY) for name in re.findall(r"^\| `(\S+-DAY\S*)`", PAGE, re.MULTILINE)}
WHOLE = {f"heatmaps-{DAY}.ndjson", f"failed-{DAY}.ndjson", f"report-{DAY}.json"}


def block(title: str, kind: str, number: int = 0) -> str:
    return [text for found, text in BLOCKS[title] if found == kind][number]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(websites=5, api_key="zv_nightly_guide") as running:
        yield running


class Machine:
    """A machine with the script of the page and the command that it starts."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.files = folder / "files"
        commands = folder / "bin"
        for made in (self.files, commands):
            made.mkdir()
        command = commands / "zenovay-async"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zenovay_async "$@"\n')
        self.script = folder / "nightly.sh"
        self.script.write_text(block("The command", "sh"))
        for program in (command, self.script):
            program.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{commands}:{os.environ['PATH']}",
            "ZENOVAY_FOLDER": str(self.files),
            "ZENOVAY_API_KEY": sandbox.api_key,
            "ZENOVAY_BASE_URL": sandbox.url,
        }

    async def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            ["bash", "-c", command],
            cwd=self.files,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    async def start(self) -> subprocess.CompletedProcess[str]:
        return await self.run(f"{self.script} {DAY}")

    def names(self) -> set[str]:
        return {path.name for path in self.files.iterdir()}

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.files / f"report-{DAY}.json").read_text())
        return report


@pytest.fixture
def machine(sandbox: Sandbox, tmp_path: Path) -> Machine:
    return Machine(sandbox, tmp_path)


def set_quota(sandbox: Sandbox, limit: int | None) -> None:
    sandbox.add_key("nightly", api_key=sandbox.api_key, monthly_limit=limit)


async def test_the_script_begins_goes_on_and_does_nothing_once_the_file_is_whole(
    machine: Machine, sandbox: Sandbox
) -> None:
    set_quota(sandbox, 3)
    ended = await machine.start()
    assert ended.returncode == STOPPED
    # One request lists the websites.
    assert f"kept 2 of 5 in heatmaps-{DAY}.ndjson.partial; go on with --resume" in ended.stderr
    assert machine.names() == FILES - {f"heatmaps-{DAY}.ndjson"}
    set_quota(sandbox, None)
    failed = sandbox.website_ids[-1]
    sandbox.fault(Fault.status(404), path=failed)
    assert (await machine.start()).returncode == FAILED
    assert machine.report()["replayed"] == 2
    assert machine.names() == WHOLE | {f"heatmaps-{DAY}.ndjson.journal"}
    sandbox.clear_faults()
    assert (await machine.start()).returncode == OK
    assert (machine.report()["requests"], machine.report()["failed"]) == (1, {})
    assert machine.names() == WHOLE
    before = sandbox.count()
    assert (await machine.start()).returncode == OK
    assert sandbox.count() == before
    lines = (machine.files / f"heatmaps-{DAY}.ndjson").read_text().splitlines()
    assert {json.loads(line)["website_id"] for line in lines} == set(sandbox.website_ids)


async def test_one_line_fetches_all_websites(machine: Machine, sandbox: Sandbox) -> None:
    command = block("In one line", "console").strip().removeprefix("$ ")
    assert (await machine.run(command)).returncode == OK
    (file,) = machine.files.iterdir()
    assert len(file.read_text().splitlines()) == len(sandbox.website_ids)


async def test_without_a_day_it_is_today(machine: Machine) -> None:
    before = date.today()  # noqa: DTZ011 - as the script takes it
    assert (await machine.run(str(machine.script))).returncode == OK
    today = {before, date.today()}  # noqa: DTZ011 - same
    assert any(f"heatmaps-{day}.ndjson" in machine.names() for day in today)


def test_every_exit_code_has_a_row() -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \|", PAGE, re.MULTILINE)
    documented = {int(code) for row in rows for code in row.split(",")}
    assert documented == {OK, FAILED, USAGE, REJECTED, STOPPED, 137} | {code for code in WAYS.values() if code > 0}


def test_a_crontab_has_settings_and_lines_of_five_fields_and_a_command() -> None:
    *settings, line = block("cron", "text").splitlines()
    assert all(re.fullmatch(r"[A-Z_]+=\S+", setting) for setting in settings)
    assert re.fullmatch(r"(?:[\d*/,-]+ ){5}/\S+\.sh", line)


def test_the_units_start_again_after_what_is_worth_a_retry() -> None:
    service, timer = (configparser.ConfigParser(interpolation=None) for _ in range(2))
    service.read_string(block("systemd", "ini"))
    timer.read_string(block("systemd", "ini", 1))
    assert service["Service"]["RestartPreventExitStatus"].split() == [str(USAGE), str(REJECTED)]
    assert service["Service"]["SuccessExitStatus"] == str(WAYS["SIGTERM"])
    assert set(timer) == {"DEFAULT", "Timer", "Install"}


async def test_the_task_of_airflow_starts_the_script(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[dict[str, Any]] = []

    class Dag:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    def operator(**options: Any) -> None:
        tasks.append(options)

    names: dict[str, dict[str, Any]] = {
        "airflow.sdk": {"DAG": Dag},
        "airflow.providers.standard.operators.bash": {"BashOperator": operator},
    }
    for name, members in names.items():
        for parent in (".".join(name.split(".")[:end]) for end in range(1, name.count(".") + 2)):
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        vars(sys.modules[name]).update(members)
    exec(compile(block("Airflow", "python"), "docs/nightly.md: Airflow", "exec", dont_inherit=True), {})  # noqa: S102 - our own page
    (task,) = tasks
    command = task["bash_command"].replace("{{ ds }}", DAY).replace("/opt/zenovay/nightly.sh", str(machine.script))
    assert (await machine.run(command)).returncode == OK
    assert machine.names() == WHOLE


def test_the_job_of_kubernetes_ends_at_what_is_not_worth_a_retry() -> None:
    yaml = pytest.importorskip("yaml", reason="yaml: pip install pyyaml")
    job = yaml.safe_load(block("Kubernetes", "yaml"))["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    rule = job["podFailurePolicy"]["rules"][0]
    assert rule["onExitCodes"]["values"] == [USAGE, REJECTED]
    assert rule["onExitCodes"]["containerName"] == pod["containers"][0]["name"]
    assert pod["restartPolicy"] == "Never"
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


async def test_the_program_goes_on_where_it_ended(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.api_key)
    monkeypatch.setenv("ZENOVAY_BASE_URL", sandbox.url)
    monkeypatch.chdir(tmp_path)
    stored: list[str] = []
    names: dict[str, Any] = {"store": lambda website_id, _: stored.append(website_id)}
    exec(compile(block("From Python", "python"), "docs/nightly.md: Python", "exec", dont_inherit=True), names)  # noqa: S102 - our own page
    set_quota(sandbox, 2)
    with pytest.raises(QuotaExceededError):
        await names["nightly"](sandbox.website_ids)
    assert len(stored) == 2
    # This process knows that the quota of the first one is exhausted.
    monkeypatch.setenv("ZENOVAY_API_KEY", sandbox.add_key("next month"))
    await names["nightly"](sandbox.website_ids)
    assert sorted(stored[2:]) == sorted(sandbox.website_ids)
    assert "'replayed': 2" in capsys.readouterr().out


async def test_websites_that_failed_are_listed_and_requested_again(machine: Machine, sandbox: Sandbox) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    failed = sandbox.website_ids[0]
    sandbox.fault(Fault.status(404), path=failed)
    assert (await machine.start()).returncode == FAILED
    sandbox.clear_faults()
    commands = [
        line.removeprefix("$ ")
        for number in range(2)
        for line in block("The websites that failed", "console", number).splitlines()
    ]
    listed, again, report = [await machine.run(f"day={DAY}; {command}") for command in commands]
    assert listed.stdout.startswith(f"{failed}\tNotFoundError\t")
    assert again.returncode == OK
    assert report.returncode == 1
    assert (await machine.start()).returncode == OK
    assert (await machine.run(f"day={DAY}; {commands[2]}")).returncode == 0


async def test_the_report_of_an_agency_says_why_a_key_ended(machine: Machine, sandbox: Sandbox) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    (machine.files / "customers").write_text(f"acme,{sandbox.api_key}\ninitech,zv_revoked_long_ago\n")
    machine.script.write_text(machine.script.read_text().replace("--resume", "--resume --keys-from customers"))
    assert (await machine.start()).returncode == FAILED
    assert machine.names() >= {f"heatmaps-{DAY}.ndjson.partial"}
    command = block("Agencies", "console").strip().removeprefix("$ ")
    listed = await machine.run(f"day={DAY}; {command}")
    assert listed.stdout.startswith("initech\tInvalid API key")
    assert len(listed.stdout.splitlines()) == 1


def test_every_block_is_tested_here() -> None:
    tested = {(title, kind) for title, found in BLOCKS.items() for kind, _ in found}
    assert tested == {
        ("In one line", "console"),
        ("The command", "sh"),
        ("What is kept", "text"),
        ("cron", "text"),
        ("systemd", "ini"),
        ("Airflow", "python"),
        ("Kubernetes", "yaml"),
        ("From Python", "python"),
        ("Agencies", "console"),
        ("The websites that failed", "console"),
    }
