"""Make a trained model smaller and faster, and say what that costs.

    python -m tasks.compress runs/NAME out/                            # int8 files for onnxruntime, nothing is trained
    python -m tasks.compress runs/NAME runs/half --method prune        # half of the towers' channels, then learns on
    python -m tasks.compress runs/NAME runs/thin --method distil       # half the width, from the beginning
    python -m tasks.compress runs/half out/                            # both: int8 files of the pruned run
    python -m tasks.predict out/ video.mp4                             # the result is taken as a run is

Prints a table of before and after: top-1, log-loss, calibration error, size, milliseconds a clip with one thread and
with two; and writes it into the folder, compressed.md and compressed.json. docs/compress.md tells more.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from preprocess.common.command import parse_command, run_command
from tasks.compression.settings import CompressSettings


def main(settings: CompressSettings | None = None) -> int:
    settings = settings or parse_command(CompressSettings, prog="python -m tasks.compress", doc=__doc__)
    from tasks.compression.compress import compress  # loads PyTorch, for which --help must not wait

    compress(settings)
    return 0


if __name__ == "__main__":
    run_command(main)
