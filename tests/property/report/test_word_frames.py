"""Frames in columns: what is asked of all words at once is what each word answers by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mematlas.recording.model import Frame
from mematlas.report.analyse.word_frames import WordFrames

FRAMES = [Frame(f"f{number % 5}", None, number, None, "native") for number in range(8)]
FRAMES += [Frame("f0", None, 0, None, "native")]  # equal to the first, another object
NONE = 99


@given(
    words=st.lists(st.lists(st.integers(0, 8), max_size=4), max_size=12),
    marked=st.sets(st.integers(0, 8)),
    ranks=st.lists(st.integers(0, 50), min_size=9, max_size=9),
)
def test_columns_answer_as_each_word(
    words: list[list[int]], marked: set[int], ranks: list[int]
) -> None:
    """Empty words, words of one frame several times, and equal frames are among them."""
    columns = WordFrames([tuple(FRAMES[each] for each in word) for word in words])
    number_of = {id(frame): number for number, frame in enumerate(FRAMES)}
    numbers = [number_of[id(frame)] for frame in columns.frames]
    assert len(set(numbers)) == len(numbers)
    marks = columns.mark(lambda frame: number_of[id(frame)] in marked)
    values = np.array([ranks[each] for each in numbers], np.int64)

    assert columns.lengths.tolist() == [len(word) for word in words]
    assert columns.any(marks).tolist() == [bool(marked & set(word)) for word in words]
    assert columns.all(marks).tolist() == [bool(word) and marked >= set(word) for word in words]
    assert columns.least(values[columns.numbers], NONE).tolist() == [
        min((ranks[each] for each in word), default=NONE) for word in words
    ]
    assert columns.first(values, NONE).tolist() == [
        ranks[word[0]] if word else NONE for word in words
    ]
