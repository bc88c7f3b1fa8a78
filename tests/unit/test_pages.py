"""The pages as they are filled in: their policies, their modules, and the parts that others wrote."""

import base64
import gzip
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Final

import pytest
import structlog
from aiohttp.test_utils import make_mocked_request

from gateway.api import pages as module
from gateway.api.pages import Site, origin_of, policy
from gateway.api.pages_files import STATIC, read_source
from gateway.api.pages_modules import IMPORTS, imports_of, needed_by, resolved
from gateway.api.routes.pages import PageRoutes
from gateway.domain.room import Room
from gateway.errors import LedgerUnavailable
from tests.support.vendored import LICENCES, VENDOR, packages, sha256_of

SITE: Final = Site()
EDITION: Final = SITE.now()
VENDORED: Final = {each["file"]: each["sha256"] for package in packages() for each in package["files"]}
OURS: Final = sorted(
    name
    for name in EDITION.files
    if name.endswith(".js") and (STATIC / name).is_file() and not name.startswith("vendor/")
)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://cdn.example.com/live/a.m3u8?x=1", "https://cdn.example.com"),
        ("http://127.0.0.1:9000/a", "http://127.0.0.1:9000"),
        ("wss://live.example.com/v1/rooms/{room}/live", "wss://live.example.com"),
        ("HTTPS://CDN.Example.com/a", "https://cdn.example.com"),
        ("https://[::1]:8443/a", "https://[::1]:8443"),
        ("https://user:word@cdn.example.com/a", "https://cdn.example.com"),
        (None, None),
        ("", None),
        ("/a.m3u8", None),
        ("rtmp://cdn.example.com/a", None),
        ("javascript:alert(1)", None),
        ("https://cdn.example.com:port/a", None),
        ("https://cdn.example.com;script-src'unsafe-inline'/a", None),
        ("https://a.example,b.example/", None),
        ("https://*/a", None),
        ("https://*.example.com/a", None),
        ("https://例え.example/a", None),
    ],
)
def test_of_an_address_a_policy_names_the_origin_or_nothing(url: str | None, origin: str | None) -> None:
    assert origin_of(url) == origin


def directives(text: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (each.split() for each in text.split(";"))}


