#!/usr/bin/env bash
# What a load generator costs beside the server that it measures: CPU time of both, per message, in the same run.
#
#   loadtest/ghz/cost.sh SERVER_PID [DATA_ADDR]
#
# The server holds the scenario of at least 1,000 tenants. Linux only: CPU time of the server is read from /proc.
# GHZ and LOADTEST say which programs to run.
set -euo pipefail

pid=${1:?the process id of the server}
address=${2:-127.0.0.1:7400}
ghz=${GHZ:-ghz}
loadtest=${LOADTEST:-target/release/tessera-loadtest}
cd "$(dirname "$0")/../.."

# CPU time of all threads of the server, in nanoseconds.
server_cpu() { cat /proc/"$pid"/task/*/schedstat | awk '{sum += $1} END {printf "%.0f", sum}'; }

# measure NAME MESSAGES COMMAND…: prints CPU-µs per message of both sides.
measure() {
  local name=$1 messages=$2 before after spent
  shift 2
  before=$(server_cpu)
  TIMEFORMAT='%U %S'
  spent=$( { time "$@" > /dev/null 2>&1; } 2>&1 )
  after=$(server_cpu)
  awk -v name="$name" -v messages="$messages" -v server="$((after - before))" -v spent="$spent" 'BEGIN {
    split(spent, cpu, " ")
    own = (cpu[1] + cpu[2]) * 1e6 / messages
    served = server / 1e3 / messages
    printf "%-42s %10.1f %10.1f %8.1f\n", name, own, served, own / served
  }'
}

printf '%-42s %10s %10s %8s\n' 'CPU-µs per message' generator server ratio
own=("$loadtest" run --data-addr "$address" --tenants 1000 --warm-up 0 --quiet)
for _ in 1 2 3; do
  measure 'ghz, unary' 50000 "$ghz" --config loadtest/ghz/unary.json --total 50000 "$address"
  measure 'tessera-loadtest, unary' 50000 "${own[@]}" --mode unary --rate 10k --duration 5s
  measure 'ghz, stream of 50 checks a frame' 50000 "$ghz" --config loadtest/ghz/stream.json --total 500 "$address"
  measure 'tessera-loadtest, stream of 50' 50000 "${own[@]}" --mode stream --rate 10k --duration 5s
  measure 'ghz, batch of 1,000' 2000 "$ghz" --config loadtest/ghz/batch.json --total 2000 "$address"
  measure 'tessera-loadtest, batch of 1,000' 2000 "${own[@]}" --mode batch --rate 400 --duration 5s
done
