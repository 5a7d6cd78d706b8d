"""Write a model directory in the layout of Google's releases.

Runs under the genuine server's own interpreter (Python 3.7, TensorFlow 1.15):

    python make_checkpoint.py DIR CONFIG.json VOCAB.txt WEIGHTS.npz

WEIGHTS.npz maps variable names (``bert/encoder/layer_0/attention/self/query/kernel``, ...) to
arrays in TensorFlow's layout.
"""

import os
import shutil
import sys

import numpy as np
import tensorflow as tf


def main(directory, config_path, vocabulary_path, weights_path):
    for name, value in np.load(weights_path).items():
        tf.get_variable(name, initializer=value)
    os.makedirs(directory, exist_ok=True)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(
            session, os.path.join(directory, "bert_model.ckpt"), write_meta_graph=False
        )
    shutil.copy(config_path, os.path.join(directory, "bert_config.json"))
    shutil.copy(vocabulary_path, os.path.join(directory, "vocab.txt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
