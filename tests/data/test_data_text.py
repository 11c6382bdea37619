"""Text files of one's own, their tokens and their vocabulary."""

import gzip
import math
import time
import zipfile
from collections import Counter

import pytest
import torch

from zforcing_pyro.data import corpus
from zforcing_pyro.data.formats import files
from zforcing_pyro.data.formats.text import TAG, Vocabulary, detokenised, sentences, words

SPLITS = ("train", "valid", "test")


def write(folder, train="a b b\na b\na\n", valid="b\n", test="a c\nb\n", **texts):
    """Writes files ``{name}.txt`` in UTF-8 and returns their folder."""
    folder.mkdir(exist_ok=True)
    for name, text in ({"train": train, "valid": valid, "test": test} | texts).items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def own(path, **options):
    return corpus("text", path=str(path), **{"min_count": 1} | options)


def shown(data, split):
    return [data.sentence(x) for x, *_ in data.split(split)]


def test_words_are_penn_style():
    for text, tokens in (
        ("I can't, won't and don't.", "I ca n't , wo n't and do n't ."),
        ("it's they'll I'd we're I've I'm", "it 's they 'll I 'd we 're I 've I 'm"),
        ("o'clock c'mon d'Angelo 80's '80s", "o'clock c'mon d'Angelo 80's ' 80s"),
        ("7/10, 1,000 and 3.5; 2:37 f-16's", "7/10 , 1,000 and 3.5 ; 2:37 f-16 's"),
        ("a well-made T&A & more", "a well-made T&A & more"),
        ("no!!! why?! so.... well--made", "no ! why ? so ... well -- made"),
        ("the U.S. (p.s. me)", "the U.S. ( p.s. me )"),
        ("“So” – it’s… naïve—no", '" So " - it \'s ... naïve -- no'),
        ("keep <unk> whole", "keep <unk> whole"),
        (" \t ", ""),
    ):
        assert words(text) == tokens.split()
        assert words(tokens) == tokens.split()  # tokens stay tokens
    for text in ("it's so bad, is it?", 'a "good" one (at $5).', "don't go... 7/10!", "100%;"):
        assert detokenised(words(text)) == text


def test_sentences_end_where_text_ends_them():
    for text, parts in (
        ("One. Two! three?", ["One.", "Two!", "three?"]),
        ("the end.The start", ["the end.", "The start"]),
        ("Mr. A. B. Smith vs. me. So", ["Mr. A. B. Smith vs. me.", "So"]),
        ("in the U.S. navy. In the U.S. It", ["in the U.S. navy.", "In the U.S.", "It"]),
        ('He said "no." Then left', ['He said "no."', "Then left"]),
        ('"Why?" he asks', ['"Why?" he asks']),
        ('So "Mr. B." is', ['So "Mr. B." is']),
        ("well... maybe… so. (No.) Yes", ["well... maybe… so.", "(No.)", "Yes"]),
        ("rated 3.5 of 10\nlines", ["rated 3.5 of 10 lines"]),
        ("", []),
    ):
        assert sentences(text) == parts
    begin = time.process_time()
    assert sentences("a" * 50_000 + " b. C") == ["a" * 50_000 + " b.", "C"]
    assert time.process_time() - begin < 2  # a minute where each letter is a new start
    assert TAG.sub(" ", "a<br />b <i>c</i> <3 x > y").split() == [*"abc", "<3", "x", ">", "y"]


