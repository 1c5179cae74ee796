"""The language of a source file by its name, its extension or its first line. Knows no contents beyond that."""

from __future__ import annotations

import re

TEXT = "text"

_BY_EXTENSION = {
    extension: language
    for language, extensions in {
        "python": "py pyi pyw pyx pxd",
        "javascript": "js mjs cjs jsx",
        "typescript": "ts mts cts tsx",
        "go": "go",
        "rust": "rs",
        "c": "c h",
        "cpp": "cc cpp cxx c++ hh hpp hxx h++ inl ipp cu cuh",
        "csharp": "cs",
        "java": "java",
        "kotlin": "kt kts",
        "scala": "scala sc",
        "swift": "swift",
        "objective-c": "m mm",
        "ruby": "rb rake gemspec",
        "php": "php phtml",
        "perl": "pl pm",
        "lua": "lua",
        "r": "r",
        "julia": "jl",
        "haskell": "hs lhs",
        "ocaml": "ml mli",
        "elixir": "ex exs",
        "erlang": "erl hrl",
        "clojure": "clj cljs cljc",
        "dart": "dart",
        "zig": "zig",
        "nim": "nim",
        "shell": "sh bash zsh ksh",
        "fish": "fish",
        "powershell": "ps1 psm1",
        "batch": "bat cmd",
        "sql": "sql",
        "html": "html htm xhtml",
        "css": "css",
        "scss": "scss sass less",
        "vue": "vue",
        "svelte": "svelte",
        "xml": "xml xsd xsl svg",
        "json": "json jsonc json5 ipynb",
        "yaml": "yaml yml",
        "toml": "toml",
        "ini": "ini cfg conf",
        "terraform": "tf tfvars",
        "protobuf": "proto",
        "graphql": "graphql gql",
        "nix": "nix",
        "cmake": "cmake",
        "make": "mk",
        "markdown": "md markdown",
        "rst": "rst",
        "solidity": "sol",
        "groovy": "groovy gradle",
        "vim": "vim",
        "assembly": "s asm",
    }.items()
    for extension in extensions.split()
}
_BY_NAME = {
    "makefile": "make",
    "gnumakefile": "make",
    "dockerfile": "dockerfile",
    "containerfile": "dockerfile",
    "cmakelists.txt": "cmake",
    "rakefile": "ruby",
    "gemfile": "ruby",
    "vagrantfile": "ruby",
    "jenkinsfile": "groovy",
    "sconstruct": "python",
    "sconscript": "python",
    "wscript": "python",
    "build.bazel": "python",
    "go.mod": "go",
    ".bashrc": "shell",
    ".zshrc": "shell",
    ".profile": "shell",
}
_BY_INTERPRETER = {
    "python": "python",
    "pypy": "python",
    "uv": "python",
    "node": "javascript",
    "deno": "typescript",
    "bun": "typescript",
    "ruby": "ruby",
    "perl": "perl",
    "php": "php",
    "lua": "lua",
    "rscript": "r",
    "julia": "julia",
    "sh": "shell",
    "bash": "shell",
    "dash": "shell",
    "zsh": "shell",
    "ksh": "shell",
    "fish": "fish",
    "pwsh": "powershell",
    "make": "make",
}
_SHEBANG = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-\S+\s+|\w+=\S*\s+)*(?:\S*/)?)?([A-Za-z]+)")


def language_of(path: str, first_line: str = "") -> str:
    """ "python", "javascript", ... by the file's name, else by the interpreter after #!, else "text"."""
    name = path.rpartition("/")[2].lower()
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith(("dockerfile.", "containerfile.")):
        return "dockerfile"
    stem, dot, extension = name.rpartition(".")
    if dot and stem and extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    shebang = _SHEBANG.match(first_line[:200])
    return _BY_INTERPRETER.get(shebang[1].lower(), TEXT) if shebang else TEXT
