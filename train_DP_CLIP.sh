#!/usr/bin/env bash
# Train DP-CLIP's image adapter on VisA, the paper's choice, or on other data sets together:
#
#   bash train_DP_CLIP.sh                            on VisA, all images of its test split
#   SHOT=4 bash train_DP_CLIP.sh                     on four normal and four anomalous images of each class
#   TRAIN_ON="mvtec visa" bash train_DP_CLIP.sh      on several data sets together; any setting from the environment
#   bash train_DP_CLIP.sh --resume                   go on where it was stopped; arguments go to train_dp_clip.py
#
# Relative paths are taken from this folder. Checkpoints: $SAVE_PATH/image_adapter_EPOCH.pth, the last image_adapter.pth
set -euo pipefail
cd "$(dirname "$0")"

# ---- Data; the settings of the backbone and of the run are in utils/scripts.sh, and may be set here as well --------
TRAIN_ON=${TRAIN_ON:-visa}                # the test splits of these, together
DATA_ROOT=${DATA_ROOT:-data}              # a data set lies in $DATA_ROOT/<its name>
SHOT=${SHOT:-}                            # images of each class and label; empty: all
SAVE_PATH=${SAVE_PATH:-results/dp_clip_training/on_${TRAIN_ON// /_}${SHOT:+_${SHOT}-shot}}

# ---- Image adapter -------------------------------------------------------------------------------------------
FIDELITY=${FIDELITY:-released}            # released or corrected
IMAGE_ADAPT_LAYERS=${IMAGE_ADAPT_LAYERS:-} # adapted blocks, like "0 1 2 3 4 5"; empty: the first quarter
IMAGE_ADAPT_WEIGHT=${IMAGE_ADAPT_WEIGHT:-0.1}
DECOUPLING_WEIGHT=${DECOUPLING_WEIGHT:-0.1}
MOMENTUM_ALPHA=${MOMENTUM_ALPHA:-0.999}   # of the prototypes

# ---- Training ------------------------------------------------------------------------------------------------
EPOCHS=${EPOCHS:-20}
LEARNING_RATE=${LEARNING_RATE:-0.0005}
MILESTONES=${MILESTONES:-16000 32000}     # steps after which the learning rate is halved
BATCH_SIZE=${BATCH_SIZE:-3}               # images a batch
ACCUMULATE=${ACCUMULATE:-1}               # batches a step
SAVE_FREQ=${SAVE_FREQ:-1}                 # epochs between two checkpoints
SEED=${SEED:-111}
# --------------------------------------------------------------------------------------------------------------

source utils/scripts.sh
options_from image_adapt_layers... image_adapt_weight decoupling_weight momentum_alpha shot epochs learning_rate \
  milestones... accumulate save_freq
folders=()
for dataset in $TRAIN_ON; do
  folders+=("$DATA_ROOT/$dataset")
done
launch train_dp_clip.py --train_dataset $TRAIN_ON --train_dataset_dir "${folders[@]}" --save_path "$SAVE_PATH" \
  "${options[@]}" "$@"
