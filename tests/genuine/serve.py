"""Run the genuine bert-serving-start, on the loopback address only.

    python serve.py -model_dir DIR -port P ...

Runs under Python 3.7. The server binds ``tcp://*`` and has no option for it; everything else
is as its own command has it.
"""

import sys

import zmq

_bind = zmq.Socket.bind


def bind_to_loopback(self, address):
    return _bind(self, address.replace("tcp://*:", "tcp://127.0.0.1:"))


zmq.Socket.bind = bind_to_loopback

if __name__ == "__main__":
    from bert_serving.server.cli import main

    sys.argv[0] = "bert-serving-start"
    main()
