"""The options of app.py, see `engine.options`."""

from engine.options import MODEL
from engine.prediction_options import CalibrationOptions, DetectorOptions
from utils.arguments import Options, Port, option


class ServerOptions(Options):
    """Where the page is."""

    host: str = option("address to listen at; at 0.0.0.0 all that reach this machine may use the page", "127.0.0.1")
    port: Port = option("port to listen at", 7860)


class PageOptions(ServerOptions, DetectorOptions, CalibrationOptions):
    """The options of app.py: what the page begins with, and what cannot be chosen on it."""

    model: str | None = option(MODEL.format("the checkpoint's, else demo"))
