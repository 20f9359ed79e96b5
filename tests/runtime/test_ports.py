import socket

from services.runtime.ports import FIRST, LAST, free_port, hold_port, is_free


def test_a_wanted_port_that_is_free_is_returned():
    wanted = free_port("127.0.0.1")
    assert free_port("127.0.0.1", wanted) == wanted


def test_a_wanted_port_that_is_taken_is_replaced():
    wanted = free_port("127.0.0.1")
    with socket.create_server(("127.0.0.1", wanted)):
        assert free_port("127.0.0.1", wanted) != wanted


def test_ports_lie_where_nothing_else_takes_them_by_chance():
    assert all(FIRST <= free_port("127.0.0.1") <= LAST for _ in range(20))


def test_a_port_that_is_held_is_nobody_elses_until_it_is_given_back():
    port = free_port("127.0.0.1")
    with hold_port(port) as held:
        assert held.getsockname()[1] == port
        assert not is_free("", port)
        assert hold_port(port) is None
    assert is_free("", port)
