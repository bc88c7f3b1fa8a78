"""Modules as one file: what each gives and takes is what it gave and took as a module of its own."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.api.pages_bundle import Bundle, Unbundled, bundles_of
from gateway.api.pages_code import read_code

NODE = shutil.which("node")


def code(source: str) -> str:
    """What is left of it, with its literals in their places."""
    read = read_code(source)
    text = read.text
    for no, literal in enumerate(read.literals):
        text = text.replace(f"\0{no}\0", literal)
    return text


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("a; // gone\nb;", "a;\nb;"),
        ("/** gone */\na /* gone */ + b;", "a   + b;"),
        ("a /* gone\n and gone */ + b;", "a\n+ b;"),
        ("\"// stays\" + '/* stays */'", "\"// stays\" + '/* stays */'"),
        ('"a\\"// stays"', '"a\\"// stays"'),
        ("`// stays ${a /* gone */} \\` ${`// ${b}`} $ {`;", "`// stays ${a} \\` ${`// ${b}`} $ {`;"),
        ("`a\n  b`;\n  c;", "`a\n  b`;\nc;"),
        ("`${{ a: { b } }}  // stays`", "`${{a:{b}}}  // stays`"),
        ("x = /[/\"]\\/ '/g; // gone", "x=/[/\"]\\/ '/g;"),
        ("return /  a/.test(b)", "return /  a/.test(b)"),
        ("a = b / c; d = e / f; // gone", "a=b / c;d=e / f;"),
        ("a = (b) / 2 + c[0] / 3 + `x` / 4 // gone", "a=(b)/ 2 + c[0]/ 3 + `x` / 4"),
        ("f((a) => /x/.test(a))", "f((a)=>/x/.test(a))"),
        ("a + +b - -c", "a + +b - -c"),
        ("a ? .5 : b", "a?.5:b"),
        ("a\n\n\n   b", "a\nb"),
    ],
)
def test_remarks_and_indents_go_and_literals_stay(source: str, left: str) -> None:
    assert code(source) == left


@pytest.mark.parametrize(
    ("source", "awaits"),
    [("await a;", True), ("const b = await a();", True), ("async () => { await a; };", False), ('"await"', False)],
)
def test_a_module_that_waits_is_known(source: str, awaits: bool) -> None:
    assert read_code(source).awaits is awaits


SOURCES = {
    "room/main.js": """
// The one that begins.
import { add, LIST as list, Sum } from "./a.js";
import htm from "htm";
import * as whole from "./a.js";
import "./side.js";
import {
  twice, // with a remark
} from "../ui/b.js";
import { h as made } from "preact";
const later = async () => (await import("./later.js")).told();
const known = async () => (await import("./a.js")).add(20, 2);
globalThis.result = Promise.all([later(), known()]).then(([told, sum]) => ({
  told, sum, add: add(1, 2), list, whole: Object.keys(whole).sort(), twice: twice(4), made: made("x"), htm: htm("y"),
  side: globalThis.side, sub: new Sum(2).of(3), shared: globalThis.shared,
}));
""",
    "room/a.js": """
import { twice } from "../ui/b.js";
export const LIST = ["a,b", { c: [1, 2] }], OTHER = (a, b) => [a, b];
export function add(a, b) { return a + b; }
export async function wait() {}
export class Sum { constructor(n) { this.n = n; } of(m) { return add(this.n, m); } }
const inside = `export const not = 1;`;
export { inside as outside, twice };
export { h } from "preact";
export default 7;
""",
    "ui/b.js": "export const twice = (n) => n * 2;\nglobalThis.shared = (globalThis.shared ?? 0) + 1;\n",
    "room/side.js": "globalThis.side = true;",
    "room/later.js": """
import { twice } from "../ui/b.js";
import "./deep.js";
export const told = () => twice(globalThis.deep);
""",
    "room/deep.js": "globalThis.deep = 21;",
    "vendor/preact.js": (
        'import{x as y}from"htm";var n=1,k=t=>"made "+t;export{k as h,n as one};\n//# sourceMappingURL=p.map'
    ),
    "vendor/htm.js": "var n=2,x=1;export{x};export default function(s){return 'htm '+s+n}\n",
}


def made(**changes: str) -> list[Bundle]:
    sources = {**SOURCES, **{name.replace("__", "/") + ".js": text for name, text in changes.items()}}
    return bundles_of("room/main.js", sources.get)


def test_a_page_that_is_open_over_another_edition_does_not_begin_again() -> None:
    """What it loads later is of the new edition then, and stands where its own first file stands."""
    first, later = made()
    assert later.text.startswith('import { $modules } from "./main.bundle.js";')
    assert 'import("./later.bundle.js")' in first.text
    (_, aside) = made(room__main='import("../ui/aside.js");', ui__aside='import "./b.js";')
    assert aside.text.startswith('import { $modules } from "../room/main.bundle.js";')


def test_modules_stand_after_what_they_import_and_what_is_loaded_later_is_apart() -> None:
    first, later = made()
    assert first.modules == (
        "ui/b.js", "vendor/htm.js", "vendor/preact.js", "room/a.js", "room/side.js", "room/main.js",
    )  # fmt: skip
    assert (later.name, later.modules) == ("room/later.bundle.js", ("room/deep.js", "room/later.js"))
    assert "The one that begins" not in first.text and "sourceMapping" not in first.text


@pytest.mark.skipif(NODE is None, reason="node is not installed: what the bundle does was not tried")
def test_the_bundle_does_what_its_modules_do(tmp_path: Path) -> None:
    for each in made():
        path = tmp_path / each.name
        path.parent.mkdir(exist_ok=True)
        path.write_text(each.text)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "run.js").write_text(
        'await import("./room/main.bundle.js"); console.log(JSON.stringify(await globalThis.result));'
    )
    ran = subprocess.run([str(NODE), "run.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    assert told == {
        "told": 42,
        "sum": 22,
        "add": 3,
        "list": ["a,b", {"c": [1, 2]}],
        "whole": ["LIST", "OTHER", "Sum", "add", "default", "h", "outside", "twice", "wait"],
        "twice": 8,
        "made": "made x",
        "htm": "htm y2",
        "side": True,
        "sub": 5,
        "shared": 1,
    }


@pytest.mark.parametrize(
    "source",
    [
        'import "./main.js";',
        'import "./nowhere.js";',
        'import "nobody";',
        "export let count = 0;",
        "let count = 0;\nexport { count };",
        "const count = 0; export { count };",
        "let first, count = 0;\nexport { first as one, count as many };",
        "export const { a, b } = c;",
        'export * from "./side.js";',
        "await 1;",
        "console.log(import.meta.url);",
        "export const a = 1",
    ],
)
def test_what_is_not_known_is_said(source: str) -> None:
    with pytest.raises(Unbundled):
        made(room__side=source)
