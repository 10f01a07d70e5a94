"""`asr-lstm doctor`: all checks, a line each; plain text, for even rich may be what is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from asr_lstm.doctor import kernel, machine, packages
from asr_lstm.doctor.checks import Check, State, guarded

_WIDTH = 16  # of names: the longest package's


def examine(*, build: bool = False) -> dict[str, list[Check]]:
    """All checks by heading; nothing that is missing or broken stops one.

    Args:
        build: compile the kernel of the LSTM layers now.
    """
    looks: tuple[tuple[str, str, Callable[[], Iterable[Check]], State], ...] = (
        ("Packages", "python", packages.check_python, "BROKEN"),
        ("Packages", "packages", packages.check_needed, "BROKEN"),
        ("Packages", "torch pair", packages.check_torch, "BROKEN"),
        ("Packages", "audio", packages.check_audio, "BROKEN"),
        ("LSTM kernel", "kernel", partial(kernel.check_kernel, build=build), "BROKEN"),
        ("Machine", "processor", machine.check_processor, "note"),
        ("Machine", "precision", machine.check_precision, "BROKEN"),
        ("Machine", "memory", machine.check_memory, "note"),
        ("Machine", "disk", machine.check_disk, "note"),
        ("Machine", "GPU", machine.check_gpu, "note"),
        ("Extras", "extras", packages.check_extras, "note"),
    )
    found: dict[str, list[Check]] = {}
    for heading, name, look, failing in looks:
        found.setdefault(heading, []).extend(guarded(name, look, failing=failing))
    return found


def doctor_command(*, build: bool = False) -> int:
    """Say what is installed, what this machine offers, and what to do about what is missing or broken.

    Args:
        build: compile the kernel of the LSTM layers now and try to load it.

    Returns:
        The exit code: 0, or 1 where something that recipes need is broken.
    """
    found = examine(build=build)
    for heading, checks in found.items():
        print(heading)
        for check in checks:
            print(f"  {check.state:<7}{check.name:<{_WIDTH}} {check.text}")
            if check.remedy:
                print(f"  {'':<7}{'':<{_WIDTH}} -> {check.remedy}")
    broken = [check.name for checks in found.values() for check in checks if check.state == "BROKEN"]
    if broken:
        print(f"\nBroken: {', '.join(dict.fromkeys(broken))}. What stands behind -> mends it.")
        return 1
    print("\nAll that recipes need is there.")
    return 0
