"""What ends a program politely: Ctrl-C, SIGTERM, and the terminal's end."""

import os
import signal
from typing import NoReturn


def as_ctrl_c() -> None:
    """SIGTERM, and SIGHUP unless it is ignored (`nohup`), are KeyboardInterrupt from now on."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def hang_up(*_: object) -> NoReturn:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed window sends it twice
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in terminals:  # to write there is an error from now on
            os.dup2(nowhere, descriptor)
        raise KeyboardInterrupt

    signal.signal(signal.SIGHUP, hang_up)