def test_a_policy_names_what_it_is_told_and_nothing_else() -> None:
    told = directives(
        policy(
            script="'sha256-x'",
            live="wss://live.example.com/v1/rooms/{room}/live",
            stream="https://cdn.example.com/a.m3u8",
            framed_by=["https://shop.example", "https://b.example; script-src *"],
        )
    )
    assert told == {
        "default-src": ["'none'"],
        "script-src": ["'self'", "'sha256-x'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "https:", "data:", "blob:"],
        "connect-src": ["'self'", "wss://live.example.com", "https://cdn.example.com"],
        "media-src": ["'self'", "blob:", "https://cdn.example.com"],
        "worker-src": ["'self'"],
        "manifest-src": ["'self'"],
        "font-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'self'", "https://shop.example"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }


def test_without_a_list_nobody_frames_a_page_and_pictures_without_tls_are_for_development() -> None:
    assert directives(policy())["frame-ancestors"] == ["'none'"]
    assert directives(policy(framed_by=[]))["frame-ancestors"] == ["'self'"]
    assert "http:" not in directives(policy())["img-src"]
    assert "http:" in directives(policy(dev=True))["img-src"]


@pytest.mark.parametrize("name", ["room", "host"])
def test_the_hash_in_the_policy_is_that_of_the_import_map(name: str) -> None:
    shell = EDITION.shells[name]
    html = shell.html.decode()
    (names,) = re.findall(r'<script type="importmap">(.*?)</script>', html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(names.encode()).digest()).decode()
    assert shell.script == f"'sha256-{digest}'"
    assert json.loads(names)["imports"] == {each: f"/static/{EDITION.tag}/{path}" for each, path in IMPORTS.items()}
    assert html.index("importmap") < html.index('type="module"')
    assert shell.packed is not None and gzip.decompress(shell.packed) == shell.html


@pytest.mark.parametrize("name", sorted(EDITION.shells))
def test_a_shell_holds_no_code_of_its_own_and_points_at_nothing_that_is_not_there(name: str) -> None:
    html = EDITION.shells[name].html.decode()
    assert re.search(r"\sstyle=|\son\w+=|<style|javascript:", html) is None
    assert re.findall(r"<script(?![^>]*\ssrc=)(?! type=\"importmap\")", html) == []
    asked = {path.removeprefix(f"/static/{EDITION.tag}/") for path in re.findall(r'(?:src|href)="([^"]+)"', html)}
    assert asked - EDITION.files.keys() == set()
    assert 'lang="' in html and "viewport" in html and "<title>" in html
    assert "<!--" not in html


def test_only_in_development_a_page_says_that_there_is_a_sign_in() -> None:
    assert all(b"peakgate-dev" not in shell.html for shell in EDITION.shells.values())
    for name in ("room", "host"):
        assert b'<meta name="peakgate-dev" content="1">' in Site(dev=True).now().shells[name].html


def test_a_page_is_told_where_the_sockets_are() -> None:
    told = Site(live_url='wss://live.example/v1/rooms/{room}/live"><script>').now().shells["room"].html
    assert (
        b'<meta name="peakgate-live" content="wss://live.example/v1/rooms/{room}/live&quot;&gt;&lt;script&gt;">' in told
    )
    assert b"peakgate-live" not in EDITION.shells["room"].html


@pytest.mark.parametrize("name", ["room", "host"])
def test_a_page_begins_with_one_file_of_code_and_one_of_style(name: str) -> None:
    html = EDITION.shells[name].html.decode()
    asked = [path for path in re.findall(r'(?:src|href)="([^"]+)"', html) if not path.endswith(".svg")]
    assert asked == [f"/static/{EDITION.tag}/{name}.bundle.css", f"/static/{EDITION.tag}/{name}/main.bundle.js"]
    bundle = EDITION.files[f"{name}/main.bundle.js"].body.decode()
    held = re.findall(r"^// (\S+\.js)$", bundle, re.MULTILINE)
    assert held[-1] == f"{name}/main.js" and len(held) == len(set(held))
    assert "vendor/preact.js" in held and "peakgate.js" in held
    assert "vendor/hls.js" not in held, "a stream's player is loaded when there is a stream"
    for each in held:
        before = set(held[: held.index(each)])
        source = EDITION.files[each].body.decode()
        assert {resolved(told, importer=each) for told in imports_of(source)} <= before, each


def test_a_page_whose_modules_cannot_be_put_together_asks_for_each_of_them_at_once(tmp_path: Path) -> None:
    write(tmp_path, "import './more.js';")
    (tmp_path / "room" / "more.js").write_text("export let count = 0;")
    with structlog.testing.capture_logs() as lines:
        edition = Site(tmp_path).now()
    assert [line["event"] for line in lines] == ["page_not_bundled"]
    html = edition.shells["room"].html.decode()
    assert html.index("importmap") < html.index("modulepreload") < html.index('type="module"')
    assert re.findall(r'modulepreload" href="/static/\w+/([^"]+)"', html) == ["room/main.js", "room/more.js"]
    assert f'src="/static/{edition.tag}/room/main.js"' in html


@pytest.mark.parametrize("name", OURS)
def test_every_import_of_ours_is_one_of_the_map_or_a_file_that_is_there(name: str) -> None:
    source = EDITION.files[name].body.decode()
    called = re.findall(r"""\bimport\(\s*["']([^"']+)["']""", source)
    missing = [told for told in (*imports_of(source), *called) if resolved(told, importer=name) not in EDITION.files]
    assert missing == []


@pytest.mark.parametrize("name", OURS)
def test_no_module_of_ours_does_what_the_policy_forbids_or_asks_elsewhere(name: str) -> None:
    source = EDITION.files[name].body.decode()
    forbidden = (
        r"\.(?:inner|outer)HTML\b|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write|\beval\(|new Function"
    )
    assert re.findall(forbidden, source) == []
    # The name of the language of pictures is an address that nobody opens.
    source = source.replace('"http://www.w3.org/2000/svg"', "")
    assert re.findall(r"""["'`](?:https?:)?//[a-z0-9]""", source) == [], "an address of somebody else's"


def test_stylesheets_ask_for_nothing() -> None:
    for name, file in EDITION.files.items():
        if name.endswith(".css"):
            assert re.findall(r"@import|url\((?!\s*[\"']?(?:data:|#))", file.body.decode()) == [], name


SOURCES: Final = {
    "main.js": """// import "./no.js"
import { a, b as c } from "./a.js";
import d, * as e from '../ui/d.js';
import "./side.js";
import {
  f,
} from "preact";
export { g } from "./g.js"; export * from "./h.js";
const later = () => import("./later.js");
const text = `thrown from "${name}"`; const from = "x";
export const names = ["./word.js"];
""",
}


def test_imports_are_read_as_a_browser_reads_them() -> None:
    assert imports_of(SOURCES["main.js"]) == [
        "./a.js",
        "../ui/d.js",
        "./side.js",
        "preact",
        "./g.js",
        "./h.js",
    ]
    assert imports_of('import{x as y}from"preact";import"./b.js";var a=1;export{a}') == ["preact", "./b.js"]


def test_imports_are_followed_nearest_first_and_round_in_circles_once() -> None:
    sources = {
        "room/main.js": 'import "./a.js"; import "preact"; import "nobody";',
        "room/a.js": 'import "../ui/b.js"; import "./main.js"; import "../../outside.js";',
        "ui/b.js": 'import "./missing.js";',
        "vendor/preact.js": "",
    }
    assert needed_by("room/main.js", sources.get) == ["room/main.js", "room/a.js", "vendor/preact.js", "ui/b.js"]


def test_what_others_wrote_is_what_they_published() -> None:
    on_disk = {path.name for path in VENDOR.iterdir()} - {"vendored.json", "LICENSES.txt", "README.md"}
    assert on_disk == set(VENDORED)
    for name, checksum in VENDORED.items():
        assert sha256_of((VENDOR / name).read_bytes()) == checksum, name
    assert {path.removeprefix("vendor/") for path in IMPORTS.values() if path.startswith("vendor/")} <= set(VENDORED)


def test_what_others_wrote_says_under_which_licence() -> None:
    text = LICENCES.read_text(encoding="utf-8")
    for package in packages():
        assert package["licence"] in ("MIT", "Apache-2.0")
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert f"{package['name']} {package['version']} ({package['licence']}): " in text
    assert text.count("MIT License") >= 3 and "Apache License" in text


def test_what_others_wrote_fetches_nothing_from_elsewhere() -> None:
    for name in VENDORED:
        if name.endswith(".js"):
            source = (VENDOR / name).read_text(encoding="utf-8")
            assert re.findall(r"""\bimport\s*\(?\s*["']https?:""", source) == []
            assert all(told in IMPORTS for told in imports_of(source)), name


def packed_bytes(*names: str) -> int:
    return sum(len(EDITION.files[name].packed or EDITION.files[name].body) for name in names)


def test_the_room_is_small_before_its_stream() -> None:
    html = EDITION.shells["room"].html.decode()
    files = [path.removeprefix(f"/static/{EDITION.tag}/") for path in re.findall(r'(?:src|href)="([^"]+)"', html)]
    whole = packed_bytes(*set(files)) + len(EDITION.shells["room"].packed or b"")
    assert whole < 60_000, whole


def test_what_the_floor_weighs() -> None:
    floor = ("preact.js", "preact-hooks.js", "htm.js", "signals.js", "signals-core.js")
    assert packed_bytes(*(f"vendor/{name}" for name in floor)) < 12_000
    assert packed_bytes("peakgate.js") < 6_000


def test_the_tag_is_another_one_after_any_change(tmp_path: Path) -> None:
    write(tmp_path, "'one'")
    first = read_source(tmp_path).tag
    assert read_source(tmp_path).tag == first
    write(tmp_path, "'two'")
    assert read_source(tmp_path).tag != first


def test_in_development_files_are_read_anew_and_otherwise_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.0)
    write(tmp_path, "'one'")
    fixed, moving = Site(tmp_path), Site(tmp_path, dev=True)
    before = moving.now()
    assert moving.now() is before
    write(tmp_path, "'two!'")
    assert b"two!" in moving.now().files["room/main.js"].body
    assert moving.now().tag != before.tag
    assert moving.now().tag.encode() in moving.now().shells["room"].html
    assert b"one" in fixed.now().files["room/main.js"].body
    (tmp_path / "room" / "more.js").write_text("1")
    assert "room/more.js" in moving.now().files


