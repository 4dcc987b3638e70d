"""The program of a zygote, `python -P -m forkd.zygote`, whose channel is descriptor 3; no other use of it is meant."""

from __future__ import annotations

import os

from forkd import assembly, channel
from forkd.zygote.life import live

_CHANNEL = 3

if __name__ == "__main__":
    code = 1
    try:
        # Not inherited by what the code may run; the launcher only learns of the end when nobody has the descriptor.
        os.set_inheritable(_CHANNEL, False)
        code = live(channel.from_fd(_CHANNEL), assembly.load)
    finally:
        os._exit(code)
