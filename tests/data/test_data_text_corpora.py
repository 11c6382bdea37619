"""IMDB and the Penn Treebank, in their publishers' layouts and as the real files."""

import gzip
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from real_data import DATA, real

from zforcing_pyro.data import corpus

SPLITS = ("train", "valid", "test")


def shown(data, split):
    return [data.sentence(x) for x, *_ in data.split(split)]


def write_acl(root, num_films=40):
    """A folder ``aclImdb``: film i has reviews ``i`` of each folder of training."""
    root = root / "aclImdb"
    for part, kind in (("train", "pos"), ("train", "neg"), ("train", "unsup"), ("test", "pos")):
        folder = root / part / kind
        folder.mkdir(parents=True)
        offset = 1_000 if part == "test" else 0
        for i in range(num_films):
            text = f"It's {kind} film{offset + i} here<br /><br />So {part} it, Mr. B. is!!!"
            text += " Bad. - B! The end"
            (folder / f"{i}_7.txt").write_text(text, encoding="utf-8")
        urls = "".join(f"http://www.imdb.com/title/tt{offset + i}/x\n" for i in range(num_films))
        (root / part / f"urls_{kind}.txt").write_text(urls)
    (root / "test" / "neg").mkdir()
    (root / "test" / "neg" / "0_2.txt").write_text("A repeated review of film0 here.")
    (root / "test" / "neg" / "1_2.txt").write_text("I saw film7 once. “Don’t” see it!")
    (root / "test" / "urls_neg.txt").write_text("tt2000\nhttp://www.imdb.com/title/tt7/x\n")
    (root / "train" / "pos" / "3_7.txt").write_text("A repeated review of film0 here.")
    return root


def write_prepared(folder, sizes=(5, 2, 3), lines=None, **changes):
    folder.mkdir(exist_ok=True)
    total = sum(sizes)
    lines = [f"line {i} is ." for i in range(total)] if lines is None else lines
    text = "".join(f"{line}\n" for line in lines).encode()
    (folder / "imdb_sentences.txt.gz").write_bytes(gzip.compress(text))
    arrays = {"split_sizes": np.array(sizes), "label": np.arange(total, dtype=np.int8) % 3 - 1}
    np.savez(folder / "imdb_sentences_meta.npz", **arrays | changes)
    return folder


def write_ptb(folder, **texts):
    folder.mkdir(exist_ok=True)
    texts = {"train": " a <unk> a \n b <unk> \n", "valid": " b \n", "test": " a <unk> \n"} | texts
    for split, text in texts.items():
        (folder / f"ptb.{split}.txt").write_text(text)
    return folder


def test_imdb_reviews_become_sentences_of_words(tmp_path):
    write_acl(tmp_path)
    data = corpus("imdb", data_dir=tmp_path)
    assert data.found() and not data.prepared and data.version.startswith("aclImdb, cut here")
    texts = data.read()
    # 40 positive reviews of test have two sentences each; "bad .", "- b !" and "the end" are none.
    sentences = texts["test"].sentences
    assert sentences[:2] == ["it 's pos film1000 here", "so test it , mr . b . is !"]
    repeated, *others = sentences[80:]
    assert repeated == "a repeated review of film0 here ."
    assert others == ["i saw film7 once .", '" do n\'t " see it !']
    assert texts["test"].labels.tolist() == [1] * 80 + [0] * 3
    # Of 120 reviews for training those of film 7, a test film, are left out, and the repeated one.
    train, valid = texts["train"], texts["valid"]
    assert len(train.sentences) + len(valid.sentences) == 2 * (120 - 3 - 1)
    labels = dict(zip(train.sentences + valid.sentences, [*train.labels, *valid.labels]))
    assert (labels["it 's pos film1 here"], labels["it 's neg film1 here"]) == (1, 0)
    assert labels["it 's unsup film1 here"] == -1
    assert "film7" not in " ".join(train.sentences + valid.sentences)
    assert [len(data.split(s)) for s in SPLITS] == [len(texts[s].sentences) for s in SPLITS]


