"""Measure saved anomaly maps, a run's or another program's, or compare runs; no model is needed.

    python evaluate.py --maps my_maps --dataset mvtec --data_path data/mvtec --bootstrap 1000
    python evaluate.py --maps my_maps --data_path my_data --scores my_scores.csv
    python evaluate.py --maps results/first/maps --dataset demo --scores results/first/scores.csv  # its own table
    python evaluate.py --compare results/sdp/mvtec results/sdp_plus/mvtec
    python evaluate.py --published results/sdp/mvtec
    python evaluate.py --collect results

The map of an image lies in the folder of maps under the image's path, with .npy, .tiff or .png after its name or
in the place of its suffix: bottle/test/broken/000.png.npy or bottle/test/broken/000.tiff. The measures of 83 maps of
518 x 518 take 0.3 s, beside reading them (two cores of an AMD EPYC with AVX-512).
"""

from collections.abc import Sequence

from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare or collect, and write the results."""
    from engine.evaluation_options import EvaluationOptions  # in here, where Ctrl-C is seen to
    from utils.arguments import parse

    options = parse(EvaluationOptions, __doc__, arguments)
    from engine.collecting import collect  # only now, as PyTorch takes seconds to import
    from engine.published import write_published
    from engine.saved_maps import compare_runs, measure_maps
    from utils.distributed import is_main
    from utils.names import shown

    if options.maps:
        measure_maps(options)
    elif options.compare:
        compare_runs(options)
    elif not is_main():  # as what follows is no work to share
        return 0
    elif options.collect:
        return collect(options.collect, options.save_path)
    else:
        path = write_published(options.published)
        print(shown(f"{path.read_text(encoding='utf-8')}\nwritten to {path}", keep="\n"))
    return 0


if __name__ == "__main__":
    run(main, parallel=True)
