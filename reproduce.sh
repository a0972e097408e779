#!/usr/bin/env bash
# Reproduce the papers' results on the data sets that are there, in one table with the published numbers:
#
#   bash reproduce.sh                                 everything below
#   PLAN=1 bash reproduce.sh                          only say what would be run, its hours and its disk
#   TABLES=sdp DATASETS="mvtec visa" bash reproduce.sh    a part of it; any setting from the environment
#   MODEL=demo DATASETS=demo bash reproduce.sh        a rehearsal in minutes, on the demonstration model and data set
#
# It takes the data sets in $DATA_ROOT (docs/data.md), the weights of both backbones (pretrained_models/README.md), a
# GPU if it is not to take weeks, and the disk that the plan names. It plans first, goes on where it was stopped, leaves
# out what is done, and asks nothing. Results: $SAVE_PATH/RESULTS.md. The rehearsal takes 7 minutes of two cores of an
# Intel Xeon (Ice Lake); docs/reproduce.md says more, and which rows to expect of it.
set -euo pipefail
cd "$(dirname "$0")"

# ---- What ----------------------------------------------------------------------------------------------------
TABLES=${TABLES:-"sdp sdp_plus dp_clip ablation"}    # sdp: without training; ablation: baselines, and SDP without parts
DATASETS=${DATASETS:-"mvtec visa isic cvc_clinicdb headct brainmri btad mpdd cvc300 colondb kvasir brain liver retina"}
DATA_ROOT=${DATA_ROOT:-${DATA:-data}}     # a data set lies in $DATA_ROOT/<its name>; DATA is short for it
MODEL=${MODEL:-"vit-l-14-336 vit-b-16-plus-240"}      # presets; DP-CLIP and the ablation take the first alone
REP_VEC=${REP_VEC:-"mean pca kde dbscan mean_shift"}  # representative vectors of SDP
SEEDS=${SEEDS:-111}                       # one training of DP-CLIP each, like "111 112 113"
BOOTSTRAP=${BOOTSTRAP:-1000}              # draws of the images for the intervals
SAVE_PATH=${SAVE_PATH:-results/reproduction}
PLAN=${PLAN:-}                            # 1: stop after the plan

# ---- Run -----------------------------------------------------------------------------------------------------
BATCH_SIZE=${BATCH_SIZE:-8}               # images at once in tests; trainings take the papers' batches
NUM_WORKERS=${NUM_WORKERS:-}              # processes that read images; empty for one a core but one, at most 16
NPROC=${NPROC:-1}                         # processes that share the work, each on a GPU of its own
DEVICE=${DEVICE:-auto}                    # auto, cpu, cuda or cuda:N
PRECISION=${PRECISION:-fp32}              # fp32, or bf16 or fp16 with autocast, or auto
# --------------------------------------------------------------------------------------------------------------

source utils/scripts.sh
find_data_sets "$DATASETS"
exec python reproduce.py --dataset "${found[@]}" --data_path "${folders[@]}" --tables $TABLES --model $MODEL \
  --rep_vec $REP_VEC --seeds $SEEDS --bootstrap "$BOOTSTRAP" --save_path "$SAVE_PATH" --batch_size "$BATCH_SIZE" \
  ${NUM_WORKERS:+--num_workers "$NUM_WORKERS"} --nproc "$NPROC" --device "$DEVICE" \
  --precision "$PRECISION" ${PLAN:+--plan} "$@"
