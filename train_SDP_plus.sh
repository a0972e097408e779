#!/usr/bin/env bash
# Train SDP+'s adapters on VisA, for MVTec and the medical data sets, then on MVTec, for VisA, each on its test split
# and validated on the other:
#
#   bash train_SDP_plus.sh                       both, those whose folders are there
#   TRAIN_ON=visa EPOCHS=10 bash train_SDP_plus.sh   any setting from the environment
#   bash train_SDP_plus.sh --resume              go on where it was stopped; arguments go to train_sdp_plus.py
#
# Relative paths are taken from this folder. Checkpoints: $SAVE_PATH/on_<data set>/epoch_N.pth
#
# Each image is encoded once, in the time of a test, and its tokens are kept: 23 GiB of disk for VisA at 518 px, 3.2 GiB
# at 240 px. Five epochs on 32 images take 8.9 s with vit-b-16-plus-240 (two cores of an AMD EPYC with AVX-512). What to
# expect of the adapters stands in test_SDP_plus.sh; the loss of TRAIN_ON=demo MODEL=demo falls from epoch to epoch.
set -euo pipefail
cd "$(dirname "$0")"

# ---- Data ----------------------------------------------------------------------------------------------------
TRAIN_ON=${TRAIN_ON:-"visa mvtec"}        # one after another; others than VisA are validated on VisA
DATA_ROOT=${DATA_ROOT:-data}              # a data set lies in $DATA_ROOT/<its name>
SAVE_PATH=${SAVE_PATH:-results/sdp_plus_training}

# ---- Backbone: ViT-L-14-336 of OpenAI at 518 px ----------------------------------------------------------------
MODEL=${MODEL:-vit-l-14-336}              # a preset, an open_clip model name, or a model config JSON
PRETRAINED=${PRETRAINED:-}                # an open_clip tag or a state dict; empty: the preset's
FEATURES_LIST=${FEATURES_LIST:-}          # tapped blocks, like "6 12 18 24"; empty: the preset's
IMAGE_SIZE=${IMAGE_SIZE:-}                # side of the input in pixels; empty: the preset's (518)
FIDELITY=${FIDELITY:-}                    # released or corrected; empty: the preset's (corrected)

# ---- Backbone of the CLIP-AD authors' scripts: ViT-B-16-plus of LAION at 240 px, blocks 3 6 9 12, released --------
# MODEL=vit-b-16-plus-240

# ---- Training ------------------------------------------------------------------------------------------------
EPOCHS=${EPOCHS:-5}
LEARNING_RATE=${LEARNING_RATE:-0.0001}
BATCH_SIZE=${BATCH_SIZE:-8}               # images a step
PRINT_FREQ=${PRINT_FREQ:-1}               # epochs between two lines of the loss
SAVE_FREQ=${SAVE_FREQ:-1}                 # epochs between two checkpoints and validations
SEED=${SEED:-42}
SEEDS=${SEEDS:-}                          # like "0 1 2": a training by each in place of SEED, into on_<data set>/seed_N

# ---- Run -----------------------------------------------------------------------------------------------------
CACHE_DIR=${CACHE_DIR:-.cache}            # the patch tokens go there: 23 GiB for VisA at 518 px; --no_cache for none
NUM_WORKERS=${NUM_WORKERS:-}              # processes that read images; empty for one a core but one, at most 16
NPROC=${NPROC:-}                          # processes that share the work, each on a GPU of its own; empty: one
DEVICE=${DEVICE:-auto}                    # auto, cpu, cuda or cuda:N
PRECISION=${PRECISION:-fp32}              # of the backbone: fp32, or bf16 or fp16 with autocast, or auto
# --------------------------------------------------------------------------------------------------------------

source utils/scripts.sh
options_from epochs learning_rate print_freq save_freq cache_dir seeds...
find_data_sets "$TRAIN_ON"
for i in "${!found[@]}"; do
  on=${found[i]} validation=()
  if [[ $on == visa ]]; then locate MVTec; else locate VisA; fi
  if [[ -d "$folder" ]]; then
    validation=(--test_dataset "$dataset" --test_dataset_dir "$folder")
  else
    echo "training on $on without a validation: there is no folder $folder" >&2
  fi
  launch train_sdp_plus.py --train_dataset "$on" --train_dataset_dir "${folders[i]}" \
    ${validation[@]+"${validation[@]}"} --save_path "$SAVE_PATH/on_$on" "${options[@]}" "$@"
done