def write(root: Path, text: str) -> None:
    (root / "room").mkdir(exist_ok=True)
    (root / "room.html").write_text(
        '<head><!-- modules -->\n<script type="module" src="/static/-/room/main.js"></script></head>'
    )
    path = root / "room" / "main.js"
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    # Clocks of file systems are coarse.
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_what_is_in_the_folder_and_no_file_of_a_page_is_not_served() -> None:
    assert not [name for name in EDITION.files if name.endswith((".md", ".html", ".map")) or name.startswith(".")]
    assert {path.suffix for path in STATIC.rglob("*") if path.is_file()} <= {
        ".js", ".css", ".json", ".svg", ".png", ".ts", ".txt", ".html", ".md",
    }  # fmt: skip


async def test_while_a_room_cannot_be_looked_up_a_page_says_so_and_comes_back() -> None:
    class Away:
        async def get(self, room_id: str) -> Room:
            raise LedgerUnavailable("x")

    async def nobody(shop: str) -> list[str]:
        return []

    routes = PageRoutes(site=SITE, rooms=Away(), origins_of=nobody, live_url="ws://x/{room}")
    answer = await routes.room(make_mocked_request("GET", "/r/room_1", match_info={"room": "room_1"}))
    assert (answer.status, answer.headers["Retry-After"], answer.content_type) == (503, "5", "text/html")
    assert isinstance(answer.body, bytes) and f'<script src="/static/{EDITION.tag}/ui/again.js"' in answer.body.decode()
