"""Show a page to inspect pictures on: verdicts, heat maps and marked regions, in a browser.

    python app.py                                   # the demonstration model, with pictures to try it on
    python app.py --model vit-l-14-336 --object "metal nut" --normal_dir good_ones
    python app.py --method sdp_plus --checkpoint results/on_visa/epoch_5.pth --port 8000

Expect "the page is at http://127.0.0.1:7860/ until Ctrl-C", for this machine alone unless --host says otherwise; a
picture takes what it takes in a test of the method (see test_SDP.sh). Nothing is asked of the network. It needs gradio:
pip install -r requirements-extras.txt
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page until Ctrl-C."""
    from engine.prediction_options import PageOptions  # in here, where Ctrl-C is seen to
    from utils.arguments import parse

    options = parse(PageOptions, __doc__, arguments)
    from engine.app_page import check, serve
    from utils.names import log_to_terminal

    check(options)
    log_to_terminal()
    from demo.draw import draw_examples  # only now, as OpenCV takes long to import, and PyTorch longer

    with TemporaryDirectory() as place:
        folder, is_demo = Path(place), options.model in (None, "demo") and options.checkpoint is None
        serve(options, list(draw_examples(folder)) if is_demo else [], folder)


if __name__ == "__main__":
    run(main)
