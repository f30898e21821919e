"""Run a program so that it does not outlive the process that asked for it, however that one ends.

Started as a script, isolated and without site packages: `python -I -S guard.py PROGRAM ARGUMENT...`. Its standard
input is a pipe whose other end the asking process holds and never writes to: at its end, whether closed or the
process was killed, the program is killed. That works on every POSIX system and, unlike PR_SET_PDEATHSIG set by the
asking process itself, does not depend on which of its threads started it. Should the guard be killed, Linux ends
the program (the guard's main thread is its parent, for as long as the guard lives).

Prints the program's process id on standard output; the program's output goes to the guard's standard error.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _die_with_guard() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(command: list[str]) -> int:
    """Run `command` to its end; returns its exit code, 128 + n if signal n ended it."""
    program = subprocess.Popen(  # noqa: S603 - the command is its caller's
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_die_with_guard if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads yet
    )

    def end_with_asker() -> None:
        os.read(
            sys.stdin.fileno(), 1
        )  # not sys.stdin.read(): its lock would break the interpreter's shutdown
        program.kill()

    threading.Thread(target=end_with_asker, daemon=True).start()
    print(program.pid, flush=True)  # noqa: T201 - the asker reads it
    code = program.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