def test_imdb_films_are_in_one_part_and_options_shorten(tmp_path):
    write_acl(tmp_path)
    texts, again = (corpus("imdb", data_dir=tmp_path / "aclImdb").read() for _ in range(2))
    films = {
        s: {w for t in texts[s].sentences for w in t.split() if w[:4] == "film"} for s in SPLITS
    }
    assert len(films["valid"]) == 2 and not films["train"] & films["valid"]
    assert "film7" in films["test"] and "film7" not in films["train"] | films["valid"]
    assert all(again[s].sentences == texts[s].sentences for s in SPLITS)
    data = corpus("imdb", data_dir=tmp_path, max_length=5, vocabulary=4)
    assert data.x_dim == 6 and int(data.split("train").lengths.max()) == 6
    assert "up to 5 words, 4 commonest" in data.version
    with pytest.raises(ValueError, match="'max_length' must be positive, got 0"):
        corpus("imdb", max_length=0)
    with pytest.raises(ValueError, match="sentences of at most 2 words for 'train', got none"):
        corpus("imdb", data_dir=tmp_path, max_length=2).split("test")


@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        ("test/urls_neg.txt", FileNotFoundError, r"urls_neg.txt'"),
        ("train/urls_neg.txt short", ValueError, r"must have a line for '.*1_7.txt', got 1 lines"),
        ("train/neg/5_7.txt latin", ValueError, r"5_7\.txt' must be text in UTF-8, .* in line 2"),
        ("train/urls_pos.txt", FileNotFoundError, "not found .*aclImdb_v1.tar.gz"),
        ("test/pos empty", ValueError, r"test/pos' must have reviews such as '0_9.txt', got none"),
    ],
)
def test_imdb_broken_download_is_named(tmp_path, broken, error, message):
    name, _, how = broken.partition(" ")
    place = write_acl(tmp_path) / name
    if how in ("short", "latin"):
        place.write_bytes(b"tt0\n" if how == "short" else b"one\ncaf\xe9")
    elif place.is_dir():
        shutil.rmtree(place)
        place.mkdir() if how else None
    else:
        place.unlink()
    with pytest.raises(error, match=message):
        corpus("imdb", data_dir=tmp_path).split("train")


def test_imdb_prepared_sentences_are_split_by_position(tmp_path):
    data = corpus("imdb", data_dir=write_prepared(tmp_path))
    assert data.found() and data.prepared and data.version.startswith("prepared sentences")
    assert [len(data.split(s)) for s in SPLITS] == [5, 2, 3]
    assert data.split("valid").labels.tolist() == [1, -1] and data.label_names == ("sentiment",)
    assert shown(data, "train") == [f"line {i} is." for i in range(5)]
    write_prepared(tmp_path, lines=["a b c"] * 9 + ["a b c d"])
    short = corpus("imdb", data_dir=tmp_path, max_length=3)
    assert [len(short.split(s).labels) for s in SPLITS] == [5, 2, 2]
    for changes, message in (
        ({"split_sizes": np.array([5, 2, 2])}, r"must tell of the 10 lines .* \[5, 2, 2\]"),
        ({"split_sizes": np.array([10, 0, 0])}, "must tell of the 10 lines"),
        ({"label": np.zeros(9, int)}, "got splits of .* and 9 labels"),
        ({"label": np.zeros(10)}, "'label' of .* must be a non-empty integer array"),
    ):
        write_prepared(tmp_path, **changes)
        with pytest.raises(ValueError, match=message):
            corpus("imdb", data_dir=tmp_path).split("train")


def test_imdb_run_reads_the_layout_that_it_began_with(tmp_path):
    write_acl(tmp_path)
    facts = corpus("imdb", data_dir=tmp_path).facts()
    write_prepared(tmp_path)
    later = corpus("imdb", data_dir=tmp_path)
    assert later.prepared
    later.restore(facts)
    assert not later.prepared and "aclImdb" in later.version and len(later.split("test")) == 83
    with pytest.raises(ValueError, match=r"'max_length' must be at most 15, .* got 20"):
        corpus("imdb", data_dir=tmp_path, max_length=20).split("train")


