"""Templates give each partition a directory of its own, inside the base."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kalamdb_lab.errors import InvalidOptionError
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.templates import (
    SHARED_TEMPLATE,
    USER_TEMPLATE,
    Templates,
    checked_template,
    encoded,
    json_object,
    shards_of,
)

TRACKS = TableId("studio", "tracks")
USERS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True)
GAPS = st.sampled_from(["/", "-", "_/", "/u-", "-t_", "/x/y_"])


@given(user=USERS | st.sampled_from(["..", ".", "../../etc", "a/b", "C:\\x", "%2e", "~", "*"]))
def test_a_user_has_one_directory_inside_the_base(user: str) -> None:
    storage = Storage("local", "/srv/base")
    directory = storage.directory(TRACKS, user)
    assert directory.startswith("studio/tracks/")
    assert directory.count("/") == 2
    place = os.path.normpath(storage.absolute(directory))
    assert place == f"/srv/base/{directory}"
    assert len(Path(place).name.encode()) < 200


@given(one=USERS, other=USERS)
def test_two_users_never_share_a_directory_even_where_case_is_not_told_apart(
    one: str, other: str
) -> None:
    assert (encoded(one).casefold() == encoded(other).casefold()) is (one == other)


def test_users_that_differ_in_case_or_in_their_last_letter_are_apart() -> None:
    ids = ["ua", "UA", "Ua", "x" * 128, "x" * 127 + "y", "ß" * 128, "ß" * 127 + "s"]
    assert len({encoded(user).casefold() for user in ids}) == len(ids)
    assert encoded("alice") == "alice"


def test_a_shared_table_and_a_sharded_user_follow_their_templates() -> None:
    storage = Storage("nas", "/srv", user_template="{shard}/{namespace}/t-{tableName}/{userId}")
    assert storage.directory(TRACKS) == "studio/tracks"
    directory = storage.directory(TRACKS, "alice")
    assert directory == storage.directory(TRACKS, "alice")
    shard, *rest = directory.split("/")
    assert rest == ["studio", "t-tracks", "alice"]
    assert shard.startswith("shard_")
    assert 0 <= int(shard.removeprefix("shard_")) < 16


@pytest.mark.parametrize(
    ("option", "template", "message"),
    [
        ("user_template", "{namespace}/{tableName}", "USER_TABLES_TEMPLATE must contain {userId}"),
        (
            "shared_template",
            "{tableName}/{namespace}",
            "SHARED_TABLES_TEMPLATE must contain {namespace} before {tableName}",
        ),
        ("shared_template", "{tableName}", "SHARED_TABLES_TEMPLATE must contain {namespace}"),
        ("shared_template", "/srv/{namespace}/{tableName}", None),
        ("shared_template", "../{namespace}/{tableName}", None),
        ("shared_template", "{namespace}/{tableName}/{userId}", None),
        ("user_template", "{namespace}/{userId}/{tableName}", None),
        ("user_template", "{namespace}{tableName}/{userId}", None),
        ("user_template", "{namespace}/{tableName}/{user-id}/{userId}", None),
    ],
)
def test_a_template_that_would_mix_or_leave_directories_is_refused(
    option: str, template: str, message: str | None
) -> None:
    with pytest.raises(InvalidOptionError) as refusal:
        Storage("nas", "/srv", **{option: template})  # type: ignore[arg-type]
    if message is not None:
        assert str(refusal.value) == message


@given(
    gaps=st.tuples(GAPS, GAPS, GAPS),
    shard_at=st.integers(0, 3),
    some=st.lists(st.tuples(NAMES, NAMES, USERS), min_size=2, max_size=6, unique=True),
)
def test_no_two_partitions_meet_in_one_directory(
    gaps: tuple[str, str, str], shard_at: int, some: list[tuple[str, str, str]]
) -> None:
    parts = ["{namespace}", "{tableName}", "{userId}"]
    parts.insert(shard_at, "{shard}")
    template = "".join(part + gap for part, gap in zip(parts, [*gaps, ""], strict=True))
    namespace, _, rest = template.partition("{tableName}")
    assume("/" in namespace.partition("{namespace}")[2] or "/" in rest)  # else too long for a disk
    templates = Templates(SHARED_TEMPLATE, checked_template("USER_TABLES_TEMPLATE", template), 3)
    directories = {templates.directory(TableId(n, t), user) for n, t, user in some}
    assert len(directories) == len(some)


def test_names_are_resolved_once_per_table_and_users_per_request() -> None:
    class Watched(Templates):
        resolved = 0

        def _resolved(self, known: dict[TableId, str], template: str, table_id: TableId) -> str:
            self.resolved += 1
            return super()._resolved(known, template, table_id)

    templates = Watched(SHARED_TEMPLATE, USER_TEMPLATE, 16)
    for user in ("alice", "bob", "alice"):
        assert templates.directory(TRACKS, user) == f"studio/tracks/{user}"
        assert templates.directory(TRACKS) == "studio/tracks"
    assert templates.resolved == 2
    assert templates.directory(TableId("studio", "plays"), "bob") == "studio/plays/bob"
    assert templates.resolved == 3


def test_a_user_id_that_looks_like_a_placeholder_is_only_a_user_id() -> None:
    templates = Templates(SHARED_TEMPLATE, "{namespace}/{tableName}/{userId}", 16)
    assert templates.directory(TRACKS, "{shard}") == "studio/tracks/%7Bshard%7D"


@given(user=USERS, shards=st.integers(1, 50))
def test_a_shard_is_one_of_so_many_and_follows_the_user_alone(user: str, shards: int) -> None:
    templates = Templates(SHARED_TEMPLATE, "{shard}/{namespace}/{tableName}/{userId}", shards)
    shard, _ = templates.directory(TRACKS, user).split("/", 1)
    assert 0 <= int(shard.removeprefix("shard_")) < shards
    assert templates.directory(TableId("other", "t"), user).startswith(f"{shard}/")


def test_the_shard_of_a_user_is_the_same_for_ever() -> None:
    templates = Templates(SHARED_TEMPLATE, "{shard}/{namespace}/{tableName}/{userId}", 16)
    found = {user: templates.directory(TRACKS, user).split("/")[0] for user in ("alice", "bob")}
    assert found == {"alice": "shard_0", "bob": "shard_5"}


def test_a_template_whose_names_no_disk_would_take_is_refused() -> None:
    fits = "{namespace}-{tableName}-{userId}"
    assert checked_template("USER_TABLES_TEMPLATE", fits) == fits
    with pytest.raises(InvalidOptionError, match="makes names of more than 255 bytes"):
        checked_template("USER_TABLES_TEMPLATE", f"longer-{fits}")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "CONFIG must be a JSON object"),
        ("{", "CONFIG must be a JSON object"),
        ("[" * 100_000, "CONFIG must be a JSON object"),
        ('{"shards": 0}', "CONFIG shards must be a whole number, 1 to 65,536"),
        ('{"shards": 65537}', "CONFIG shards must be a whole number, 1 to 65,536"),
        ('{"shards": true}', "CONFIG shards must be a whole number, 1 to 65,536"),
        ('{"shards": 2.0}', "CONFIG shards must be a whole number, 1 to 65,536"),
        ('{"shard": 2}', "Unknown CONFIG key 'shard'; use shards"),
    ],
)
def test_a_config_that_would_not_be_obeyed_is_refused(config: str, message: str) -> None:
    with pytest.raises(InvalidOptionError) as refusal:
        shards_of(config)
    assert str(refusal.value) == message


def test_a_config_says_how_many_shards_there_are() -> None:
    assert [shards_of(config) for config in (None, "{}", '{"shards": 65536}')] == [16, 16, 65_536]


def test_a_secret_that_is_no_json_is_not_quoted() -> None:
    assert json_object("CREDENTIALS", '{"key": "s3cr3t"}') == {"key": "s3cr3t"}
    with pytest.raises(InvalidOptionError) as refusal:
        json_object("CREDENTIALS", "s3cr3t")
    assert str(refusal.value) == "CREDENTIALS must be a JSON object"
