"""Raw request targets: one canonical path, or a refusal."""

import pytest

from authsvc.core import paths
from authsvc.core.model import Reason, Refused


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/orders", "/orders"),
        ("/orders/", "/orders"),
        ("/orders?x=1", "/orders"),
        ("/orders/?x=/../admin#%00\\", "/orders"),
        ("/?", "/"),
        ("/a/b/c", "/a/b/c"),
        ("/%61dmin", "/admin"),
        ("/caf%C3%A9", "/café"),
        ("/a%20b", "/a b"),
        ("/a+b", "/a+b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/a.b/..c/d..", "/a.b/..c/d.."),
        ("/*", "/*"),
        ("/%2a", "/*"),
        ("/a:b@c!$&'()*,=~", "/a:b@c!$&'()*,=~"),
        ("/Admin", "/Admin"),
    ],
)
def test_a_plain_target_has_one_path(target, path):
    assert paths.canonical(target) == path


# Each line is an advisory of security.md section 3.3, or a kin of one.
AMBIGUOUS = {
    "UniFi OS CVE-2026-34908: escaped slashes climb out of a public prefix": "/api/public/..%2f..%2fadmin",
    "Malcolm CVE-2026-63177: a dot segment": "/x/../upload/",
    "Oathkeeper GHSA-p224-6x5r-fjpm: a dot segment below a public prefix": "/public/../admin/secrets",
    "heimdall CVE-2026-42274: escaped dots": "/user/%2e%2e/admin",
    "heimdall CVE-2026-42272: escaped dots and slash in mixed case": "/user/%2E%2E%2fadmin",
    "heimdall GHSA-r9fw-vxmp-hwf2: an escape of an escape": "/user/%252e%252e/admin",
    "OPA-Envoy CVE-2026-26205: two slashes in front": "//admin/secret",
    "OPA-Envoy CVE-2026-26205: three slashes in front": "///admin",
    "Istio CVE-2021-31920: two slashes within": "/x//admin",
    "Istio CVE-2021-31921: an escaped slash at the end": "/admin%2f",
    "Istio CVE-2021-31921: an escaped slash at the end in capitals": "/admin%2F",
    "Envoy CVE-2021-29492: a backslash": "/admin\\",
    "Envoy CVE-2021-29492: an escaped backslash": "/admin%5C",
    "Envoy CVE-2021-29492: an escaped backslash in small letters": "/public%5c..%5cadmin",
    "Keycloak CVE-2026-15573: a matrix parameter": "/admin;x",
    "Keycloak CVE-2026-15573: a matrix parameter before a slash": "/admin;/x",
    "Keycloak CVE-2026-15573: a matrix parameter within a name": "/adm;x/in",
    "Keycloak CVE-2026-15573: an escaped semicolon": "/admin%3bx",
    "Keycloak CVE-2026-15573: an escaped semicolon in capitals": "/admin%3Bx",
    "oauth2-proxy CVE-2026-41059: an escaped hash": "/foo/secret%23/bar",
    "oauth2-proxy CVE-2026-41059: a hash": "/foo/secret#/bar",
    "Authelia CVE-2021-32637: a malformed escape": "/a%zz",
    "Authelia CVE-2021-32637: half an escape": "/a%2",
    "Authelia CVE-2021-32637: a percent sign at the end": "/a%",
    "Authelia CVE-2021-32637: 9 kB": "/" + "a" * 9000,
    "Authelia CVE-2021-32637: nothing": "",
    "ingress-nginx 8644: a whole URL": "http://id.example.com/public",
    "ingress-nginx 8644: a query alone": "?/admin",
    "ingress-nginx 8644: a star": "*",
    "ingress-nginx 8644: host and port": "example.com:443",
    "no slash in front": "admin",
    "an escaped slash in front": "%2fadmin",
    "a dot segment at the end": "/admin/.",
    "two dots at the end": "/public/..",
    "one dot within": "/./admin",
    "one escaped dot of two": "/public/.%2e/admin",
    "an escaped question mark": "/admin%3f/public",
    "an escaped percent sign": "/a%25",
    "an IIS escape": "/%u002e%u002e/admin",
    "two slashes at the end": "/admin//",
    "only two slashes": "//",
    "a dot segment with a matrix parameter": "/public/..;/admin",
    "overlong UTF-8": "/%c0%ae%c0%ae/admin",
    "a lone high byte": "/%ff",
    "an escaped surrogate": "/%ed%a0%80",
    "a raw high byte": "/caf\xe9",
    "a raw wide character": "/\u4e2d",
    "a lone surrogate": "/\udcff",
    "a space": "/a b",
    "a tab": "/a\tb",
    "a line feed": "/a\nb",
    "a line feed at the end": "/a\n",
    "a NUL": "/a\x00",
    "an escaped NUL": "/a%00",
    "an escaped line feed": "/a%0aX-User-Roles:admin",
    "an escaped CR": "/a%0D",
    "an escaped unit separator": "/a%1f",
    "a DEL": "/a\x7f",
    "an escaped DEL": "/a%7F",
    "an escaped C1 control": "/a%C2%85",
    "an escaped line separator": "/a%E2%80%A8",
    "an escaped right-to-left mark": "/a%E2%80%AE",
    "an escaped zero-width space": "/ad%E2%80%8Bmin",
    "an escaped byte order mark": "/%EF%BB%BFadmin",
    "a letter and its accent apart": "/cafe%CC%81",
    "an angstrom sign for a letter": "/%E2%84%AB",
    "an escaped no-break space": "/admin%C2%A0",
}


