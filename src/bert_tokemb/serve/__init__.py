"""A bert-serving-server: the protocol of bert-as-service 1.10.0 in front of the local engine.

A request passes through these modules in order: :mod:`.sockets` receives it, :mod:`.protocol`
parses it, :mod:`.pending` holds it until it is answered, :mod:`.schedule` decides when each of its
sentences is computed, :mod:`.workers` compute them with :mod:`.features` and :mod:`.pooling`, and
:mod:`.reply_queue` keeps the reply until the client reads it. :mod:`.server` is the thread that
connects them.
"""
