"""Text cut into sentences and words, and words joined again; used by corpora of text."""

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
SENTENCE_END = re.compile(r"(?<!\S)(\S*?)([.!?…]+)([\"')\]”’]*)\s+")
ABBREVIATION = re.compile(
    "mr|mrs|ms|dr|prof|rev|gen|sgt|capt|lt|col|st|jr|sr|vs|etc|vol|dept|inc|ltd|co|"
    "jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec",
    re.IGNORECASE,
)
NO_BLANK_BEFORE = re.compile(rf" (?=n't\b|'(?:{CLITICS})\b|[.,!?;:%)\]]|\.\.\.)", re.IGNORECASE)
NO_BLANK_AFTER = re.compile(r"(?<=[(\[$#]) ")
QUOTED = re.compile(r'" ([^"]*?) "')


def sentences(text: str) -> list[str]:
    """Returns the sentences of running text.

    A sentence ends at a run of ``. ! ?`` and what closes there, but not after an abbreviation or
    an initial, nor before a small letter after an ellipsis, a quote or an acronym.

    Example:
        >>> sentences("Dr. No is fun.It's loud! \\"Why?\\" he asks ... and so on. 7/10")
        ['Dr. No is fun.', "It's loud!", '"Why?" he asks ... and so on.', '7/10']
    """
    text = " ".join(MISSING_BLANK.sub(r"\1 ", text).split())
    parts, begin = [], 0
    for match in SENTENCE_END.finditer(text):
        word, mark, closing = match.groups()
        word = word.lstrip("\"'([“‘")
        abbreviated = mark == "." and (ABBREVIATION.fullmatch(word) or re.fullmatch("[A-Z]", word))
        going_on = mark[0] == "…" or mark[:2] == ".." or closing or "." in word
        if not abbreviated and not (going_on and text[match.end() :][:1].islower()):
            parts.append(text[begin : match.end()].rstrip())
            begin = match.end()
    return [*parts, text[begin:]] if text[begin:] else parts


def words(text: str) -> list[str]:
    """Returns Penn-style tokens: punctuation and clitics are alone, hyphens stay within words.

    A run of marks becomes one, and typographic quotes and dashes those of a keyboard.

    Example:
        >>> " ".join(words("Don’t!!! It's a well-made 8/10, o'Hara.. (the U.S. one)"))
        "Do n't ! It 's a well-made 8/10 , o'Hara ... ( the U.S. one )"
    """
    tokens = TOKEN.findall(NOT.sub(" n't", text.translate(PLAIN)))
    for i, token in enumerate(tokens):
        if len(token) > 1 and token[0] in "!?.-":
            mark = "?" if "?" in token else token[0]
            tokens[i] = {".": "...", "-": "--"}.get(mark, mark)
    return tokens


def detokenised(tokens: list[str]) -> str:
    """Returns words as one writes them: the inverse of :func:`words`, as far as there is one."""
    text = QUOTED.sub(r'"\1"', " ".join(tokens))
    return NO_BLANK_AFTER.sub("", NO_BLANK_BEFORE.sub("", text))
