"""Which IP addresses belong to the public internet; all others could lead a URL to what stands
behind a firewall.

The IANA special-purpose registries, stated here because `ipaddress` learnt some of them only lately
and counts multicast as global.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_SPECIAL = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's platform, public by its number only
        "2001::/23",  # protocol assignments, Teredo among them
        "3fff::/20",  # documentation
    )
)
_INTERNAL = tuple(
    ip_network(network)
    for network in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)
_METADATA = (
    IPv4Address("100.100.100.200"),
    IPv6Address("fd00:ec2::254"),
    IPv6Address("fd20:ce::254"),
)


def is_public(address: Address) -> bool:
    """Whether `address` is globally routable unicast, and so is the IPv4 address that it embeds, if
    any."""
    embedded = _embedded(address)
    if embedded is not None:
        return is_public(embedded)
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _SPECIAL)
    )


def is_internal(address: Address) -> bool:
    """Whether `address` is a private network's or this machine's own; never a cloud's metadata
    service."""
    address = _embedded(address) or address
    return address not in _METADATA and any(address in network for network in _INTERNAL)


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that traffic to an IPv4-mapped, NAT64 or 6to4 address ends at."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
