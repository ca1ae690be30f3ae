"""Which names a TensorFlow model answers to."""

from __future__ import annotations

from tf_predict.config import ModelSettings
from tf_predict.versions import Versions


def test_a_name_that_ends_in_a_task_id_of_the_model_is_the_models():
    # The dl_inference service's clients: the access service routes by the number and passes the name on.
    versions = Versions("69", ModelSettings(aliases=["39", "text"]))
    assert all(map(versions.means, ("69", "textcnn-69", "bc-39-", "x-+039", "text")))
    assert not any(map(versions.means, ("textcnn-40", "69x", "textcnn69", "a-text", "", "-")))
