#!/bin/sh
# Upgrades all agents of a cluster, one node after the other, and stops at the first trouble.
#
#   rolling-upgrade.sh [OPTION...] FILE [NODE...]
#
# FILE is the new version: a package (sheaf_VERSION_ARCH.deb) or the binary. Without NODEs all nodes of the cluster are upgraded:
# first those that do not vote, then voters, the leader last. A node that has the version already is left alone, so the same
# command goes on where an earlier one stopped.
#
# Nothing is drained: a restarted agent leaves a stand-in that holds its leases, and what it runs goes on untouched. Before each
# node the cluster must be whole: a leader, every node ready, and where the node votes, another voter to spare. After it, the
# node must be ready with the new version, and nothing may run worse than before.
#
#   --dry-run            say what would be done, in which order
#   --timeout SECONDS    how long a node may take to come back (default 120)
#   --transport PROGRAM  what reaches a node (default: ssh and scp). It is called as
#                          PROGRAM install NODE FILE    put the new version in place; the agent runs on
#                          PROGRAM restart NODE         restart the agent
#   --user NAME          whom ssh logs in as (default root)
#
# Environment: SHEAF, the command that asks the cluster (default: sheaf; with SHEAF_ADDRESS and a token as `sheaf login` keeps
# it). Exit status: 0 all are upgraded, 1 trouble, and what to do is said, 2 wrong usage.
set -eu

sheaf=${SHEAF:-sheaf}
timeout=120
transport=
user=root
dry=

usage() {
  sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
}

say() { printf '%s\n' "$*"; }

# stop WHAT REMEDY: nothing further is touched.
stop() {
  printf 'stopped: %s\n' "$1" >&2
  printf 'what to do: %s\n' "$2" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry=1 ;;
    --timeout | --transport | --user)
      [ $# -ge 2 ] || usage
      case $1 in
        --timeout) timeout=$2 ;;
        --transport) transport=$2 ;;
        --user) user=$2 ;;
      esac
      shift
      ;;
    -h | --help) usage ;;
    --) shift; break ;;
    -*) echo "unknown option $1" >&2; usage ;;
    *) break ;;
  esac
  shift
done
[ $# -ge 1 ] || usage
case $timeout in '' | *[!0-9]*) echo "--timeout takes seconds, not $timeout" >&2; exit 2 ;; esac
file=$1
shift
[ -r "$file" ] || { echo "$file cannot be read: a package or the binary" >&2; exit 2; }

# The version that the file brings, as agents say it: a package's may have a revision, and what comes before a release after `~`.
case $file in
  *.deb) version=$(dpkg-deb -f "$file" Version | sed 's/-[0-9][0-9]*$//;s/~/-/') ;;
  *) version=$("$file" version -o name) ;;
esac
[ -n "$version" ] || { echo "$file does not say its version" >&2; exit 2; }

# --- reaching a node ---

# Run through a shell there: what is put in between is quoted for it. `set -e` does not hold in here, since whoever calls this asks
# whether it failed: each step says itself that the next one needs it.
over_ssh() {
  case $1 in
    install)
      case $3 in
        *.deb)
          # The node's own /etc/sheaf/agent.toml stays, whatever the package brings: there is nobody to be asked.
          # shellcheck disable=SC2029
          scp -q "$3" "$user@$2:/tmp/sheaf-upgrade.deb" &&
            ssh -n "$user@$2" 'dpkg --force-confold -i /tmp/sheaf-upgrade.deb && rm /tmp/sheaf-upgrade.deb'
          ;;
        *)
          # By a name of its own first: a program that runs cannot be written over, but replaced.
          scp -q "$3" "$user@$2:/tmp/sheaf-upgrade" &&
            ssh -n "$user@$2" 'install -m 755 /tmp/sheaf-upgrade /usr/bin/sheaf.new && mv /usr/bin/sheaf.new /usr/bin/sheaf && rm /tmp/sheaf-upgrade'
          ;;
      esac
      ;;
    restart) ssh -n "$user@$2" systemctl restart sheaf ;;
  esac
}

