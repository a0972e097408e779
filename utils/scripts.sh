# What the scripts of the top level share; they source it after their settings.

environment=$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate
[[ -n "${VIRTUAL_ENV:-}" || ! -f "$environment" ]] || source "$environment"

# Sets `options` to those of the settings above, and to an option for each further setting named after it in capitals
# that is not empty; dots say that it is a list:
#   options_from save_path milestones...     gives, besides, --save_path "$SAVE_PATH" --milestones $MILESTONES
options_from() {
  local name setting
  options=()
  for name in model pretrained features_list... image_size fidelity batch_size num_workers device precision seed "$@"; do
    setting=$(printf %s "${name%...}" | tr "[:lower:]" "[:upper:]")
    [[ -n "${!setting:-}" ]] || continue
    if [[ $name == *... ]]; then
      options+=("--${name%...}" ${!setting})
    else
      options+=("--$name" "${!setting}")
    fi
  done
}

# Runs a Python script; in $NPROC processes by torchrun, if that is more than one:
#   launch SCRIPT ARGUMENT...
launch() {
  if [[ ${NPROC:-1} == 1 ]]; then python "$@"; return; fi
  trap "exit 130" INT # torchrun's own code on Ctrl-C is that of any failure
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((($(getconf _NPROCESSORS_ONLN) + NPROC - 1) / NPROC))} # else torchrun takes 1
  python -m torch.distributed.run --standalone --nproc_per_node "$NPROC" "$@"
}

# Sets `found` to the data sets of a list that are in $DATA_ROOT, or are drawn there when they are first needed, and
# `folders` to their folders; ends the script if there is none:
#   find_data_sets "$DATASETS"
find_data_sets() {
  local dataset
  found=() folders=()
  for dataset in $1; do
    if [[ -d "$DATA_ROOT/$dataset" || $dataset == demo ]]; then
      found+=("$dataset") folders+=("$DATA_ROOT/$dataset")
    else
      echo "skipping $dataset: there is no folder $DATA_ROOT/$dataset" >&2
    fi
  done
  [[ ${#found[@]} -eq 0 ]] || return 0
  echo "error: none of the data sets ($1) is in $DATA_ROOT; the README says where to get them" >&2
  exit 2
}

# Calls a test script for each data set of $DATASETS that is there, and says at the end which failed:
#   test_each SCRIPT ARGUMENT...      calls `arguments_for`, if there is such a function, for what depends on the data set
test_each() {
  local script=$1 dataset code failed=
  shift
  find_data_sets "$DATASETS"
  for dataset in "${found[@]}"; do
    own=()
    ! declare -F arguments_for > /dev/null || arguments_for "$dataset"
    launch "$script" --dataset "$dataset" --data_path "$DATA_ROOT/$dataset" --save_path "$SAVE_PATH/$dataset" \
      ${own[@]+"${own[@]}"} "$@" || { code=$?; [[ $code -ne 130 ]] || exit 130; failed+=" $dataset"; }
  done
  [[ -n "$failed" ]] || return 0
  echo "error: not tested, for the reasons above:$failed" >&2
  exit 1
}
