#!/usr/bin/env python3
"""Checks that macOS has every function, type and constant of rustix and libc that it would compile here.

rustix says in `#[cfg(...)]` attributes which systems have what. This script reads them in rustix's own sources, so it needs no
compiler for macOS. What hamflow compiles only on Linux (`src/sys/linux.rs`, items below `#[cfg(... target_os = "linux" ...)]`)
is left out.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What rustix's build script sets for aarch64-apple-darwin, and what the compiler does.
MACOS = {"apple", "bsd", "unix", "libc", "std", "target_os=macos", "target_arch=aarch64", "target_vendor=apple",
         "target_family=unix", "target_endian=little", "target_pointer_width=64"}


def holds(cfg):
    """Whether a `cfg` predicate holds on macOS."""
    tokens = re.findall(r'"[^"]*"|\w+|[(),=]', cfg)

    def predicate():
        name = tokens.pop(0)
        if tokens and tokens[0] == "(":
            tokens.pop(0)
            results = []
            while tokens[0] != ")":
                results.append(predicate())
                if tokens[0] == ",":
                    tokens.pop(0)
            tokens.pop(0)
            return {"all": all, "any": any, "not": lambda found: not found[0]}[name](results)
        if tokens and tokens[0] == "=":
            tokens.pop(0)
            value = tokens.pop(0).strip('"')
            # Cargo.toml asks for the features; the build on Linux shows that they suffice.
            return f"{name}={value}" in MACOS if name != "feature" else value != "rustc-dep-of-std"
        return name in MACOS

    return predicate()


def gates(attributes):
    return [match[1] for match in (re.fullmatch(r"#\[cfg\((.*?),?\)\]", text) for text in attributes) if match]


def items(text):
    """The items of a file formatted by rustfmt: keyword, name, name of the block around it, and all `cfg`s that apply."""
    item = re.compile(r"(?:pub(?:\(crate\))? )?(?:const |unsafe )*(fn|mod|struct|enum|type|const|static|impl)\b\s*(?:<.*?> )?(\w+)")
    blocks, attributes, open_attribute = [], [], ""
    for line in text.splitlines():
        code = line.split("//")[0].strip()
        indent = len(line) - len(line.lstrip())
        if open_attribute or code.startswith("#["):
            open_attribute += code
            if open_attribute.count("[") == open_attribute.count("]"):
                attributes.append(open_attribute)
                open_attribute = ""
            continue
        if not code:
            continue
        while blocks and indent <= blocks[-1][0]:
            blocks.pop()
        own, attributes = gates(attributes), []
        inherited = [cfg for block in blocks for cfg in block[2]]
        if match := item.match(code):
            yield match[1], match[2], blocks[-1][1] if blocks else None, inherited + own
            blocks.append((indent, match[2], own))
        elif code.endswith("{"):
            blocks.append((indent, None, own))


class Rustix:
    """The items of rustix by module."""

    def __init__(self, source):
        self.source = source
        self.found = {}
        for path in sorted(source.rglob("*.rs")):
            relative = path.relative_to(source)
            if relative.parts[:2] == ("backend", "linux_raw"):
                continue
            module = relative.parts[2] if relative.parts[0] == "backend" and len(relative.parts) > 2 else relative.parts[0]
            around = self.gates_of_file(path)
            for keyword, name, block, cfgs in items(path.read_text()):
                internal = relative.parts[0] == "backend"
                entry = (module.removesuffix(".rs"), block, all(map(holds, around + cfgs)), internal)
                self.found.setdefault((keyword == "fn", name), []).append(entry)

    def gates_of_file(self, path):
        """The `cfg`s above `mod name;` in the file of the module around it."""
        parent = path.parent / "mod.rs"
        if path.name == "mod.rs" or not parent.exists():
            return []
        return next((cfgs for keyword, name, _, cfgs in items(parent.read_text()) if (keyword, name) == ("mod", path.stem)), [])

    def problem(self, module, name, member=None):
        """Why macOS lacks `rustix::module::name` or the constant `member` of that type; none where it has it."""
        if member is None and name[0].islower():
            found = [entry for entry in self.found.get((True, name), []) if entry[0] == module and not entry[3]]
            found += [entry for entry in self.found.get((False, name), []) if entry[0] == module and entry[1] is None]
        elif member is None:
            found = self.found.get((False, name), [])
        else:
            found = [entry for entry in self.found.get((False, member), []) if entry[1] == name]
        path = "::".join(filter(None, ["rustix", module, name, member]))
        if not found:
            return f"rustix has no `{path}` that this script can find"
        return None if any(entry[2] for entry in found) else f"`{path}` does not exist on macOS"


def macos_code(text):
    """The lines of a file that macOS compiles, each with its number."""
    lines, kept, index = text.splitlines(), [], 0
    while index < len(lines):
        attribute = re.fullmatch(r"(\s*)#!?\[cfg\((.*)\)\]", lines[index])
        if not attribute or holds(attribute[2].replace("test", "unix").replace("hamflow_portable", "unix")):
            kept.append((index + 1, re.sub(r"//.*", "", lines[index])))
        elif lines[index].lstrip().startswith("#!"):
            return []
        else:
            # The item ends at a line of the same indentation that closes a block or is a whole statement.
            index += 1
            while not re.match(attribute[1] + r"(\}|\)|\S.*[;,}]$)", lines[index]):
                index += 1
        index += 1
    return kept


def problems(text, rustix, libc):
    lines = macos_code(text)
    code = "\n".join(line for _, line in lines)
    types = {}

    def place(name):
        return next((number for number, line in lines if re.search(rf"\b{name}\b", line)), 0)

    for match in re.finditer(r"\brustix::(\w+)::(?:\{([^}]*)\}|(\w+)(?:::(\w+))?)", code):
        module = match[1]
        for name in re.findall(r"\w+", match[2] or match[3]):
            if name[0].isupper():
                types[name] = module
            if found := rustix.problem(module, name):
                yield place(name), found
        if match[4] and match[3][0].islower():
            if found := rustix.problem(module, match[4]):
                yield place(match[4]), found
        elif match[4] and match[4].isupper() and (found := rustix.problem(module, match[3], match[4])):
            yield place(match[4]), found
    for name, member in set(re.findall(r"(?<!::)\b([A-Z]\w+)::([A-Z][A-Z0-9_]+)\b", code)):
        if name in types and (found := rustix.problem(types[name], name, member)):
            yield place(member), found
    for name in sorted(set(re.findall(r"\blibc::(\w+)", code))):
        if not re.search(rf"\b(fn|struct|type|const|static|enum|union) {name}\b", libc):
            yield place(name), f"`libc::{name}` does not exist on macOS"
    for name in ["std::os::linux"]:
        if name in code:
            yield place(name), f"`{name}` does not exist on macOS"


def main():
    # Of this platform alone: the others have dependencies that were never downloaded.
    host = subprocess.run(["rustc", "--print", "host-tuple"], check=True, capture_output=True, text=True).stdout.strip()
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)["packages"]
    sources = {package["name"]: Path(package["manifest_path"]).parent / "src" for package in packages
               if package["name"] in ("rustix", "libc")}
    rustix = Rustix(sources["rustix"])
    unix = sources["libc"] / "unix"
    libc = "\n".join(path.read_text() for path in
                     [unix / "mod.rs", unix / "bsd/mod.rs", *sorted((unix / "bsd/apple").rglob("*.rs"))])
    # The script itself: what macOS is known to lack is found, what it is known to have is not.
    known = "use rustix::fs::{syncfs, openat, OFlags};\nfn x() { rustix::fs::ioctl_ficlone(); OFlags::PATH; OFlags::RDONLY; libc::malloc_trim(); }"
    lacking = sorted(re.findall(r"::(\w+)`", " ".join(found for _, found in problems(known, rustix, libc))))
    assert lacking == ["PATH", "ioctl_ficlone", "malloc_trim", "syncfs"], f"this script finds {lacking}"

    files = sorted(path for folder in ["src", "stages/api/src", "stages/src/command", "tests"] for path in (ROOT / folder).rglob("*.rs"))
    wrong = []
    for path in files:
        if path != ROOT / "src/sys/linux.rs":
            found = problems(path.read_text(), rustix, libc)
            wrong += [f"{path.relative_to(ROOT)}:{number}: {problem}" for number, problem in found]
    print("\n".join(wrong) or f"{len(files)} files name nothing that macOS lacks")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