def test_vocabulary_is_by_frequency_and_encodes_ends():
    counts = Counter({"a": 1, "c": 2, "b": 2, "d": 3, "<unk>": 4})
    assert Vocabulary.learnt(counts).words == ["<unk>", "<eos>", "d", "b", "c", "a"]
    assert Vocabulary.learnt(counts, size=2).words == ["<unk>", "<eos>", "d", "b"]
    assert Vocabulary.learnt(counts, min_count=2).words == ["<unk>", "<eos>", "d", "b", "c"]
    assert Vocabulary.learnt(Counter("ba"), closed=True).words == ["<eos>", "a", "b"]
    vocabulary = Vocabulary(["<unk>", "<eos>", "a", "b"])
    symbols, lengths = vocabulary.encode([["a", "x", "b"], [], ["b"]])
    assert symbols.tolist() == [2, 0, 3, 1, 1, 3, 1] and lengths.tolist() == [4, 1, 2]
    assert symbols.dtype == lengths.dtype == torch.int64
    assert vocabulary.decode(torch.tensor([3, 0, 1, 2])) == ["b", "<unk>"]
    assert vocabulary.decode(torch.tensor([3, 2])) == ["b", "a"]  # no end yet
    with pytest.raises(ValueError, match=r"sentence 2 must have words of .* got 'é'"):
        Vocabulary(["<eos>", "a"]).encode([["a"], ["a", "é"]])
    for broken in (["a", "b"], ["<eos>", "a", "a"], ["<eos>", 3], ["<eos>", ""], None):
        with pytest.raises(ValueError, match="'words' must be a list of different words with"):
            Vocabulary(broken)


def test_text_named_files_are_the_splits_and_others_are_not_read(tmp_path):
    folder = write(tmp_path / "own")
    (folder / "readme.txt").write_bytes(b"\xff")
    (folder / "train.txt").write_bytes(b"\xef\xbb\xbfa b b\r\n\r\na b\ra\n")  # a byte order mark
    data = own(folder)
    assert data.vocabulary.words == ["<unk>", "<eos>", "a", "b"] and data.x_dim == 4
    assert [x.tolist() for x, *_ in data.split("train")] == [[2, 3, 3, 1], [2, 3, 1], [2, 1]]
    assert shown(data, "test") == ["a <unk>", "b"] and shown(data, "valid") == ["b"]
    # Training has a 3, b 3, <eos> 3 times, <unk> as if once; test: a, <unk>, b and 2 <eos>.
    floor, nats = data.floor(), -(4 * math.log(3 / 10) + math.log(1 / 10))
    assert floor.nats_per_sequence == pytest.approx(nats / 2)
    assert floor.nats_per_step == pytest.approx(nats / 5)
    assert f"perplexity {math.exp(nats / 5):.1f} per word" in floor.description


def test_text_characters_keep_blanks_and_count_bits(tmp_path):
    data = own(write(tmp_path, "ab a\nb\n", "a\n", "é b\n"), tokens="characters")
    assert data.vocabulary.words == ["<unk>", "<eos>", "a", "b", " "] and data.step == "character"
    assert data.split("test")[0].x.tolist() == [0, 4, 3, 1]
    assert shown(data, "train") == ["ab a", "b"]
    # Of 8: a 2, b 2, " " 1, <eos> 2, <unk> as if 1.
    nats = -sum(math.log(n / 8) for n in (1, 1, 2, 2))
    assert data.floor().nats_per_sequence == pytest.approx(nats)
    assert f"{nats / 4 / math.log(2):.3f} bits per character" in data.floor().description


def test_text_units_letters_and_lengths_are_options(tmp_path):
    file = write(tmp_path, own="It's GOOD. Is it?\n\n\nA line\nbreak.\n \n" * 5) / "own.txt"
    lines, cut = own(file, lower=True), own(file, unit="sentence")
    assert {"it's good. is it?", "a line"} < {s for split in SPLITS for s in shown(lines, split)}
    both = {s for split in SPLITS for s in shown(cut, split)}
    assert both == {"It's GOOD.", "Is it?", "A line break."}
    file.write_text("\n".join(["a b c"] * 30 + ["a " * 2_000] + ["a " * 5]))
    with pytest.warns(UserWarning, match=r"own.txt' has 1 lines much longer .* 2000 words, 'a a a"):
        data = own(file)
        assert max(int(data.split(s).lengths.max()) for s in SPLITS) == 2_001
    short = own(file, max_length=3)
    assert sum(len(short.split(s)) for s in SPLITS) == 30
    for option, value in {"tokens": "letters", "unit": "book", "max_length": 0}.items():
        with pytest.raises(ValueError, match=f"'{option}' must be"):
            own("own.txt", **{option: value})


