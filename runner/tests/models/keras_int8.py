"""Makes keras_int8.tflite: a network with random weights, exported as Keras does by default, with an
open batch size. Needs tensorflow-cpu 2.21; the bytes differ from run to run, so that the answer in
runner/tests/open_shapes.rs has to be changed with them: it is what this prints, of TensorFlow's own
interpreter."""

import numpy as np
import tensorflow as tf

tf.random.set_seed(1)
np.random.seed(1)
layers = tf.keras.layers
model = tf.keras.Sequential(
    [
        tf.keras.Input((8, 8, 1)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.Conv2D(8, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(
            10,
            activation="softmax",
            kernel_initializer=tf.keras.initializers.RandomNormal(stddev=1.0, seed=3),
        ),
    ]
)


def samples():
    for _ in range(50):
        yield [np.random.rand(1, 8, 8, 1).astype(np.float32)]


converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = samples
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = tf.int8
converter.inference_output_type = tf.int8
exported = converter.convert()
with open("keras_int8.tflite", "wb") as file:
    file.write(exported)

# Pixel n of the picture is 4 n.
picture = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1) * 4 / 255
interpreter = tf.lite.Interpreter(model_content=exported)
interpreter.allocate_tensors()
(taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
scale, zero_point = taken["quantization"]
stored = np.clip(np.round(picture / scale + zero_point), -128, 127).astype(np.int8)
interpreter.set_tensor(taken["index"], stored)
interpreter.invoke()
scale, zero_point = given["quantization"]
print((interpreter.get_tensor(given["index"]).astype(np.float32) - zero_point) * scale)
