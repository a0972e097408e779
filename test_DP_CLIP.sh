#!/usr/bin/env bash
# Test DP-CLIP on the paper's eleven data sets in one run, with one table at the end:
#
#   bash test_DP_CLIP.sh                              every data set below whose folder is there
#   DATASETS="mvtec" bash test_DP_CLIP.sh             any setting from the environment
#   bash test_DP_CLIP.sh --visualization --save_maps  further arguments go to test_dp_clip.py, see its --help
#
# Relative paths are taken from this folder. Results: $SAVE_PATH/summary.md, and for each data set
# $SAVE_PATH/<data set>/results.md, results.json, scores.csv
#
# Takes 3.5 s an image and 2.4 GiB, one image a batch (two cores of an AMD EPYC with AVX-512). Expect:
#   published   auroc_px 90.5, ap_px 45.2, auroc_sp 90.1, ap_sp 95.6 on MVTec AD; on average 94.0, 47.5 over
#               eleven data sets, 83.8, 86.8 over the seven with image labels (DP-CLIP's paper);
#               --compare_published sets them beside yours
# and on five classes of the demo set, trained on the others by `bash demo.sh`:
#   demo        auroc_px 97.4, f1_px 59.9, ap_px 60.7, aupro 92.0, auroc_sp 93.8, f1_sp 91.4, ap_sp 96.7
set -euo pipefail
cd "$(dirname "$0")"

# ---- Data ----------------------------------------------------------------------------------------------------
DATASETS=${DATASETS:-"mvtec btad mpdd visa cvc300 colondb cvc_clinicdb kvasir brain liver retina"}
DATA_ROOT=${DATA_ROOT:-data}              # a data set lies in $DATA_ROOT/<its name>
SAVE_PATH=${SAVE_PATH:-}                  # results go there; empty: results/dp_clip/<model>

# ---- Image adapter: a file, or what train_DP_CLIP.sh leaves: a folder's last epoch, or that of each of its seeds -----
# Several epochs, as on_visa/image_adapter_*.pth, give a curve
CHECKPOINT=${CHECKPOINT:-results/dp_clip_training/on_visa}

# ---- Backbone: ViT-L-14-336 of OpenAI at 518 px ----------------------------------------------------------------
MODEL=${MODEL:-}                          # a preset, an open_clip model name or a config JSON; empty: the checkpoint's
PRETRAINED=${PRETRAINED:-}                # an open_clip tag or a state dict; empty: the preset's
FEATURES_LIST=${FEATURES_LIST:-}          # tapped blocks, like "6 12 18 24"; empty: the preset's
IMAGE_SIZE=${IMAGE_SIZE:-}                # side of the input in pixels; empty: the preset's (518)
FIDELITY=${FIDELITY:-}                    # released or corrected; empty: the checkpoint's

# ---- Run -----------------------------------------------------------------------------------------------------
BATCH_SIZE=${BATCH_SIZE:-8}               # images at once; in released fidelity the results depend on it
NUM_WORKERS=${NUM_WORKERS:-}              # processes that read images; empty for one a core but one, at most 16
NPROC=${NPROC:-}                          # processes that share the work, each on a GPU of its own; empty: one
DEVICE=${DEVICE:-auto}                    # auto, cpu, cuda or cuda:N
PRECISION=${PRECISION:-fp32}              # fp32, or bf16 or fp16 with autocast, or auto
SEED=${SEED:-111}
# --------------------------------------------------------------------------------------------------------------

source utils/scripts.sh
options_from checkpoint...
find_data_sets "$DATASETS"
test_found test_dp_clip.py "${options[@]}" "$@"
