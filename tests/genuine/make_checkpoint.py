"""Write a model directory as Google released them, from random or given weights.

Runs under the genuine server's own interpreter (Python 3.7, TensorFlow 1.15):

    python make_checkpoint.py DIR CONFIG.json VOCAB.txt [WEIGHTS.npz]

Without WEIGHTS the variables are drawn from a fixed seed. WEIGHTS.npz maps variable names
(``bert/encoder/layer_0/attention/self/query/kernel``, ...) to arrays in TensorFlow's layout.
"""

import json
import os
import shutil
import sys

import numpy as np
import tensorflow as tf


def shapes(config):
    """Yield ``(variable, shape)`` for every variable the server's graph restores."""
    c, inner = config["hidden_size"], config["intermediate_size"]
    yield "bert/embeddings/word_embeddings", (config["vocab_size"], c)
    yield "bert/embeddings/token_type_embeddings", (config["type_vocab_size"], c)
    yield "bert/embeddings/position_embeddings", (config["max_position_embeddings"], c)
    yield "bert/embeddings/LayerNorm/gamma", (c,)
    yield "bert/embeddings/LayerNorm/beta", (c,)
    for i in range(config["num_hidden_layers"]):
        layer = "bert/encoder/layer_%d/" % i
        dense = [("attention/self/" + which, c, c) for which in ("query", "key", "value")]
        dense += [
            ("attention/output/dense", c, c),
            ("intermediate/dense", c, inner),
            ("output/dense", inner, c),
        ]
        for name, n_in, n_out in dense:
            yield layer + name + "/kernel", (n_in, n_out)
            yield layer + name + "/bias", (n_out,)
        for name in ("attention/output/LayerNorm", "output/LayerNorm"):
            yield layer + name + "/gamma", (c,)
            yield layer + name + "/beta", (c,)
    yield "bert/pooler/dense/kernel", (c, c)
    yield "bert/pooler/dense/bias", (c,)


def draw(name, shape, random):
    values = random.normal(0.0, 0.2, shape)
    return (1.0 + values if name.endswith("gamma") else values).astype(np.float32)


def main(directory, config_path, vocab_path, weights_path=None):
    with open(config_path) as file:
        config = json.load(file)
    random = np.random.RandomState(20190315)
    given = np.load(weights_path) if weights_path else None
    os.makedirs(directory, exist_ok=True)
    for name, shape in shapes(config):
        value = draw(name, shape, random) if given is None else given[name]
        assert value.shape == shape, (name, value.shape, shape)
        tf.get_variable(name, initializer=value)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(
            session, os.path.join(directory, "bert_model.ckpt"), write_meta_graph=False
        )
    shutil.copy(config_path, os.path.join(directory, "bert_config.json"))
    shutil.copy(vocab_path, os.path.join(directory, "vocab.txt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
