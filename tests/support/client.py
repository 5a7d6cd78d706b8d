"""A helper that connects the original client without losing replies."""

from __future__ import annotations

import time
from typing import Any

from bert_serving.client import BertClient

from bert_tokemb import Address

__all__ = ["connect"]

_CONFIG_INTERVAL = 1000  # milliseconds


def connect(address: Address, *, timeout: float = 120.0, **options: Any) -> BertClient:
    """Return a client whose subscription has reached the server.

    The genuine server publishes each reply once, and the reply is lost if the subscription of the
    client has not arrived by then. After the first answer, no more replies are lost. The
    constructor of :class:`BertClient` requests the settings once and may wait forever for the
    answer; this function repeats the request until it is answered.

    Args:
        address: The address of the server.
        timeout: Seconds to wait, here and for each reply.
        options: Options of :class:`BertClient`.
    """
    client = BertClient(
        address.host, address.port, address.port_out, ignore_all_checks=True, **options
    )
    client.timeout = _CONFIG_INTERVAL
    deadline = time.monotonic() + timeout
    while True:
        try:
            config = client.server_config
            break
        except TimeoutError:
            if time.monotonic() > deadline:
                client.close()
                raise
    client.token_info_available = bool(config["show_tokens_to_client"])
    client.timeout = round(1000 * timeout)
    return client
