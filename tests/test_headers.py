"""Headers made and read at once are those that requests makes name by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from requests_connection_manager import headers
from requests_connection_manager.headers import BlankHeaders, headers_of, spelt, stored

names = st.sampled_from(["A", "a", "b", "Content-Type", "content-type", "X-Ü", "x-ü"])
pairs_of = st.lists(st.tuples(names, st.one_of(st.text(max_size=3), st.binary(max_size=3))))


@pytest.fixture(params=[True, False], ids=["as kept today", "kept otherwise"], scope="class")
def _kept(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(headers, "_KEPT_AS_SAID", request.param and headers._KEPT_AS_SAID)
        yield


@pytest.mark.usefixtures("_kept")
class TestTheyAreThoseOfRequests:
    @given(pairs_of)
    def test_made_of_pairs(self, pairs: list[tuple[str, object]]) -> None:
        made, theirs = headers_of(iter(pairs)), CaseInsensitiveDict(pairs)
        assert type(made) is CaseInsensitiveDict
        assert [*made.items()] == [*theirs.items()]
        assert [*made.lower_items()] == [*theirs.lower_items()]
        made["content-TYPE"] = "mine"
        assert made["Content-Type"] == "mine"

    @given(pairs_of)
    def test_copied(self, pairs: list[tuple[str, object]]) -> None:
        blank = BlankHeaders(pairs)
        copied = blank.copy()
        assert type(copied) is CaseInsensitiveDict
        assert [*copied.items()] == [*blank.items()]
        copied["a"] = copied["new"] = "1"
        assert [*blank.items()] == [*CaseInsensitiveDict(pairs).items()]

    @given(pairs_of)
    def test_read(self, pairs: list[tuple[str, object]]) -> None:
        theirs = CaseInsensitiveDict(pairs)
        assert [*spelt(theirs).items()] == [*theirs.items()]
        assert [each for _, each in stored(theirs)] == [*theirs.items()]
        assert [lower for lower, _ in stored(theirs)] == [name for name, _ in theirs.lower_items()]

    def test_a_kind_of_somebody_elses_is_asked_itself(self) -> None:
        class Signed(CaseInsensitiveDict):
            def __getitem__(self, name: str) -> str:
                return "signed " + super().__getitem__(name)

        assert spelt(Signed(a="1")) == {"a": "signed 1"}


def test_they_are_kept_as_is_said() -> None:
    """If not, all still works, but more slowly: a figure of the benchmarks is no longer true."""
    assert headers._KEPT_AS_SAID
