"""Free ports on this machine."""

import random
import socket

# Below the kernel's ephemeral ports (32768 on), which Ray's own processes take while they start,
# above Ray's worker ports (10002 to 19999) and below Serve's replicas (30000 on): a port that is
# free now stays free until it is bound.
FIRST, LAST = 20_000, 29_999
TRIES = 100


def free_port(host: str, wanted: int = 0) -> int:
    """Return `wanted` where it is free, else a free port in [FIRST, LAST].

    The port is free now; whoever binds it next wins.

    Raises:
        OSError: none was found.
    """
    drawn = random.SystemRandom().sample(range(FIRST, LAST + 1), TRIES)
    for port in (wanted, *drawn) if wanted else drawn:
        # All interfaces: HAProxy's and Ray's metrics listen there whatever the host says.
        if is_free("", port) and is_free(host, port):
            return port
    raise OSError(f"no port of {TRIES} tried in [{FIRST}, {LAST}] is free on {host}")


def is_free(host: str, port: int) -> bool:
    """Tell whether nobody listens on a port; an empty host means any interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def hold_port(port: int) -> socket.socket | None:
    """Take a port without listening, so that nobody else can; `close` gives it back.

    Returns:
        The socket that holds it while it is open; nothing where the port is taken.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.bind(("", port))
    except OSError:
        holder.close()
        return None
    return holder
