"""Text as tokens, and windows of them; Penn Treebank's files; the King James Bible."""

from __future__ import annotations

import gzip
import math
import shutil
import subprocess
from collections import Counter

import pytest
import torch
from data_files import tar_of, written

from halflife.lab.data import (
    DataError,
    Vocabulary,
    load,
    load_ptb,
    load_text,
    random_windows,
    unigram_entropy,
    window_count,
    windows,
)

# --- vocabulary -----------------------------------------------------------------------------------


def test_characters(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("aab\nbaac" + "a" + "z", "utf-8")
    data = load_text(path, validation=0.1, test=0.1)
    assert data.vocabulary.tokens == ("a", "b", "\n", "c", "<unk>")  # by how often, then by name
    assert data.train.inputs.tolist() == [0, 0, 1, 2, 1, 0, 0, 3]
    assert data.validation.inputs.tolist() == [0]
    assert data.test.inputs.tolist() == [data.vocabulary.unknown]  # z is not in the training part
    assert data.vocabulary.decode(data.train.inputs) == "aab\nbaac"
    assert data.vocabulary.encode("cab?").tolist() == [3, 0, 1, 4]
    assert data.classes == data.vocabulary.tokens


def test_words(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("the cat  sat\non the mat\nthe dog\n\n", "utf-8")
    data = load_text(path, level="word", validation=0.2, test=0.1)
    words = [
        "the",
        "cat",
        "sat",
        "<eos>",
        "on",
        "the",
        "mat",
        "<eos>",
        "the",
        "dog",
        "<eos>",
        "<eos>",
    ]
    cut = round(len(words) * 0.7)
    assert data.vocabulary.decode(data.train.inputs) == " ".join(words[:cut])
    assert data.vocabulary.tokens[:2] == ("<eos>", "the")  # twice each, in the training part
    assert data.validation.inputs.tolist() == data.vocabulary.encode("the dog").tolist()
    assert "dog" not in data.vocabulary.tokens


def test_the_vocabulary_is_of_the_training_part_alone(tmp_path):
    path = tmp_path / "a.txt"
    for rest in ("b" * 20, "c" * 20):
        path.write_text("ab" * 40 + rest, "utf-8")
        assert load_text(path).vocabulary.tokens == ("a", "b", "<unk>")


def test_a_limit_keeps_the_most_frequent(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a a a b b c d a a a\n" * 10, "utf-8")
    data = load_text(path, level="word", limit=4)
    assert data.vocabulary.tokens == ("a", "b", "<eos>", "<unk>")
    share = (data.train.inputs.long() == data.vocabulary.unknown).double().mean()
    assert share == pytest.approx(2 / 11, abs=0.01)


def test_tokens_are_kept_in_few_bits(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(" ".join(map(str, range(65_535))) + " " + "0 " * 20_000, "utf-8")
    small = load_text(path, level="word", validation=0.1, test=0.1)
    assert (len(small.vocabulary), small.train.inputs.dtype) == (65_536, torch.uint16)
    assert int(small.train.inputs[-1]) == 0  # the most frequent
    assert sorted(set(small.train.inputs[:65_535].tolist())) == list(range(65_535))
    path.write_text(" ".join(map(str, range(65_536))) + " " + "0 " * 20_000, "utf-8")
    large = load_text(path, level="word", validation=0.1, test=0.1)
    assert (len(large.vocabulary), large.train.inputs.dtype) == (65_537, torch.int32)


def test_packed_text_is_the_same(tmp_path):
    text = "Grüße, and a line\r\nmore\n" * 9
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    a, b = (load("text", tmp_path / name) for name in ("a.txt", "a.txt.gz"))
    assert a.train.inputs.tolist() == b.train.inputs.tolist()
    parts = (a.train, a.validation, a.test)
    assert "".join(a.vocabulary.decode(part.inputs) for part in parts) == text


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(DataError, match=r"a\.txt: missing, expected a text"):
        load_text(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.txt: empty"):
        load_text(path)
    path.write_bytes(b"abc\xff\xfe" * 9)
    with pytest.raises(DataError, match=r"a\.txt: expected a text in UTF-8, found byte 0xff"):
        load_text(path)
    path.write_bytes(gzip.compress(b"abc" * 99)[:20])
    with pytest.raises(DataError, match="found byte 0x8b"):
        load_text(path)
    path.rename(tmp_path / "a.gz")
    with pytest.raises(DataError, match=r"a\.gz: cut off or damaged"):
        load_text(tmp_path / "a.gz")
    for settings in ({"level": "line"}, {"test": 1.0}, {"validation": 0, "test": 0}, {"limit": 1}):
        path.write_text("abc" * 9, "utf-8")
        with pytest.raises(ValueError, match=r"must be"):
            load_text(path, **settings)


def test_entropy():
    assert unigram_entropy(torch.arange(8)) == pytest.approx(math.log(8), rel=1e-15)
    assert unigram_entropy(torch.zeros(9, dtype=torch.int32)) == 0
    biased = torch.tensor([0] * 3 + [1], dtype=torch.uint16)
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert unigram_entropy(biased) == pytest.approx(expected, rel=1e-15)


# --- Penn Treebank --------------------------------------------------------------------------------

PTB = {
    "ptb.train.txt": b" the <unk> sat N times \n the mat \n",
    "ptb.valid.txt": b" the cat sat \n",
    "ptb.test.txt": b" mat N \n",
}


@pytest.mark.parametrize("where", ["folder", "unpacked", "archive", "beside"])
def test_ptb(tmp_path, where):
    files = {f"./simple-examples/data/{name}": data for name, data in PTB.items()}
    root = tmp_path
    if where == "folder":
        written(tmp_path, PTB)
    elif where == "unpacked":
        written(tmp_path, files)
    else:
        path = tar_of(tmp_path / "simple-examples.tgz", files)
        root = path if where == "archive" else tmp_path
    data = load_ptb(root, verify=False)
    decode = data.vocabulary.decode
    assert decode(data.train.inputs) == "the <unk> sat N times <eos> the mat <eos>"
    assert decode(data.validation.inputs) == "the <unk> sat <eos>"  # cat is not in the training
    assert decode(data.test.inputs) == "mat N <eos>"
    assert len(data.vocabulary) == 7  # <unk> is a word of the files: none is added


def test_ptb_verified_missing_and_cut(tmp_path):
    with pytest.raises(DataError, match=r"ptb: not found in .*put ptb\.train\.txt"):
        load_ptb(tmp_path)
    written(tmp_path, PTB)
    with pytest.raises(DataError, match=r"official data \(MD5 f26c4b92c5fdc7b3f8c7cdcb991d8420\)"):
        load_ptb(tmp_path)
    files = {f"simple-examples/data/{name}": data for name, data in PTB.items()}
    path = tar_of(tmp_path / "simple-examples.tgz", files)
    with pytest.raises(DataError, match=r"simple-examples\.tgz: ptb.train.txt: .*official data"):
        load_ptb(path)
    (tmp_path / "ptb.valid.txt").unlink()
    with pytest.raises(DataError, match=r"ptb\.valid\.txt: missing"):
        load_ptb(tmp_path, verify=False)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"simple-examples\.tgz"):
        load_ptb(path, verify=False)


# --- windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "batch", "time"), [(101, 4, 5), (100, 4, 5), (37, 3, 7), (9, 8, 3)]
)
def test_streams_are_contiguous_and_targets_are_shifted_by_one(length, batch, time):
    tokens = torch.arange(length, dtype=torch.int32)
    pairs = list(windows(tokens, batch, time))
    assert len(pairs) == window_count(length, batch, time)
    inputs = torch.cat([x for x, _ in pairs], 1)
    targets = torch.cat([y for _, y in pairs], 1)
    assert torch.equal(targets, inputs + 1)  # of tokens that are their own places
    each = (length - 1) // batch
    assert torch.equal(inputs, torch.arange(batch * each).view(batch, each))  # each once, in turn
    assert length - 1 - batch * each < batch  # fewer than one a stream are left out
    assert {x.shape[1] for x, _ in pairs[:-1]} <= {time}
    assert pairs[0][0].dtype == torch.int64


def test_windows_resume_and_are_shared():
    tokens = torch.randint(0, 60_000, (1001,)).to(torch.uint16)
    whole = list(windows(tokens, 4, 7))
    for k in (0, 1, 35, 36, 99):
        rest = list(windows(tokens, 4, 7, start=k))
        assert len(rest) == len(whole[k:])
        assert all(
            torch.equal(a[i], b[i]) for a, b in zip(rest, whole[k:], strict=True) for i in (0, 1)
        )
    for rank in range(2):
        own = list(windows(tokens, 4, 7, rank=rank, world=2))
        assert all(torch.equal(a[0], b[0][rank::2]) for a, b in zip(own, whole, strict=True))
    assert torch.equal(whole[0][0][0], tokens[:7].long())


def test_random_windows():
    tokens = (torch.arange(66_000) % 65_536).to(torch.uint16)
    steps = list(random_windows(tokens, 8, 5, seed=1, epoch=2, steps=6))
    assert len(steps) == 6
    for x, y in steps:
        assert x.shape == y.shape == (8, 5)
        assert torch.equal(x[:, 1:], y[:, :-1])
        assert torch.equal(y, (x + 1) % 65_536)  # numbers above 2**15 come out whole
    rest = list(random_windows(tokens, 8, 5, seed=1, epoch=2, steps=6, start=4))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(rest, steps[4:], strict=True))
    own = list(random_windows(tokens, 8, 5, seed=1, epoch=2, steps=6, rank=1, world=2))
    assert all(torch.equal(a[0], b[0][1::2]) for a, b in zip(own, steps, strict=True))
    other = next(random_windows(tokens, 8, 5, seed=1, epoch=3))
    assert not torch.equal(other[0], steps[0][0])
    assert len(list(random_windows(tokens, 8, 500))) == 65_999 // 4_000


def test_all_places_are_drawn_alike():
    tokens = torch.arange(13)  # a window of 3 and its last target begin at 10 places
    counts = torch.zeros(10)
    for x, _ in random_windows(tokens, 1000, 3, steps=10):
        counts += x[:, 0].bincount(minlength=10)
    chi = float(((counts - 1000) ** 2 / 1000).sum())
    assert chi < 9 + 4 * math.sqrt(18)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "batch must be an integer >= 1"),
        ({"time": 0}, "time must be an integer >= 1"),
        ({"batch": 3, "world": 2}, "batch must be a multiple of world=2"),
        ({"world": 2, "rank": 2}, "rank must be below world=2"),
        ({"start": -1}, "start must be an integer >= 0"),
        ({"batch": 100}, "batch must be less than the text's 50 tokens"),
    ],
)
def test_arguments_of_windows(settings, message):
    with pytest.raises(ValueError, match=message):
        windows(torch.arange(50), **{"batch": 2, "time": 5, **settings})


