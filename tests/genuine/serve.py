"""Run the genuine bert-serving-start, on the loopback address only.

    python serve.py -model_dir DIR -port P ...

Runs under Python 3.7. The server binds ``tcp://*`` and has no option for it; everything else
is as its own command has it. It ends, with its workers, at the end of its standard input: whoever
started it is gone then, however that came.
"""

import os
import signal
import sys
import threading

import zmq

_bind = zmq.Socket.bind


def bind_to_loopback(self, address):
    return _bind(self, address.replace("tcp://*:", "tcp://127.0.0.1:"))


zmq.Socket.bind = bind_to_loopback


def end_with_standard_input():
    # Not by sys.stdin: its lock would be held in the forked workers, which close it.
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    from bert_serving.server.cli import main

    sys.argv[0] = "bert-serving-start"
    main()
