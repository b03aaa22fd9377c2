"""File names of the VPR tools, written and read."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.readers.utm_names import FIELDS, read_name, write_name

words = st.text(st.characters(codec="ascii", exclude_characters="@/\0"), max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), words))
def test_what_was_written_is_read(fields: dict[str, str]) -> None:
    assert read_name(Path(write_name(fields))) == dict.fromkeys(FIELDS, "") | fields


def test_a_known_name() -> None:
    """As VPR-datasets-downloader writes it."""
    name = "@0584825.96@4476945.61@17@T@040.43854@-079.99690@000829@03@@@@@@pitch1_yaw1@.jpg"
    fields = read_name(Path("database") / name)
    assert (fields["easting"], fields["northing"], fields["zone"]) == ("0584825.96", "4476945.61", "17")
    assert (fields["pano_id"], fields["tile"], fields["note"]) == ("000829", "03", "pitch1_yaw1")
    assert write_name(fields) == name


def test_later_fields_may_be_absent() -> None:
    assert read_name(Path("@1.5@2@.png")) == {"easting": "1.5", "northing": "2"}
    assert read_name(Path("plain.jpg")) == {}
