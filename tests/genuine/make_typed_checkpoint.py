"""Write a checkpoint in two shards, with variables of many data types.

Runs under the genuine server's own interpreter (Python 3.7, TensorFlow 1.15):

    python make_typed_checkpoint.py PREFIX
"""

import sys

import numpy as np
import tensorflow as tf

with tf.device("/cpu:0"):
    tf.get_variable("single", initializer=np.arange(6, dtype=np.float32).reshape(2, 3))
    tf.get_variable("half", initializer=np.array([1.5, -2.0, 65504.0], np.float16))
    tf.get_variable("global_step", initializer=np.int64(7))
    tf.get_variable("text", initializer=tf.constant(["a", "bc"]))
    tf.get_variable("empty", initializer=np.zeros((0, 3), np.float32))
with tf.device("/cpu:1"):
    tf.get_variable("brain", initializer=tf.constant([1.5, -3.0, np.inf], tf.bfloat16))
    tf.get_variable("double", initializer=np.array([0.1, -1e300, np.nan]))
    tf.get_variable("scalar", initializer=np.float32(2.5))
    in_two = tf.fixed_size_partitioner(2)
    tf.get_variable("parts", (4, 2), initializer=tf.ones_initializer(), partitioner=in_two)
with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
    session.run(tf.global_variables_initializer())
    tf.train.Saver(sharded=True).save(session, sys.argv[1], write_meta_graph=False)
