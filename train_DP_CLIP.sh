#!/usr/bin/env bash
# Train DP-CLIP's image adapter on VisA, the paper's choice, or on other data sets together:
#
#   bash train_DP_CLIP.sh                            on VisA, all images of its test split
#   SHOT=4 bash train_DP_CLIP.sh                     on four normal and four anomalous images of each class
#   TRAIN_ON="mvtec visa" bash train_DP_CLIP.sh      on several data sets together; any setting from the environment
#   bash train_DP_CLIP.sh --resume                   go on where it was stopped; arguments go to train_dp_clip.py
#
# Relative paths are taken from this folder. Checkpoints: $SAVE_PATH/image_adapter_EPOCH.pth, the last image_adapter.pth
#
# An image of a step takes 9.6 s, and a batch of one 4.1 GiB (two cores of an AMD EPYC with AVX-512): 20 epochs of
# VisA's 2162 images are five days there, so take a GPU, on which nothing was measured. What to expect of the adapter
# stands in test_DP_CLIP.sh.
set -euo pipefail
cd "$(dirname "$0")"

# ---- Data ----------------------------------------------------------------------------------------------------
TRAIN_ON=${TRAIN_ON:-visa}                # the test splits of these, together
DATA_ROOT=${DATA_ROOT:-data}              # a data set lies in $DATA_ROOT/<its name>
SHOT=${SHOT:-}                            # images of each class and label; empty: all
SAVE_PATH=${SAVE_PATH:-results/dp_clip_training/on_${TRAIN_ON// /_}${SHOT:+_${SHOT}-shot}}

# ---- Backbone: ViT-L-14-336 of OpenAI at 518 px ----------------------------------------------------------------
MODEL=${MODEL:-vit-l-14-336}              # a preset, an open_clip model name, or a model config JSON
PRETRAINED=${PRETRAINED:-}                # an open_clip tag or a state dict; empty: the preset's
FEATURES_LIST=${FEATURES_LIST:-}          # tapped blocks, like "6 12 18 24"; empty: the preset's
IMAGE_SIZE=${IMAGE_SIZE:-}                # side of the input in pixels; empty: the preset's (518)
FIDELITY=${FIDELITY:-released}            # released or corrected

# ---- Image adapter -------------------------------------------------------------------------------------------
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
SEEDS=${SEEDS:-}                          # like "0 1 2": a training by each in place of SEED, into $SAVE_PATH/seed_N

# ---- Run -----------------------------------------------------------------------------------------------------
NUM_WORKERS=${NUM_WORKERS:-}              # processes that read images; empty for one a core but one, at most 16
NPROC=${NPROC:-}                          # processes that share the work, each on a GPU of its own; empty: one
DEVICE=${DEVICE:-auto}                    # auto, cpu, cuda or cuda:N
PRECISION=${PRECISION:-fp32}              # fp32, or bf16 or fp16 with autocast, or auto
# --------------------------------------------------------------------------------------------------------------

source utils/scripts.sh
options_from image_adapt_layers... image_adapt_weight decoupling_weight momentum_alpha shot epochs learning_rate \
  milestones... accumulate save_freq seeds...
names=() folders=()
for name in $TRAIN_ON; do
  locate "$name"
  names+=("$dataset") folders+=("$folder")
done
launch train_dp_clip.py --train_dataset "${names[@]}" --train_dataset_dir "${folders[@]}" --save_path "$SAVE_PATH" \
  "${options[@]}" "$@"
