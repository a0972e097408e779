"""The options of reproduce.py, see `engine.options`."""

from pathlib import Path
from typing import Literal, get_args

from engine.options import DATA_SETS, FOLDERS, NAME, WORKERS, DataSetName, DeviceOptions
from models.presets import PRESETS
from models.representative import RepVec
from utils.arguments import Options, PositiveInt, ProcessCount, Seed, WorkerCount, flag, option, required

Table = Literal["sdp", "sdp_plus", "dp_clip", "ablation"]


class SubjectOptions(Options):
    """What is reproduced."""

    dataset: tuple[DataSetName, ...] = required(f"test on these, and train on some of them: {DATA_SETS}", **NAME)
    data_path: tuple[Path, ...] | None = option(FOLDERS, metavar="DIR")
    tables: tuple[Table, ...] = option("which results (default: all)", get_args(Table))
    model: tuple[str, ...] = option(
        "presets; DP-CLIP and the ablation take the first alone (default: those of the papers)",
        ("vit-l-14-336", "vit-b-16-plus-240"),
        choices=PRESETS,
    )
    rep_vec: tuple[RepVec, ...] = option("representative vectors of SDP (default: all five)", get_args(RepVec))
    seeds: tuple[Seed, ...] = option("train DP-CLIP once by each of these (default: 111)", (111,))
    bootstrap: PositiveInt = option("draws of the images for the intervals", 1000)


class ReproductionOptions(SubjectOptions, DeviceOptions):
    """How it is run, and where to."""

    save_path: Path = option("folder for everything, RESULTS.md at its top", Path("results/reproduction"))
    plan: bool = flag("say what would be run, and what that takes, and stop")
    batch_size: PositiveInt = option("images a batch in tests", 8)
    num_workers: WorkerCount | None = option(WORKERS)
    nproc: ProcessCount = option("processes that share a test or a training, each on a GPU of its own", 1)
