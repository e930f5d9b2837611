"""Three streams of a video, RGB, TV-L1 optical flow and sound, through a trained model.

    import tristream

    model = tristream.load("runs/rgb+flow+audio")  # a run's folder, or one of its .safetensors files
    model.predict("new.mp4").top(5)
    for windows in model.windows("new.mp4", length=2.0, hop=0.5):
        print(windows.times, windows.present, windows.answer)

docs/python.md shows the rest.
"""

from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.video.decoded import Absent, Frame, Samples
from tasks.model import Model, load
from tasks.prediction import Prediction
from tasks.windows import Windows

__all__ = ["Absent", "Frame", "Model", "Prediction", "Samples", "Store", "UserError", "Windows", "load"]
