# What the scripts of the top level share; they source it after their settings.

environment=$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate
[[ -n "${VIRTUAL_ENV:-}" || ! -f "$environment" ]] || source "$environment"

# Sets `options` to an option for each setting named after it in capitals that is not empty; dots say that it is a list:
#   options_from model features_list...     gives --model "$MODEL" --features_list $FEATURES_LIST
options_from() {
  local name setting
  options=()
  for name in "$@"; do
    setting=$(printf %s "${name%...}" | tr "[:lower:]" "[:upper:]")
    if [[ -z "${!setting:-}" ]]; then
      continue
    elif [[ $name == *... ]]; then
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

# Whether a data set is in $DATA_ROOT, or is drawn there when it is first needed.
is_there() { [[ -d "$DATA_ROOT/$1" || $1 == demo ]]; }

# Calls a test script for each data set of $DATASETS that is there, and says at the end which failed:
#   test_each SCRIPT ARGUMENT...      calls `arguments_for`, if there is such a function, for what depends on the data set
test_each() {
  local script=$1 dataset code tested=0 failed=
  shift
  for dataset in $DATASETS; do
    if ! is_there "$dataset"; then
      echo "skipping $dataset: there is no folder $DATA_ROOT/$dataset" >&2
      continue
    fi
    own=()
    ! declare -F arguments_for > /dev/null || arguments_for "$dataset"
    launch "$script" --dataset "$dataset" --data_path "$DATA_ROOT/$dataset" --save_path "$SAVE_PATH/$dataset" \
      ${own[@]+"${own[@]}"} "$@" || { code=$?; [[ $code -ne 130 ]] || exit 130; failed+=" $dataset"; }
    tested=$((tested + 1))
  done
  if [[ $tested -eq 0 ]]; then
    echo "error: none of the data sets ($DATASETS) is in $DATA_ROOT; the README says where to get them" >&2
    exit 2
  fi
  if [[ -n "$failed" ]]; then
    echo "error: not tested, for the reasons above:$failed" >&2
    exit 1
  fi
}