def test_text_single_file_is_divided_once_and_for_all_by_the_seed(tmp_path):
    lines = [f"line {i}" for i in range(50)]
    file = write(tmp_path, own="\n\n".join(lines)) / "own.txt"

    def divided(**options):
        data = own(file, tokens="blanks", **options)
        return [shown(data, split) for split in SPLITS]

    parts = divided()
    assert parts[0] == [line for line in lines if line in parts[0]]  # in the order of the file
    # Their numbers are unknown: no line of training is in them.
    assert len(set(parts[0])) == 40 and parts[1] == parts[2] == ["line <unk>"] * 5
    assert divided(seed=0) == parts != divided(seed=1)


def test_text_archives_and_gzipped_files_are_divided_by_file(tmp_path):
    (tmp_path / "own").mkdir()
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for i in range(10):
            text = f"file {i} a\nfile {i} b\n".encode()
            archive.writestr(f"pos/{i}.txt", text)
            (tmp_path / "own" / f"{i}.txt.gz").write_bytes(gzip.compress(text))
    for path in (tmp_path / "own.zip", tmp_path / "own"):
        data = own(path)
        assert [len(data.split(s)) for s in SPLITS] == [16, 2, 2]
        parts = [{s.split()[1] for s in shown(data, split)} for split in SPLITS]
        assert [len(part) for part in parts] == [8, 1, 1]  # a file is in one split


def test_text_broken_files_are_named(tmp_path, monkeypatch):
    file, zipped = tmp_path / "own.txt", gzip.compress(b"a b\n" * 1_000)
    for content, message in (
        (b"one\ntwo\ncaf\xe9\n", "must be text in UTF-8, got the byte 0xe9 in line 3"),
        ("one\ntwo".encode("utf-16"), "must be text in UTF-8, got the byte 0xff in line 1"),
        (b"one\ntwo\0\n", "must be text, got a NUL byte in line 2"),
        (b"\n \n\t\n", "must have text, got none"),
        (zipped[:-20], "must be a whole gzip file"),
        (zipped[:10] + b"\xff" * 50, "must be a whole gzip file, got: Error -3"),
        (b"one\ntwo", "must be enough for train, valid and test .* got 2"),
        (b"a b c\n" * 10, "must have lines of at most 2 words for 'train', got none"),
        (b"a <eos>\n" * 3, "must have words .*, '<eos>' not among them"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"own\.txt'.* {message}"):
            own(file, tokens="blanks", max_length=2).split("train")
    file.write_bytes(gzip.compress(b"a b\n" * 10**6))
    monkeypatch.setattr(files, "available_memory", lambda: 10**6)  # C2
    with pytest.raises(ValueError, match=r"own.txt' must fit in memory, got"):
        own(file).split("train")


def test_text_folders_that_lack_something_are_named(tmp_path):
    (write(tmp_path) / "valid.txt").unlink()
    with pytest.raises(ValueError, match="a text for train, valid and test, got none for 'valid'"):
        own(tmp_path).split("train")
    assert not corpus("text").found() and own(tmp_path).found()


def test_text_run_keeps_its_vocabulary(tmp_path):
    folder = write(tmp_path / "own")
    facts = own(folder).facts()
    later = own(folder)
    later.restore(facts | {"words": ["<unk>", "<eos>", "a"]})
    assert later.x_dim == 3 and shown(later, "train") == ["a <unk> <unk>", "a <unk>", "a"]
    fingerprint = later.fingerprint()
    later.check_unchanged(fingerprint)
    write(folder, train="c c c\nb\n")  # W10
    with pytest.raises(ValueError, match="the data changed since training: 'own' has other conte"):
        own(folder).check_unchanged(fingerprint)
    gone = own(tmp_path / "gone")
    gone.restore({"words": ["<unk>", "<eos>", "it", "'s", ".", "\x1b[2J", "é"]})
    x = torch.tensor([2, 3, 5, 6, 4, 1, 6, 6])
    gone.write(x, tmp_path / "x.txt")
    assert (tmp_path / "x.txt").read_bytes() == "it's \x1b[2J é.\n".encode()  # C4
    assert gone.as_text(x) == "it's \ufffd[2J é."  # a terminal is not cleared
    long = gone.as_text(torch.tensor([6] * 100)).split("\n")
    assert len(long) > 1 and max(map(len, long)) <= 80
