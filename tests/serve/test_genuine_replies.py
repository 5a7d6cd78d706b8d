"""Replies of our server and of the genuine bert-serving-server, flag for flag.

``BERT_TOKEMB_TEST_RECORD=1 uv run pytest -m slow tests/serve/test_genuine_replies.py`` records the
genuine replies again, with which ``test_recorded_replies.py`` compares ours.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest

from support.cases import CASES
from support.client import connect
from support.genuine import NONE, GenuineServer, known_to_the_server
from support.ours import OurServer
from support.replies import (
    FLAGS,
    MANY,
    REQUESTS,
    ask,
    assert_same,
    common_settings,
    load_recording,
    requests_for,
    save_recording,
    settings_of,
)
from support.texts import random_words

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("genuine"),
]


def plain(*, cased: bool) -> list[str]:
    """Return sentences of all lengths, of characters from all over Unicode."""
    lines = [" ".join(case.words) for case in CASES if case.cased == cased and not case.newer]
    words = known_to_the_server(random_words(Random(5), 1200))
    return lines + [" ".join(words[i : i + 1 + i % 9]) for i in range(0, len(words), 9)]


@pytest.mark.parametrize("label", FLAGS)
def test_replies_are_those_of_the_genuine_server(label: str, uncased_model: Path) -> None:
    flags = FLAGS[label]
    options = ("-model_dir", uncased_model, *flags)
    more = {"plain": plain(cased=False), "a thousand": MANY}
    with GenuineServer(*options) as theirs, OurServer(*options) as ours:
        with connect(theirs.address) as their_client, connect(ours.address) as our_client:
            for texts in requests_for(flags, more).values():
                assert_same(ask(our_client, texts), ask(their_client, texts), flags)
            requests = requests_for(flags, REQUESTS)
            replies = {name: ask(their_client, texts) for name, texts in requests.items()}
            for name, texts in requests.items():
                assert_same(ask(our_client, texts), replies[name], flags)
            settings = common_settings(settings_of(their_client))
            assert common_settings(settings_of(our_client)) == settings
    if os.environ.get("BERT_TOKEMB_TEST_RECORD"):
        save_recording(label, settings, replies)
    recorded_settings, recorded_replies = load_recording(label)
    assert recorded_settings == settings
    assert recorded_replies.keys() == replies.keys()
    for name, reply in recorded_replies.items():
        assert_same(replies[name], reply, flags)


def test_tuned_model_may_have_other_file_names(
    uncased_model: Path, cased_model: Path, tmp_path: Path
) -> None:
    """Vocabulary and configuration from one directory, weights from another; cased."""
    tuned, base = tmp_path / "tuned", tmp_path / "base"
    tuned.mkdir()
    base.mkdir()
    for path in cased_model.glob("bert_model.ckpt*"):
        shutil.copy(path, tuned / path.name.replace("bert_model", "model.tuned"))
    shutil.copy(cased_model / "vocab.txt", base)
    shutil.copy(cased_model / "bert_config.json", base / "other.json")
    flags = (
        *("-model_dir", base, "-tuned_model_dir", tuned, "-ckpt_name", "model.tuned.ckpt"),
        *("-config_name", "other.json", "-cased_tokenization", *NONE, "-max_seq_len", "NONE"),
    )
    with GenuineServer(*flags) as theirs, OurServer(*flags) as ours:
        with connect(ours.address) as our_client, connect(theirs.address) as their_client:
            texts = plain(cased=True)
            assert_same(ask(our_client, texts), ask(their_client, texts), ())
            assert our_client.server_config["do_lower_case"] is False
