from __future__ import annotations

import pytest

from service.inputs.remote.hosts import Hosts, Origin, URLRefusedError, read_url
from service.settings import SettingsError

LISTED = Hosts("images.example.org, http://minio.storage.svc:9000,10.0.0.5:8443, [fd12::1]")


def origin(url: str, hosts: Hosts | None = None) -> Origin:
    return (hosts or Hosts()).origin(read_url(url))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://images.example.org/a/b.jpg?c=d", "images.example.org"),
        ("HTTPS://Images.Example.ORG:443/", "images.example.org"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("https://8.8.8.8/a.png", "8.8.8.8"),
        ("https://[2606:4700:0::1111]/a.png", "2606:4700::1111"),
    ],
)
def test_without_a_list_public_https_hosts_are_asked(url: str, host: str) -> None:
    assert origin(url) == Origin("https", host, 443)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://images.example.org/", "https"),
        ("ftp://images.example.org/", "https"),
        ("file:///etc/passwd", "https"),
        ("data:image/png;base64,AAAA", "https"),
        ("images.example.org/a.jpg", "https"),
        ("//images.example.org/a.jpg", "https"),
        ("https:///a.jpg", "host"),
        ("", "https"),
        ("https://images.example.org:8443/", "port"),
        ("https://images.example.org:22/", "port"),
        ("https://user@images.example.org/", "user name"),
        ("https://user:secret@images.example.org/", "user name"),
        ("https://127.0.0.1/", "public"),
        ("https://10.0.0.1/", "public"),
        ("https://169.254.169.254/latest/meta-data/", "public"),
        ("https://[::1]/", "public"),
        ("https://[::ffff:10.0.0.1]/", "public"),
        ("https://[64:ff9b::7f00:1]/", "public"),
        ("https://[2002:7f00:1::]/", "public"),
        ("https://[fe80::1%25eth0]/", "host|URL"),
        ("https://0x7f.1/", "oddly"),
        ("https://2130706433/", "oddly"),
        ("https://127.1/", "oddly"),
        ("https://0177.0.0.1/", "oddly|URL"),
        ("https://0x7f000001/", "oddly"),
        ("https://127.0.0.1./", "oddly"),
        ("https://127。0。0。1/", "public|URL"),
        ("https://\uff11\uff12\uff17.0.0.1/", "public|oddly|URL"),
        ("https://①②⑦.0.0.1/", "public|oddly|URL"),
        ("https://%31%32%37.0.0.1/", "public|oddly|name"),
        ("https://images.example.org./", "name"),
        ("https://exa mple.org/", "name|URL"),
        ("https://images.example.org\\@127.0.0.1/", "user name|name|URL"),
        ("https://images.example.org\n/", "URL"),
        ("https://images.example.org:99999/", "URL|port"),
        ("https://images.example.org/" + "a" * 2048, "2048"),
    ],
)
def test_anything_else_is_refused_with_the_reason(url: str, words: str) -> None:
    with pytest.raises(URLRefusedError, match=words):
        origin(url)


def test_a_list_admits_its_hosts_by_scheme_and_port_and_no_other() -> None:
    assert origin("https://IMAGES.example.org/", LISTED).port == 443
    assert (
        origin("http://minio.storage.svc:9000/bucket/a.jpg?X-Amz-Signature=0", LISTED).scheme
        == "http"
    )
    assert origin("https://10.0.0.5:8443/", LISTED) == Origin("https", "10.0.0.5", 8443)
    assert origin("https://[FD12:0::1]/", LISTED).host == "fd12::1"
    for url in (
        "http://images.example.org/",
        "https://images.example.org:8443/",
        "https://minio.storage.svc:9000/",
        "https://10.0.0.5/",
        "https://other.example.org/",
        "https://sub.images.example.org/",
        "https://x@images.example.org/",
    ):
        with pytest.raises(URLRefusedError):
            origin(url, LISTED)


def test_only_listed_hosts_may_lead_inwards() -> None:
    assert LISTED.may_be_internal("minio.storage.svc", 9000)
    assert not LISTED.may_be_internal("minio.storage.svc", 9001)
    assert not Hosts().may_be_internal("minio.storage.svc", 9000)


@pytest.mark.parametrize(
    "setting",
    [
        "",
        "*",
        "a,,b",
        "ftp://a",
        "a/path",
        "user@a",
        "0x7f.1",
        "a:b",
        "a:99999",
        "a:0",
        "a b",
        "://a",
    ],
)
def test_a_list_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(SettingsError, match=r"--fetch-hosts .* is not a host such as"):
        Hosts(setting)
