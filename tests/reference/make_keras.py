"""Makes keras.onnx, keras_block.onnx and what Keras itself answers, in an environment of its own:

    python -m venv keras-env && keras-env/bin/pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0
    keras-env/bin/python tests/reference/make_keras.py

Two small networks as tf2onnx writes them: NHWC inputs, SAME padding, BatchNormalization after its layer,
depthwise convolutions, ReLU6, a softmax inside; the second with LayerNormalization and Dense layers over
channels-last maps, as in Keras's ConvNeXt. Beside each file: one frame, the scores, the tensor before the pooling,
and the gradient of class 2's score (of its logarithm, where a softmax ends the network) with respect to it.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers

HERE = Path(__file__).parent


def mobile() -> keras.Model:
    x = image = keras.Input((32, 48, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2D(12, 3, strides=2, padding="valid", activation="swish")(x)
    y = layers.Conv2D(12, 3, padding="same")(x)
    y = layers.LeakyReLU(negative_slope=0.25)(y)
    x = layers.Add()([x, y])
    x = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    x = layers.Conv2D(16, 1, activation="relu")(x)
    features = x
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(image, [layers.Dense(5, activation="softmax")(x), features])


def block() -> keras.Model:
    x = image = keras.Input((32, 48, 3))
    x = layers.Conv2D(8, 4, strides=4)(x)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    y = layers.DepthwiseConv2D(7, padding="same")(x)
    y = layers.LayerNormalization(epsilon=1e-6)(y)
    y = layers.Dense(32)(y)
    y = layers.Activation(lambda x: keras.activations.gelu(x, approximate=True))(y)  # tf2onnx has no Erfc
    y = layers.Dense(8)(y)
    x = layers.Add()([x, y])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Conv2D(16, 2, strides=2)(x)
    x = layers.Dense(16, activation="elu")(x)
    features = x
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    return keras.Model(image, [layers.Dense(5)(x), features])


for name, build in (("keras", mobile), ("keras_block", block)):
    keras.utils.set_random_seed(4)
    model = build()
    rng = np.random.default_rng(4)
    for layer in model.layers:  # batch statistics as training would leave them
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma + rng.normal(0, 0.2, gamma.shape), rng.normal(0, 0.2, beta.shape),
                               rng.normal(0, 0.2, mean.shape), variance * rng.uniform(0.5, 2, variance.shape)])  # fmt: skip
    classifier = keras.Model(model.inputs, model.outputs[0])
    signature = (tf.TensorSpec((None, 32, 48, 3), tf.float32, name="image"),)
    tf2onnx.convert.from_function(
        tf.function(lambda image, classifier=classifier: classifier(image, training=False)),
        signature, opset=13, output_path=str(HERE / f"{name}.onnx"),
    )  # fmt: skip
    frame = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
    image = tf.constant((frame[None] / 127.5 - 1).astype(np.float32))
    whole, features = model(image, training=False)
    after = keras.Input(features.shape[1:])
    x = after
    for layer in model.layers[[layer.output is model.outputs[1] for layer in model.layers].index(True) + 1 :]:
        x = layer(x)
    tail = keras.Model(after, x)
    with tf.GradientTape() as tape:
        tape.watch(features)
        scores = tail(features)
        wanted = tf.math.log(scores[0, 2]) if name == "keras" else scores[0, 2]
    gradient = tape.gradient(wanted, features)
    np.testing.assert_allclose(scores, whole, rtol=1e-5, atol=1e-6)
    np.savez_compressed(
        HERE / f"{name}.npz", frame=frame, scores=scores.numpy()[0],
        features=features.numpy()[0].transpose(2, 0, 1), gradient=gradient.numpy()[0].transpose(2, 0, 1),
    )  # fmt: skip
    print(name, (HERE / f"{name}.onnx").stat().st_size, "bytes")
