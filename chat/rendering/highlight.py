"""Code with its words coloured: seven classes, so that two colour schemes in one style sheet are enough.

Only languages of a fixed list are read, and only code of a bounded length: a lexer is a heap of regular expressions, and the code
comes from anybody.
"""

from __future__ import annotations

from functools import cache
from html import escape

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Generic, Keyword, Literal, Name, Number, Operator, String, Token, _TokenType

MAX_CODE = 30_000
_LONGEST_LINE = 2_000

LANGUAGES = frozenset(
    [
        "bash",
        "sh",
        "shell",
        "zsh",
        "console",
        "c",
        "c++",
        "cpp",
        "csharp",
        "cs",
        "css",
        "diff",
        "patch",
        "docker",
        "dockerfile",
        "go",
        "golang",
        "graphql",
        "haskell",
        "hs",
        "html",
        "ini",
        "java",
        "javascript",
        "js",
        "json",
        "jsx",
        "kotlin",
        "kt",
        "lua",
        "make",
        "makefile",
        "markdown",
        "md",
        "nginx",
        "nix",
        "objective-c",
        "ocaml",
        "perl",
        "php",
        "powershell",
        "ps1",
        "python",
        "py",
        "python3",
        "pycon",
        "r",
        "rb",
        "ruby",
        "rust",
        "rs",
        "scala",
        "scss",
        "sql",
        "svelte",
        "swift",
        "toml",
        "ts",
        "tsx",
        "typescript",
        "vue",
        "xml",
        "yaml",
        "yml",
        "zig",
    ]
)
CLASSES = frozenset(["k", "n", "s", "m", "c", "a", "d"])

# Most specific first: the first that contains a token names its class.
_CLASS_OF: tuple[tuple[_TokenType, str], ...] = (
    (Comment.Preproc, "k"),
    (Comment, "c"),
    (Keyword.Constant, "m"),
    (Keyword, "k"),
    (Operator.Word, "k"),
    (Name.Function, "n"),
    (Name.Class, "n"),
    (Name.Tag, "n"),
    (Name.Attribute, "n"),
    (Name.Builtin, "n"),
    (Name.Decorator, "n"),
    (String, "s"),
    (Number, "m"),
    (Literal, "m"),
    (Generic.Inserted, "a"),
    (Generic.Deleted, "d"),
    (Generic.Heading, "k"),
    (Generic.Subheading, "c"),
    (Generic.Prompt, "c"),
    (Generic.Output, "c"),
)


def highlighted(code: str, language: str) -> str:
    """HTML of code: ``<span class="k">`` and so on (k word, n name, s text, m number, c comment, a added, d removed)."""
    lexer = _lexer(language.lower()) if language.lower() in LANGUAGES else None
    if lexer is None or len(code) > MAX_CODE or max(map(len, code.splitlines()), default=0) > _LONGEST_LINE:
        return escape(code)
    pieces: list[str] = []
    open_class, gathered = "", ""
    for token, value in lexer.get_tokens(code):
        name = _class_of(token)
        # Blanks carry no colour of their own: they join what stands before.
        if name != open_class and not (open_class and value.isspace() and "\n" not in value):
            pieces.append(_span(open_class, gathered))
            open_class, gathered = name, ""
        gathered += value
    pieces.append(_span(open_class, gathered))
    return "".join(pieces)


def _span(name: str, text: str) -> str:
    if not text:
        return ""
    return f'<span class="{name}">{escape(text)}</span>' if name else escape(text)


@cache
def _class_of(token: _TokenType) -> str:
    if token is Token.Text:
        return ""
    return next((name for parent, name in _CLASS_OF if token in parent), "")


@cache
def _lexer(language: str) -> Lexer | None:
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ValueError:  # pygments.util.ClassNotFound: a name that this version does not know
        return None