@pytest.mark.parametrize(("folder", "gzipped"), [("", False), ("ptb", True)])
def test_ptb_is_read_line_by_line(tmp_path, folder, gzipped):
    root = write_ptb(tmp_path / folder)
    for file in list(root.glob("*.txt")) if gzipped else ():
        Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    words, characters = (corpus(n, data_dir=tmp_path) for n in ("ptb", "ptb_characters"))
    assert words.found() and characters.found()
    assert words.vocabulary.words == ["<unk>", "<eos>", "a", "b"]
    assert [x.tolist() for x, *_ in words.split("train")] == [[2, 0, 2, 1], [3, 0, 1]]
    assert words.split("test")[0].x.tolist() == [2, 0, 1]
    assert characters.vocabulary.words == ["<eos>", " ", "<", ">", "a", "k", "n", "u", "b"]
    assert shown(characters, "train") == ["a <unk> a", "b <unk>"]


def test_ptb_broken_files_are_named(tmp_path):
    data = corpus("ptb_characters", data_dir=write_ptb(tmp_path, valid="b\na é\n"))
    with pytest.raises(ValueError, match=r"'valid' of Penn .*: sentence 2 must .* got 'é'"):
        data.split("train")
    write_ptb(tmp_path, valid="\n \n")
    with pytest.raises(ValueError, match=r"ptb\.valid\.txt' must have a sentence a line, got none"):
        corpus("ptb", data_dir=tmp_path).split("train")


@real
def test_imdb_has_the_counts_and_the_floor_of_the_readme():
    begin = time.process_time()
    data = corpus("imdb", data_dir=DATA)
    splits = [data.split(s) for s in SPLITS]
    assert time.process_time() - begin < 15  # 2 s where nothing else runs
    assert [len(s) for s in splits] == [317_753, 15_931, 112_296]
    tokens = [int(s.lengths.sum()) - len(s) for s in splits]
    assert tokens == [3_164_893, 159_290, 1_115_501]
    assert [int(s.lengths.min()) - 1 for s in splits] == [3] * 3
    assert [int(s.lengths.max()) - 1 for s in splits] == [15] * 3
    assert data.x_dim == 16_002
    published = (DATA / "imdb_vocab16k.txt").read_text(encoding="utf-8").split()
    assert data.vocabulary.words[2:] == published
    unknown = [float(data._counts[s][0]) / n for s, n in zip(SPLITS, tokens)]
    assert [f"{share:.2%}" for share in unknown] == ["2.51%", "2.93%", "3.05%"]
    assert [sorted(set(s.labels.tolist())) for s in splits] == [[-1, 0, 1], [-1, 0, 1], [0, 1]]
    floor = data.floor()
    assert f"{math.exp(floor.nats_per_step):.1f}" == "374.0"
    assert f"{floor.nats_per_sequence:.2f}" == "64.77"
    assert "perplexity 374.0 per word" in floor.description
    sentence = splits[2][3].x
    assert data.as_text(sentence) == "it's too long and the climax is anti-climactic (!)."


@real
@pytest.mark.parametrize(
    ("name", "steps", "symbols", "floor"),
    [
        ("ptb", [929_589, 73_760, 82_430], 10_000, "perplexity 639.3 per word"),
        ("ptb_characters", [5_017_482, 393_042, 442_423], 50, "4.346 bits per character"),
    ],
)
def test_ptb_has_the_counts_and_the_floor_of_the_readme(name, steps, symbols, floor):
    data = corpus(name, data_dir=DATA)
    splits = [data.split(s) for s in SPLITS]
    assert [len(s) for s in splits] == [42_068, 3_370, 3_761]
    assert [int(s.lengths.sum()) for s in splits] == steps and data.x_dim == symbols
    assert floor in data.floor().description