reach() {
  if [ -n "$transport" ]; then "$transport" "$@"; else over_ssh "$@"; fi
}

# --- asking the cluster ---

# A line `NAME STATUS ROLE VERSION NUMBER` for each node; ROLE is leader, voter or -.
nodes() {
  listed=$($sheaf node list --all -o json) || return 1
  printf '%s\n' "$listed" | sed -n 's/^ *\({"name":.*}\),\{0,1\}$/\1/p' | while read -r row; do
    field() { printf '%s\n' "$row" | sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p"; }
    role=-
    case $row in *'"voter":true'*) role=voter ;; esac
    case $row in *'"leader":true'*) role=leader ;; esac
    number=$(printf '%s\n' "$row" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
    printf '%s %s %s %s %s\n' "$(printf '%s\n' "$row" | sed 's/^{"name":"\([^"]*\)".*/\1/')" "$(field status)" "$role" "$(field version)" "$number"
  done
}

# Of these lines, those of lost nodes whose name another node has by now: `NAME NUMBER`.
former() {
  printf '%s\n' "$1" | awk '
    $2 != "left" { named[$1]++ }
    $2 == "lost" { lost[++n] = $1 " " $5; of[n] = $1 }
    END { for (i = 1; i <= n; i++) if (named[of[i]] > 1) print lost[i] }'
}

# This number of `cluster status`, like fault_tolerance, if a node leads.
counted() {
  status=$($sheaf cluster status -o json) || { echo "the cluster does not answer, or no node leads" >&2; return 1; }
  found=$(printf '%s\n' "$status" | sed -n "s/^ *\"$1\": *\\([0-9]*\\),\\{0,1\\}\$/\\1/p" | head -n 1)
  [ -n "$found" ] || { echo "cluster status does not say $1" >&2; return 1; }
  echo "$found"
}

# The buckets that do not run as they should, each on a line, and nothing else of what was said: their paths begin with a slash. One
# that is unplaced since nothing is available for it is among them, before as after.
paths() { printf '%s\n' "$1" | grep '^/' || true; }

troubled() {
  found=
  for state in partial unplaced failed waiting_for_node; do
    listed=$($sheaf bucket list --all --where "state=$state" -o name) || { echo "buckets are not listed" >&2; return 1; }
    found="$found$listed
"
  done
  paths "$found"
}

# Something that can be tried again. wait_for WHAT COMMAND... What it says at last is in $why.
wait_for() {
  what=$1
  shift
  begun=$(date +%s)
  until why=$("$@" 2>&1); do
    if [ $(($(date +%s) - begun)) -ge "$timeout" ]; then
      printf '%s: not within %s s: %s\n' "$what" "$timeout" "$why" >&2
      return 1
    fi
    sleep 1
  done
}

# Whether all others are well: the node that is next may be one that did not come back with another version.
whole() {
  counted fault_tolerance >/dev/null || return 1
  rows=$(nodes) || return 1
  twice=$(former "$rows")
  [ -z "$twice" ] || { echo "forget the lost one first whose name another node has: $twice"; return 1; }
  # Nodes that left for good are gone from the list; one that is lost is a trouble already there.
  bad=$(printf '%s\n' "$rows" | awk -v next_one="$1" '$1 != next_one && $2 != "ready" && $2 != "draining" && $2 != "left" { print $1 " is " $2 }')
  [ -z "$bad" ] || { echo "$bad"; return 1; }
}

# Whether a voter can be spared, if this node votes: it may by now though it did not when this began. One that is away is none to
# be spared.
spare() {
  rows=$(nodes) || return 1
  printf '%s\n' "$rows" | awk -v name="$1" '$1 == name && $3 != "-" && $2 == "ready" { found = 1 } END { exit !found }' || return 0
  spared=$(counted fault_tolerance) || return 1
  [ "$spared" -ge 1 ] || { echo "$1 votes, and no voter can be spared now"; return 1; }
}

upgraded() {
  row=$(nodes | awk -v name="$1" '$1 == name && $2 != "left" { print $1, $2, $3, $4 }')
  case $row in
    # It came back as another node, with an empty data directory.
    *"
"*) echo "two nodes are called $1: $row"; return 1 ;;
    "$1 ready "*" $version" | "$1 draining "*" $version") ;;
    *) echo "${row:-$1 is not known}"; return 1 ;;
  esac
}

