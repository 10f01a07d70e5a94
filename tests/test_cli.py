"""The command line: verbs, exit codes, one clear line for each mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr_lstm.cli import VERBS, main


def test_help_names_each_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert [verb for verb in VERBS if verb not in overview] == []
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip().count(".") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["transcibe"], ["transcibe", "transcribe"]),
        (["recipe", "absent"], ["absent", "recipe.yaml"]),
        (["transcribe", "--model", "absent", "a.wav"], ["absent", "not a model"]),
        (["transcribe", "a.wav"], ["model"]),
        (["transcribe", "--model", "absent"], ["paths"]),
        (["transcribe", "--model", "absent", "--fromat", "json", "a.wav"], ["--fromat"]),
        (["transcribe", "--model", "absent", "--format", "docx", "a.wav"], ["docx"]),
        (["evaluate", "--model", "absent", "--manifest", "m.jsonl"], ["absent"]),
        (["evaluate", "--model", "absent"], ["manifest"]),
        (["tune", "--model", "absent", "--manifest", "m.jsonl"], ["absent", "not a model"]),
    ],
)
def test_a_command_that_makes_no_sense_is_one_line_and_exit_2(
    arguments: list[str],
    said: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert [part for part in said if part not in error] == []
    assert not list(tmp_path.iterdir())


def test_the_tool_is_the_verb() -> None:
    tool = Path(__file__).resolve().parents[1] / "tools" / "transcribe.py"
    done = subprocess.run(
        [sys.executable, str(tool), "--model", "absent", "a.wav"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "absent: not a model" in done.stderr


def without_a_reader(code: str) -> tuple[bytes, int]:
    """Standard error and exit code of a program whose output is closed after its first line."""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        return process.stderr.read(), process.wait()


def test_a_reader_that_goes_is_no_failure() -> None:
    # More than the buffer of the pipe and of Python together, and then what stays in Python's to the end.
    code = (
        "import sys; from asr_lstm import cli; "
        "cli.VERBS['say'] = lambda _: [print('x' * 99) for _ in range(9999)] and 0; sys.exit(cli.main(['say']))"
    )
    assert without_a_reader(code) == (b"", 0)


def test_tables_for_a_reader_that_has_gone_stop_no_work() -> None:
    code = (
        "import sys; from asr_lstm import cli; from asr_lstm.console import ReaderConsole\n"
        "def say(_):\n"
        "    console = ReaderConsole()\n"
        "    for _ in range(2000): console.print('x' * 70)\n"
        "    print('still there', file=sys.stderr); return 1\n"
        "cli.VERBS['say'] = say; sys.exit(cli.main(['say']))"
    )
    assert without_a_reader(code) == (b"still there\n", 1)


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    code = (
        "import sys; from asr_lstm import cli; cli.VERBS['say'] = lambda _: print('\\u00e9 \\udcff') or 0; "
        "sys.exit(cli.main(['say']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\xe9 \\udcff\n", b"")


def test_doctor_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--help"]) == 0
    assert "--build" in capsys.readouterr().out


def test_start_up_takes_along_no_heavy_module() -> None:
    code = (
        "import sys, asr_lstm.cli as cli; cli.main(['--help']); "
        "heavy = {'torch', 'lightning', 'librosa', 'matplotlib', 'numpy'} & set(sys.modules); sys.exit(len(heavy))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
