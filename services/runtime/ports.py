"""Free ports on this machine."""

import socket


def free_port(host: str, wanted: int = 0) -> int:
    """Return `wanted` where it is free, else a free port.

    The port is free now; whoever binds it next wins.
    """
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: a port in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(f"no port is free on {host}")