def test_arguments_of_random_windows():
    with pytest.raises(ValueError, match="time must be less than the text's 50 tokens"):
        random_windows(torch.arange(50), 2, 50)
    with pytest.raises(ValueError, match="tokens must be of one dimension"):
        random_windows(torch.zeros(5, 5), 2, 3)


def test_a_vocabulary_compares_by_its_tokens():
    assert Vocabulary(("a", "<unk>"), "char") == Vocabulary(("a", "<unk>"), "char")
    assert Vocabulary(("a", "<unk>"), "word").encode("a b\n").tolist() == [0, 1, 1]


# --- a real text ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bible(tmp_path_factory):
    program = shutil.which("bible")
    if program is None:
        pytest.skip("Debian's package bible-kjv is not installed")
    done = subprocess.run(
        [program, "-f", "gen1:1-rev22:21"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    path = tmp_path_factory.mktemp("text") / "bible.txt"
    path.write_bytes(done.stdout)
    return path


@pytest.mark.slow
def test_the_entropy_of_the_bibles_letters(bible):
    text = bible.read_text("utf-8")
    assert len(text.splitlines()) == 31_102  # verses
    data = load_text(bible)
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == pytest.approx(
        [0.8 * len(text), 0.1 * len(text), 0.1 * len(text)], abs=1
    )
    head = text[: len(data.train)]
    assert data.vocabulary.decode(data.train.inputs[:1000]) == head[:1000]
    counts = Counter(head)
    expected = -sum(n / len(head) * math.log(n / len(head)) for n in counts.values())
    assert unigram_entropy(data.train.inputs) == pytest.approx(expected, rel=1e-12)
    # Shannon (1951): 4.14 bits for 26 letters alone, 4.03 with the blank; here with capitals,
    # commas and numbers of verses, and a blank for every five letters.
    assert 4.0 < expected / math.log(2) < 4.8


@pytest.mark.slow
def test_the_entropy_of_the_bibles_words(bible):
    data = load_text(bible, level="word")
    words = [w for line in bible.read_text("utf-8").splitlines() for w in (*line.split(), "<eos>")]
    head = words[: len(data.train)]
    counts = Counter(head)
    expected = -sum(n / len(head) * math.log(n / len(head)) for n in counts.values())
    assert unigram_entropy(data.train.inputs) == pytest.approx(expected, rel=1e-12)
    assert data.vocabulary.tokens[0] == counts.most_common(1)[0][0]
    assert len(data.vocabulary) == len(counts) + 1
    assert data.train.inputs.dtype == torch.uint16
