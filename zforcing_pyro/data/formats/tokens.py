"""Text cut into sentences and words, and words joined again; used by corpora of text."""

from __future__ import annotations

import re

PLAIN = dict(zip(map(ord, "‘’´`“”„–—…"), [*"''''", *'"""', "-", "--", "..."]))
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
NOT = re.compile(r"(?<=[a-z])n't\b", re.IGNORECASE)
CLITICS = "s|m|d|ll|re|ve"
TOKEN = re.compile(
    rf"""
      n't\b                                 # do n't
    | <unk>                                 # put there by somebody before
    | (?:[^\W\d_]\.){{2,}}                  # u.s.
    | \d+'s\b                               # 80's
    | \w+ (?: -(?=\w)\w+                    # war-torn
            | &\w+                          # q&a
            | (?<=\d)[.,:/]\d+              # 7/10, 1,000
            | '(?!(?:{CLITICS})\b)\w+       # o'clock
          )*
    | '(?:{CLITICS})\b                      # it 's
    | \.{{2,}} | [!?]+ | -{{2,}}            # runs
    | \S
    """,
    re.IGNORECASE | re.VERBOSE,
)
MISSING_BLANK = re.compile(r"(?<=[a-z])([.!?…]+)(?=[A-Z][a-z ])")
END = re.compile(r"(?<!\S)(\S*?)([.!?…]+)([\"')\]”’]*)\s+")
ABBREVIATION = re.compile(
    "mr|mrs|ms|dr|prof|rev|gen|sgt|capt|lt|col|st|jr|sr|vs|etc|vol|dept|inc|ltd|co|"
    "jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec",
    re.IGNORECASE,
)
NO_BLANK_BEFORE = re.compile(rf" (?=n't\b|'(?:{CLITICS})\b|[.,!?;:%)\]]|\.\.\.)", re.IGNORECASE)
NO_BLANK_AFTER = re.compile(r"(?<=[(\[$#]) ")
QUOTED = re.compile(r'" ([^"]*?) "')


def without_tags(text: str) -> str:
    """Returns text without mark-up such as ``<br />``: a blank stands for each tag.

    Example:
        >>> without_tags("It's <i>bad</i>.<br />I <3 it.")
        "It's  bad . I <3 it."
    """
    return TAG.sub(" ", text)


def sentences(text: str) -> list[str]:
    """Returns the sentences of running text.

    A sentence ends at a run of ``. ! ?``, with the quotes and brackets that close there, before a
    blank; and where the blank is missing (``end.The``). It does not end after an abbreviation
    (``mr.``) or an initial, nor before a small letter after an ellipsis, a quote or an acronym
    (``the u.s. navy``).

    Example:
        >>> sentences("Dr. No is fun.It's loud! \\"Why?\\" he asks ... and so on. 7/10")
        ['Dr. No is fun.', "It's loud!", '"Why?" he asks ... and so on.', '7/10']
    """
    text = " ".join(MISSING_BLANK.sub(r"\1 ", text).split())
    parts, begin = [], 0
    for match in END.finditer(text):
        word, mark, closing = match.groups()
        word = word.lstrip("\"'([“‘")
        before_small = text[match.end() : match.end() + 1].islower()
        if mark == "." and (ABBREVIATION.fullmatch(word) or re.fullmatch("[A-Z]", word)):
            continue
        ellipsis = mark[0] == "…" or mark[:2] == ".."
        if before_small and (ellipsis or closing or "." in word):
            continue
        parts.append(text[begin : match.end()].rstrip())
        begin = match.end()
    return [*parts, text[begin:]] if text[begin:] else parts


def words(text: str) -> list[str]:
    """Returns Penn-style tokens: punctuation and clitics are alone, hyphens stay within words.

    A run of ``!`` and ``?`` is one mark, ``?`` if there is one; a run of dots is ``...``, one of
    dashes ``--``. Typographic quotes and dashes become those of a keyboard. Case is kept.

    Example:
        >>> " ".join(words("Don’t!!! It's a well-made 8/10, o'Hara.. (the U.S. one)"))
        "Do n't ! It 's a well-made 8/10 , o'Hara ... ( the U.S. one )"
    """
    return [canonical(t) for t in TOKEN.findall(NOT.sub(" n't", text.translate(PLAIN)))]


def canonical(token: str) -> str:
    """Returns one form for all runs of a mark."""
    if len(token) == 1 or token[0].isalnum():
        return token
    if token[0] in "!?":
        return "?" if "?" in token else "!"
    return {".": "...", "-": "--"}.get(token[0], token)


def detokenised(tokens: list[str]) -> str:
    """Returns words as one writes them: the inverse of :func:`words`, as far as there is one.

    Example:
        >>> detokenised("it 's n't \\" so bad \\" , is it ( at $ 5 ) ?".split())
        'it\\'sn\\'t "so bad", is it (at $5)?'
    """
    text = QUOTED.sub(r'"\1"', " ".join(tokens))
    return NO_BLANK_AFTER.sub("", NO_BLANK_BEFORE.sub("", text))