# Whether no other buckets are in trouble than those: as many could be others, and more than fit into a program's arguments.
calm() {
  now=$(troubled) || return 1
  worse=$(printf '%s\n-\n%s\n' "$1" "$now" |
    awk '$0 == "-" { later = 1; next } !later { known[$0] = 1; next } $0 != "" && !($0 in known)') || return 1
  [ -z "$worse" ] || { printf 'in trouble now, and not before: %s\n' "$(printf '%s' "$worse" | tr '\n' ' ')"; return 1; }
}

# --- the order ---

all=$(nodes) || stop "the cluster does not answer" "set SHEAF_ADDRESS to a node that is up, and log in: sheaf login"
[ -n "$all" ] || stop "the cluster does not answer" "set SHEAF_ADDRESS to a node that is up, and log in: sheaf login"
twice=$(former "$all" | head -n 1)
[ -z "$twice" ] || stop "two nodes are called ${twice% *}, and node ${twice##* } of them is lost; nothing was touched" \
  "forget the lost one: see that it stays dead, then sheaf node forget ${twice##* } --yes; then run this again"
ordered=$(printf '%s\n' "$all" | awk '
  $2 == "left" { next }
  $3 == "-" { print $1 }
  $3 == "voter" { voters = voters $1 "\n" }
  $3 == "leader" { leader = $1 "\n" }
  END { printf "%s%s", voters, leader }')
if [ $# -gt 0 ]; then
  for node in "$@"; do
    printf '%s\n' "$ordered" | grep -Fxq -- "$node" || stop "there is no node $node" "sheaf node list shows them"
  done
  wanted=$(printf '%s\n' "$@")
  ordered=$(printf '%s\n' "$ordered" | grep -Fx -- "$wanted")
fi

count=$(printf '%s\n' "$ordered" | wc -l | tr -d ' ')
say "to version $version, $count nodes: $(printf '%s' "$ordered" | tr '\n' ' ')"
[ -z "$dry" ] || exit 0

done_already=0
for node in $ordered; do
  if (upgraded "$node") >/dev/null 2>&1; then
    say "$node: has $version already"
    done_already=$((done_already + 1))
    continue
  fi
  wait_for "the cluster is whole" whole "$node" ||
    stop "the cluster is not whole, so $node was not touched" \
      "see sheaf node list and sheaf cluster status; bring nodes that are lost back, or forget those that are gone for good; then run this again"
  wait_for "a voter can be spared" spare "$node" ||
    stop "$node votes, and no vote can be spared, so it was not touched" \
      "with fewer than three voters nothing can be decided while one restarts: add nodes, or upgrade this one by hand"
  wait_for "the cluster says how its buckets run" troubled ||
    stop "how buckets run before is not known, so $node was not touched" "see sheaf bucket list; then run this again"
  before=$(paths "$why")
  say "$node: install"
  reach install "$node" "$file" ||
    stop "the new version could not be put on $node, where the former one runs on" \
      "see what was said above; then run this again, which goes on with $node"
  say "$node: restart"
  reach restart "$node" ||
    stop "the agent of $node was not restarted" "look there: systemctl status sheaf, journalctl -u sheaf; then run this again"
  wait_for "$node is ready with $version" upgraded "$node" ||
    stop "$node did not come back with $version; the others run on as before" \
      "look there: journalctl -u sheaf, sheaf agent check; if the new version is to blame put the former back with $0 FORMER_FILE $node; what $node ran alone moves elsewhere once its stand-in gives up (lease.stand_in)"
  wait_for "everything runs as before" calm "$before" ||
    stop "since $node was upgraded something runs worse than before" \
      "sheaf bucket list shows what, sheaf bucket explain NAME why; then run this again"
  say "$node: ready with $version"
done
say "all $count nodes have $version ($done_already had it before)"
