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

# Sets `dataset` to what the programs call a data set, whose name may be written as papers do, and `folder` to its folder:
#   locate ClinicDB
locate() {
  dataset=$(printf %s "$1" | tr "[:upper:]" "[:lower:]")
  case $dataset in # other names that the registry knows
    clinicdb) dataset=cvc_clinicdb ;;
    loco) dataset=mvtec_loco ;;
    ad2) dataset=mvtec_ad2 ;;
    sdd) dataset=ksdd ;;
    endo) dataset=endotect ;;
    dtd-synthetic | real-iad) dataset=${dataset/-/_} ;;
  esac
  if [[ -d "$DATA_ROOT/$1" ]]; then folder=$DATA_ROOT/$1; else folder=$DATA_ROOT/$dataset; fi
}

# Sets `found` to the data sets of a list that are in $DATA_ROOT, or are drawn there when they are first needed, and
# `folders` to their folders; ends the script if there is none:
#   find_data_sets "$DATASETS"
find_data_sets() {
  local name dataset folder
  found=() folders=()
  for name in $1; do
    locate "$name"
    if [[ -d "$folder" || $dataset == demo ]]; then
      found+=("$dataset") folders+=("$folder")
    else
      echo "skipping $dataset: there is no folder $folder" >&2
    fi
  done
  [[ ${#found[@]} -eq 0 ]] || return 0
  echo "error: none of the data sets ($1) is in $DATA_ROOT; docs/data.md says where to get them" >&2
  exit 2
}

# Tests the data sets that were found in one run, which ends with one table; one alone lies where it would with others:
#   test_found SCRIPT ARGUMENT...
test_found() {
  local script=$1 out=$SAVE_PATH
  shift
  [[ -z "$out" || ${#found[@]} -gt 1 ]] || out+=/${found[0]}
  launch "$script" --dataset "${found[@]}" --data_path "${folders[@]}" ${out:+--save_path "$out"} "$@"
}