@pytest.mark.parametrize("target", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_what_can_be_read_two_ways_is_refused(target):
    with pytest.raises(Refused) as refused:
        paths.canonical(target)
    assert refused.value.reason is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize("code", [*range(0x20), 0x23, 0x25, 0x2E, 0x2F, 0x3B, 0x3F, 0x5C, 0x7F])
def test_no_escape_of_a_special_character_is_decoded_in_any_case_of_its_digits(code):
    spellings = {f"%{code:02x}", f"%{code:02X}", f"%{code:02X}".swapcase()}
    for spelling in spellings:
        with pytest.raises(Refused):
            paths.canonical(f"/a{spelling}b")


def test_every_other_ascii_escape_means_its_character():
    special = {*range(0x20), 0x23, 0x25, 0x2E, 0x2F, 0x3B, 0x3F, 0x5C, 0x7F}
    for code in set(range(0x80)) - special:
        assert paths.canonical(f"/a%{code:02x}b") == f"/a{chr(code)}b"


def test_the_longest_target_is_read_and_one_more_byte_is_not():
    assert paths.canonical("/" + "a" * (paths.MAX_TARGET - 1))
    with pytest.raises(Refused):
        paths.canonical("/" + "a" * paths.MAX_TARGET)


@pytest.mark.parametrize(
    ("sent", "path"),
    [("/api/x", "/api/x"), ("/api/x/", "/api/x"), ("/", "/"), ("/caf\xc3\xa9", "/café"), ("/a b", "/a b")],
)
def test_the_served_path_is_what_nginx_decoded(sent, path):
    assert paths.served(sent) == path


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "x",
        "unsafe",
        "/\xe9",
        "/\u20ac",
        "/a//b",
        "/a/../b",
        "/a;b",
        "/a%2fb",
        "/a\nb",
        "/a?b",
        "/a\\b",
        "/e\xcc\x81",
    ],
)
def test_a_served_path_that_could_be_read_two_ways_is_refused(sent):
    with pytest.raises(Refused) as refusal:
        paths.served(sent)
    assert refusal.value.reason is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize("target", ["/a/%EF%BC%8E%EF%BC%8E/b", "/a%EF%BC%8Fadmin", "/a/%E2%80%A5/b", "/a%EF%BC%85b"])
def test_a_character_that_looks_like_a_slash_or_a_dot_is_refused(target):
    with pytest.raises(Refused):
        paths.canonical(target)
