"""The page of app.py, by gradio: pictures in; verdicts, maps and marked regions out."""

import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.detectors import METHODS
from engine.installation import check_extras
from engine.prediction_options import PageOptions
from models.presets import PRESETS
from utils.errors import UserError

if TYPE_CHECKING:
    from gradio import Blocks

    from engine.inspection import Inspector

HOUR = 3600  # seconds
WELCOME = """# CLIP-AD
Upload pictures and say what is on them. With pictures of normal ones, at least two, there is a verdict as well."""
Example = tuple[Sequence[Path], str, Sequence[Path]]  # pictures to try the page with, what is on them, normal ones


def check(options: PageOptions) -> None:
    """See that the page can be served, before anything is loaded."""
    check_extras("the page", "gradio")
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        socket.create_server((options.host, options.port), family=family).close()
    except (OSError, TypeError, UnicodeError) as error:  # the latter two of what is no name of a host
        reason = getattr(error, "strerror", None) or "no address"
        raise UserError(f"--host {options.host} --port {options.port}: {reason}; choose another") from error


def serve(options: PageOptions, examples: Sequence[Example], folder: Path) -> None:
    """Serve the page until Ctrl-C; the examples' pictures lie in a folder."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # which is read when gradio is imported
    from engine.inspection import Inspector

    inspector = Inspector(options)
    inspector.detector(inspector.first)  # so that what is wrong with the options is said before there is a page
    page = build_page(inspector, examples)
    launch(page, options.host, options.port, folder)
    print(f"the page is at {page.local_url} until Ctrl-C", flush=True)
    page.block_thread()


def launch(page: "Blocks", host: str, port: int, folder: Path) -> None:
    """Begin to serve a page, which may show files in a folder."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # by which gradio asks itself whether it is there
    at = {"server_name": host, "server_port": port, "allowed_paths": [str(folder)]}
    page.launch(**at, share=False, quiet=True, ssr_mode=False, footer_links=[], prevent_thread_lock=True)


def build_page(inspector: "Inspector", examples: Sequence[Example]) -> "Blocks":
    """Lay the page out."""
    import gradio as gr

    from engine.calibration import TERMS
    from engine.inspection import COLUMNS, Choice

    first = inspector.first
    models = [(name or "that of the adapters", name) for name in dict.fromkeys([first.model, *PRESETS, ""])]
    no_bar, several = gr.Progress(), {"file_count": "multiple", "height": 150}

    def inspect(paths, thing, normal, rate, memory, method, model, adapters, opacity, progress=no_bar):
        paths = paths or []
        bar = iter(progress.tqdm(paths, unit="pictures"))
        adapters = adapters or (first.checkpoint if method == first.method else None)
        choice = Choice(method, model, thing, adapters, tuple(normal or ()), memory, rate)
        try:
            found = inspector.inspect(paths, choice, lambda: next(bar, None))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        notes = "\n".join(f"- {note}" for note in found.notes)
        small = [(view.small(), view.title) for view in found.views]
        return f"## {found.verdict}", notes, found.views, 0, show(found.views, 0, opacity), small, found.rows

    def show(views, index, opacity):
        if not views:
            return gr.AnnotatedImage(value=None, label="picture")
        view = views[index]
        return gr.AnnotatedImage(value=(view.shown(opacity), view.outlines()), label=view.title)

    def choose(views, opacity, event: gr.SelectData):
        return event.index, show(views, event.index, opacity)

    with gr.Blocks(title="CLIP-AD", analytics_enabled=False, delete_cache=(HOUR, 24 * HOUR)) as page:
        gr.Markdown(WELCOME)
        views, index = gr.State([], time_to_live=24 * HOUR), gr.State(0)
        with gr.Row():
            with gr.Column(scale=1):
                pictures = gr.File(label="pictures", **several, elem_id="pictures")
                thing = gr.Textbox(first.object, label="what is on them", placeholder="object", elem_id="object")
                normal = gr.File(label="normal pictures, for a verdict", **several, elem_id="normal")
                rate = gr.Slider(0.01, 0.5, first.rate, label="share of normal pictures that may be called anomalous")
                memory = gr.Checkbox(first.memory, label="normal pictures count for the maps, too")
                with gr.Accordion("method and weights", open=False):
                    method = gr.Radio([*METHODS], value=first.method, label="method")
                    model = gr.Dropdown(models, value=first.model, label="model")
                    adapters = gr.File(label="trained adapters, for sdp_plus and dp_clip", elem_id="adapters")
                button = gr.Button("Inspect", variant="primary", elem_id="inspect")
            with gr.Column(scale=2):
                verdict = gr.Markdown(elem_id="verdict")
                notes = gr.Markdown(elem_id="notes")
                large = gr.AnnotatedImage(label="picture", format="jpeg", height=440, elem_id="large")
                opacity = gr.Slider(0, 1, 1, label="opacity of the map", elem_id="opacity")
                look = {"columns": 5, "height": 300, "allow_preview": False, "format": "jpeg"}
                gallery = gr.Gallery(label="all pictures", **look, elem_id="gallery")
                table = gr.Dataframe(headers=[*COLUMNS], interactive=False, elem_id="table")
        asked = [pictures, thing, normal, rate, memory, method, model, adapters, opacity]
        answered = [verdict, notes, views, index, large, gallery, table]
        one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "inspect"}  # whoever asks
        button.click(inspect, asked, answered, **one_at_a_time)
        gallery.select(choose, [views, opacity], [index, large], show_progress="hidden")
        opacity.release(show, [views, index, opacity], large, show_progress="hidden")
        if examples:
            rows = [
                [[*map(str, shown)], name, [*map(str, sound)], TERMS / (len(sound) + 1)]  # the least rate of so many
                for shown, name, sound in examples
            ]
            names = [name for _, name, _ in examples]
            tried = gr.Examples(rows, [pictures, thing, normal, rate], label="examples", example_labels=names)
            tried.load_input_event.then(inspect, asked, answered, **one_at_a_time)
    return page.queue()
