"""Run the genuine bert-serving-start on the loopback address.

    python serve.py -model_dir DIR -port P ...

Runs under Python 3.7. The server always binds ``tcp://*``; this script replaces only that address.
The server and its workers are killed at the end of standard input, and therefore end with the
process that started them, even if that crashes.
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
    # sys.stdin cannot be used: forked workers close it and would inherit its lock while it is held.
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    from bert_serving.server.cli import main

    sys.argv[0] = "bert-serving-start"
    main()
