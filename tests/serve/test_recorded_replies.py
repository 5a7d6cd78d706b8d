"""Our server's replies are those recorded from the genuine one, flag for flag."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_tokemb import Address
from support.client import connect
from support.ours import invoke_serve
from support.replies import (
    FLAGS,
    REQUESTS,
    ask,
    assert_same,
    common_settings,
    load_recording,
    requests_for,
    settings_of,
)


@pytest.mark.parametrize("label", FLAGS)
def test_replies_are_those_recorded(label: str, shared_tiny: Path) -> None:
    flags = FLAGS[label]
    settings, replies = load_recording(label)

    def client(address: Address) -> None:
        with connect(address) as client:
            for name, texts in requests_for(flags, REQUESTS).items():
                assert_same(ask(client, texts), replies[name], flags)
            assert common_settings(settings_of(client)) == settings

    assert invoke_serve(client, "-model_dir", shared_tiny, *flags).returncode == 0
