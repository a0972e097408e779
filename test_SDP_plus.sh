#!/usr/bin/env bash
# Test SDP+ (CLIP-AD with trained adapters) on one data set or several in one run, with one table at the end:
#
#   bash test_SDP_plus.sh                              every data set below whose folder is there
#   DATASETS="mvtec" bash test_SDP_plus.sh             any setting from the environment
#   bash test_SDP_plus.sh --visualization --save_maps  further arguments go to test_sdp_plus.py, see its --help
#
# Relative paths are taken from this folder. Results: $SAVE_PATH/summary.md, and for each data set
# $SAVE_PATH/<data set>/results.md, results.json, scores.csv
#
# Takes what test_SDP.sh takes. Expect on MVTec AD, in percent:
#   published   auroc_px 91.2, ap_px 36.3, auroc_sp 91.3, ap_sp 96.3   (of CLIP-AD in DP-CLIP's paper, which does not
#               say whether of SDP or SDP+, nor with which weights); --compare_published sets them beside yours
# and on five classes of the demo set, trained on the others by `bash demo.sh`:
#   demo        auroc_px 96.4, f1_px 57.9, ap_px 56.5, aupro 87.9, auroc_sp 94.0, f1_sp 92.3, ap_sp 96.8
set -euo pipefail
cd "$(dirname "$0")"

# ---- Data ----------------------------------------------------------------------------------------------------
DATASETS=${DATASETS:-"mvtec visa isic cvc_clinicdb headct brainmri"}   # which, in this order
DATA_ROOT=${DATA_ROOT:-data}              # a data set lies in $DATA_ROOT/<its name>
SAVE_PATH=${SAVE_PATH:-}                  # results go there; empty: results/sdp_plus/<model>

# ---- Adapters: trained on VisA for all data sets but VisA, which is tested with those trained on MVTec --------------
# Files, or what train_SDP_plus.sh leaves: a folder's last epoch, or that of each of its seeds. The authors' are
# pretrained_models/train_on_visa.pth and train_on_mvtec.pth
ON_VISA=${ON_VISA:-results/sdp_plus_training/on_visa}
ON_MVTEC=${ON_MVTEC:-results/sdp_plus_training/on_mvtec}

# ---- Backbone: ViT-L-14-336 of OpenAI at 518 px ----------------------------------------------------------------
MODEL=${MODEL:-}                          # a preset, an open_clip model name or a config JSON; empty: the checkpoint's
PRETRAINED=${PRETRAINED:-}                # an open_clip tag or a state dict; empty: the preset's
FEATURES_LIST=${FEATURES_LIST:-}          # tapped blocks, like "6 12 18 24"; empty: the preset's
IMAGE_SIZE=${IMAGE_SIZE:-}                # side of the input in pixels; empty: the preset's (518)
FIDELITY=${FIDELITY:-}                    # released or corrected; empty: the checkpoint's

# ---- Backbone of the CLIP-AD authors' scripts: ViT-B-16-plus of LAION at 240 px, blocks 3 6 9 12, released --------
# MODEL=vit-b-16-plus-240

# ---- Method --------------------------------------------------------------------------------------------------
REP_VEC=${REP_VEC:-}                      # mean, pca, kde, dbscan or mean_shift; empty: the checkpoint's
SMOOTHING=${SMOOTHING:-}                  # sigma of the Gaussian filter, pixels; empty: the data set's (8, for VisA 2)
PROMPTS=${PROMPTS:-}                      # industrial, medical or a JSON file; empty: the checkpoint's

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
checkpoints=()
for dataset in "${found[@]}"; do
  if [[ $dataset == visa ]]; then checkpoints+=("$ON_MVTEC"); else checkpoints+=("$ON_VISA"); fi
done
test_found test_sdp_plus.py --checkpoint "${checkpoints[@]}" "${options[@]}" "$@"
