#!/usr/bin/env bash
# Test SDP (CLIP-AD without training) on one data set or several in one run, with one table at the end:
#
#   bash test_SDP.sh                                  every data set below whose folder is there
#   DATASETS="mvtec" REP_VEC=kde bash test_SDP.sh     any setting from the environment
#   bash test_SDP.sh --visualization --save_maps      further arguments go to test_sdp.py, see its --help
#
# Relative paths are taken from this folder. Results: $SAVE_PATH/summary.md, and for each data set
# $SAVE_PATH/<data set>/results.md, results.json, scores.csv
#
# Takes 0.2 s an image and 1.5 GiB with MODEL=vit-b-16-plus-240 (two cores of an AMD EPYC with AVX-512; memory as
# doctor.py estimates it), 6.4 s (dual path alone, two cores of an Intel Xeon, Ice Lake) and 3.2 GiB with vit-l-14-336.
# Expect on MVTec AD, in percent:
#   published   auroc_px 91.2, ap_px 36.3, auroc_sp 91.3, ap_sp 96.3   (of CLIP-AD in DP-CLIP's paper, which does not
#               say whether of SDP or SDP+, nor with which weights); --compare_published sets them beside yours
# and on the demo set, by `DATASETS=demo MODEL=demo bash test_SDP.sh`:
#   demo        auroc_px 95.2, f1_px 56.7, ap_px 54.8, aupro 82.9, auroc_sp 92.5, f1_sp 90.4, ap_sp 96.2
set -euo pipefail
cd "$(dirname "$0")"

# ---- Data ----------------------------------------------------------------------------------------------------
DATASETS=${DATASETS:-"mvtec visa isic cvc_clinicdb headct brainmri"}   # which, in this order
DATA_ROOT=${DATA_ROOT:-data}              # a data set lies in $DATA_ROOT/<its name>
SAVE_PATH=${SAVE_PATH:-}                  # results go there; empty: results/sdp/<model>

# ---- Backbone: ViT-L-14-336 of OpenAI at 518 px ----------------------------------------------------------------
MODEL=${MODEL:-vit-l-14-336}              # a preset, an open_clip model name, or a model config JSON
PRETRAINED=${PRETRAINED:-}                # an open_clip tag or a state dict; empty: the preset's
FEATURES_LIST=${FEATURES_LIST:-}          # tapped blocks, like "6 12 18 24"; empty: the preset's
IMAGE_SIZE=${IMAGE_SIZE:-}                # side of the input in pixels; empty: the preset's (518)
FIDELITY=${FIDELITY:-}                    # released or corrected; empty: the preset's (corrected)

# ---- Backbone of the CLIP-AD authors' scripts: ViT-B-16-plus of LAION at 240 px, blocks 3 6 9 12, released --------
# MODEL=vit-b-16-plus-240

# ---- Method --------------------------------------------------------------------------------------------------
REP_VEC=${REP_VEC:-mean}                  # mean, pca, kde, dbscan or mean_shift
SMOOTHING=${SMOOTHING:-}                  # sigma of the Gaussian filter in pixels; empty: the data set's (8)
PROMPTS=${PROMPTS:-}                      # industrial, medical or a JSON file; empty: by the data set's domain

# ---- Run -----------------------------------------------------------------------------------------------------
BATCH_SIZE=${BATCH_SIZE:-8}               # images at once; the results do not depend on it
NUM_WORKERS=${NUM_WORKERS:-}              # processes that read images; empty for one a core but one, at most 16
NPROC=${NPROC:-}                          # processes that share the work, each on a GPU of its own; empty: one
DEVICE=${DEVICE:-auto}                    # auto, cpu, cuda or cuda:N
PRECISION=${PRECISION:-fp32}              # fp32, or bf16 or fp16 with autocast, or auto
SEED=${SEED:-42}
# --------------------------------------------------------------------------------------------------------------

source utils/scripts.sh
options_from rep_vec smoothing prompts
find_data_sets "$DATASETS"
test_found test_sdp.py "${options[@]}" "$@"
