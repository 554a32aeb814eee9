from __future__ import annotations

from ipaddress import ip_address

import pytest

from service.inputs.remote.addresses import is_internal, is_public

PUBLIC = (
    "8.8.8.8",
    "93.184.216.34",
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "64:ff9b::8.8.8.8",
    "::ffff:8.8.8.8",
)
INTERNAL = (
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.8.8.8",
    "100.64.0.1", "::1", "fd12::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1",
    "2002:a00:1::", "2002:7f00:1::1",
)  # fmt: skip
NOWHERE = (
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::7f00:1", "::ffff:0:8.8.8.8",
    "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "100::1", "2001::1",
    "2001:db8::1", "2002:a9fe:a9fe::", "3fff::1", "5f00::1", "fe80::1", "fe80::1%2", "fec0::1",
    "fd00:ec2::254", "ff02::1",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_public_and_not_internal(address: str) -> None:
    assert is_public(ip_address(address))
    assert not is_internal(ip_address(address))


@pytest.mark.parametrize("address", INTERNAL)
def test_an_internal_address_in_whatever_form_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    assert is_internal(ip_address(address))


@pytest.mark.parametrize("address", NOWHERE)
def test_what_is_neither_is_never_reached_even_by_leave(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not is_internal(ip_address(address))
