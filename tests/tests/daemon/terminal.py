"""Runs a command in a terminal of 80 columns and does what its arguments say, in order:
expect:TEXT waits for it, send:KEYS types, signal:NAME signals it, touch:PATH makes a file, close
takes the terminal away, ends waits for its end.
Prints what the terminal was sent; fails where something does not come in time."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

LIMIT = 20
command, steps = sys.argv[1].split("\x1f"), sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm-256color"
    os.execv(command[0], command)
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
seen, whole = b"", b""


def read(wait):
    global seen, whole
    if select.select([fd], [], [], wait)[0]:
        try:
            more = os.read(fd, 65536)
        except OSError:
            return False
        seen, whole = seen + more, whole + more
        return bool(more)
    return True


for step in steps:
    what, _, text = step.partition(":")
    until = time.monotonic() + LIMIT
    if what == "send":
        os.write(fd, text.encode())
    elif what == "touch":
        open(text, "w").close()
    elif what == "signal":
        os.kill(pid, getattr(signal, text))
    elif what == "close":
        os.close(fd)
        fd = None
    elif what == "expect":
        while text.encode() not in seen:
            if time.monotonic() > until or not read(0.1):
                sys.stderr.write(f"no {text!r} in {seen!r}\n")
                sys.exit(1)
        seen = seen.split(text.encode(), 1)[1]
    elif what == "ends":
        alive = fd is not None
        while alive and time.monotonic() < until:
            alive = read(0.1)
        status = None
        while status is None:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended == 0:
                status = None
                if time.monotonic() > until:
                    os.kill(pid, signal.SIGKILL)
                select.select([], [], [], 0.02)
        code = os.waitstatus_to_exitcode(status)
        sys.stdout.write(f"code {code}\n")
sys.stdout.flush()
sys.stdout.buffer.write(whole)
