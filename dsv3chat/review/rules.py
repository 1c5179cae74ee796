"""The fixed list of what a review can report: each rule with its title, category and description. Knows no protocol.

A rule's name is its id in every format; its category is one of CATEGORIES. The six categories are rules themselves: a
model that was trained on no finer list reports them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

CATEGORIES = ("bug", "security", "resource", "concurrency", "error-handling", "performance")


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of defect. `critical` findings are critical whatever severity the model gives them."""

    name: str
    category: str  # one of CATEGORIES
    title: str  # a few words, for lists
    description: str  # one sentence, for SARIF and help
    critical: bool = False


GENERAL_RULES = (
    Rule("bug", "bug", "Bug", "The code does something other than what it is meant to do."),
    Rule("security", "security", "Security hole", "Input or secrets can be misused by someone else."),
    Rule("resource", "resource", "Leaked resource", "A file, socket, lock or memory is not given back."),
    Rule(
        "concurrency",
        "concurrency",
        "Concurrency fault",
        "Threads or tasks can race, deadlock or block each other.",
    ),
    Rule(
        "error-handling", "error-handling", "Error handling", "An error is swallowed, hidden or mishandled."
    ),
    Rule("performance", "performance", "Performance", "The code does far more work than its result needs."),
)

# The rules that nano was trained on: 22 that the syntax shows, then 9 that need understanding.
NANO_RULES = (
    Rule(
        "mutable-default",
        "bug",
        "Mutable default argument",
        "A default value that is changed leaks from one call to the next.",
    ),
    Rule(
        "bare-except",
        "error-handling",
        "Bare except",
        "`except:` also catches KeyboardInterrupt and SystemExit.",
    ),
    Rule(
        "swallowed-exception",
        "error-handling",
        "Swallowed exception",
        "An exception is caught and nothing is done about it.",
    ),
    Rule(
        "return-in-finally",
        "error-handling",
        "Return in finally",
        "`return` in `finally` discards the exception that is under way.",
    ),
    Rule(
        "none-comparison",
        "bug",
        "Comparison with None",
        "`== None` calls the operand's own equality; `is None` does not.",
    ),
    Rule(
        "is-literal",
        "bug",
        "Identity of a literal",
        "`is` with a literal compares identity where equality is meant.",
    ),
    Rule(
        "code-injection",
        "security",
        "Code injection",
        "Text from outside is executed as code.",
        critical=True,
    ),
    Rule(
        "shell-injection",
        "security",
        "Shell injection",
        "A shell command is built from text that comes from outside.",
        critical=True,
    ),
    Rule(
        "sql-injection",
        "security",
        "SQL injection",
        "An SQL statement is built from text in place of parameters.",
        critical=True,
    ),
    Rule("unsafe-yaml", "security", "Unsafe YAML", "`yaml.load` without a safe loader creates any object."),
    Rule(
        "unsafe-deserialization",
        "security",
        "Unsafe deserialization",
        "Data that runs code when it is read comes from outside.",
        critical=True,
    ),
    Rule("weak-hash", "security", "Weak hash", "MD5 or SHA-1 protects something that matters."),
    Rule(
        "tls-verification-off",
        "security",
        "TLS verification off",
        "The other side's certificate is not checked.",
    ),
    Rule(
        "insecure-temp-file",
        "security",
        "Insecure temporary file",
        "A temporary name can be taken by another process before it is used.",
    ),
    Rule("missing-timeout", "resource", "Missing timeout", "A call over the network can wait for ever."),
    Rule("debug-enabled", "security", "Debug mode enabled", "A debug mode is on in code that is served."),
    Rule("hardcoded-secret", "security", "Hard-coded secret", "A password, key or token stands in the code."),
    Rule("assert-on-tuple", "bug", "Assert on a tuple", "`assert (condition, message)` is always true."),
    Rule(
        "blocking-call-in-async",
        "concurrency",
        "Blocking call in async code",
        "A blocking call holds up the whole event loop.",
    ),
    Rule(
        "modified-while-iterating",
        "bug",
        "Modified while iterating",
        "A container is changed by the loop that walks over it.",
    ),
    Rule("unreachable-code", "bug", "Unreachable code", "A statement stands where control never comes."),
    Rule("resource-leak", "resource", "Leaked resource", "Something is opened and never closed."),
    Rule("off-by-one", "bug", "Off by one", "A bound or an index is one too large or too small."),
    Rule(
        "inverted-condition", "bug", "Inverted condition", "A condition says the opposite of what is meant."
    ),
    Rule("wrong-operator", "bug", "Wrong operator", "An operator other than the one that is meant."),
    Rule(
        "missing-fstring-prefix",
        "bug",
        "Missing f-string prefix",
        "A string with {names} in it lacks its `f`.",
    ),
    Rule("missing-await", "concurrency", "Missing await", "A coroutine is made and never awaited."),
    Rule("swapped-arguments", "bug", "Swapped arguments", "Two arguments of a call have changed places."),
    Rule("missing-return", "bug", "Missing return", "A function ends without the value that it is for."),
    Rule("variable-misuse", "bug", "Wrong variable", "A variable is used in the place of another one."),
    Rule("missing-call", "bug", "Missing call", "A function is named where its result is meant."),
)

RULES: Mapping[str, Rule] = MappingProxyType({rule.name: rule for rule in (*GENERAL_RULES, *NANO_RULES)})
