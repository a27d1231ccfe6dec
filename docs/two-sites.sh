#!/bin/sh
# Two sites of two hosts each and three members of etcd, all on this machine: something to live the disaster day of
# docs/pools.md with, and four configuration files to copy from. What it makes and runs is in var/two-sites.
#
#   make build FEATURES=switchyard/etcd     once; and `apt-get install etcd-server`
#   docs/two-sites.sh start                 everything; `start east`, `start fe1`, `start etcd1`: those
#   docs/two-sites.sh kill east             kill -9; also `kill fe1`, `kill etcd1`
#   docs/two-sites.sh end                   everything, and forget all
#   docs/two-sites.sh files                 only the files
#
# east: fe1 127.0.1.1, fe2 127.0.1.2; west: fw1 127.0.2.1, fw2 127.0.2.2; each with SIP on 5060 and HTTP on 8080.
# Linux only: elsewhere there is no 127.0.1.1.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
program=${SWITCHYARD:-$root/target/release/switchyard}
plugins=${PLUGINS:-$(dirname "$program")}
folder=${FOLDER:-$root/var/two-sites}
etcd=127.0.3.1 # its members share an address here, and have sites of their own in earnest

address() { case $1 in fe1) echo 127.0.1.1 ;; fe2) echo 127.0.1.2 ;; fw1) echo 127.0.2.1 ;; fw2) echo 127.0.2.2 ;; esac; }
pool() { case $1 in fe*) echo east ;; *) echo west ;; esac; }
hosts() {
    case ${1:-all} in
    all) echo fe1 fe2 fw1 fw2 ;; east) echo fe1 fe2 ;; west) echo fw1 fw2 ;; fe[12] | fw[12]) echo "$1" ;;
    *) echo "no host or pool $1: east, west, fe1, fe2, fw1, fw2, etcd1, etcd2, etcd3" >&2 && return 2 ;;
    esac
}

configuration() { # HOST
    cat <<CONFIG
# The hosts differ in host.name, host.pool, their addresses and their certificates, and in nothing else.
[host]
name = "$1"
pool = "$(pool "$1")"
data_dir = "$1"                         # each host has its own

[sip]
domain = "example.test"                 # the same everywhere
listen = ["udp:$(address "$1"):5060", "tcp:$(address "$1"):5060"]

[cluster]                               # how the hosts reach each other
listen = "tls:$(address "$1"):5071"
cert = "tls/$1.pem"                     # switchyard cluster certificates tls fe1 fe2 fw1 fw2
key = "tls/$1.key"
ca = "tls/ca.pem"

[store]
kind = "etcd"
endpoints = ["https://$etcd:23791", "https://$etcd:23792", "https://$etcd:23793"]
ca = "tls/ca.pem"
cert = "tls/$1.pem"
key = "tls/$1.key"

[plugins]
dir = "$plugins"
enabled = ["call-park", "group-pickup"]

[policies]
dir = "policies"                        # the same files on all hosts: pools/east.lua, pools/west.lua

[media]
music = "$root/music"

[admin]
listen = "$(address "$1"):8080"         # on a machine of its own: with a token

# From here on the same text in all files: the first host that starts fills the store with it.
[[pools]]
name = "east"
backup = "west"

[[pools]]
name = "west"
backup = "east"

[[orbits]]
name = "east-park"
from = "7000"
to = "7099"
kind = "call-park"
pool = "east"

[[orbits]]
name = "west-park"
from = "7100"
to = "7199"
kind = "call-park"
pool = "west"

[[orbits]]
name = "east-groups"
from = "*100"
to = "*149"
kind = "group-pickup"
pool = "east"

[[orbits]]
name = "west-groups"
from = "*150"
to = "*199"
kind = "group-pickup"
pool = "west"
CONFIG
    # Each names its pool: without it a user would belong to that of the host which happens to start first.
    for user in alice:1001:east:101 bob:1002:east:101 carol:1003:east:101 wanda:1004:west:151 walter:1005:west:151; do
        (
            IFS=:
            set -- $user
            printf '\n[[users]]\nname = "%s"\npassword = "%s"\nextension = "%s"\npool = "%s"\npickup_group = "*%s"\nmay_park = true\n' \
                "$1" "$1" "$2" "$3" "$4"
        )
    done
}

files() {
    mkdir -p "$folder/policies/pools"
    [ -e "$folder/tls/ca.pem" ] || "$program" cluster certificates "$folder/tls" fe1 fe2 fw1 fw2 --etcd $etcd
    for host in $(hosts); do
        [ -e "$folder/$host.toml" ] || configuration "$host" > "$folder/$host.toml"
    done
    # Something to see the difference by. In earnest leave the times alone.
    [ -e "$folder/policies/pools/east.lua" ] || cat > "$folder/policies/pools/east.lua" <<LUA
return {
  call_park = { orbit_choice = "lowest", pickup_timeout = "2m" },
  resiliency = { failure_detection = "20s", allow_fast_detection = true, failback_detection = "15s", drain_time = "30s" },
}
LUA
    [ -e "$folder/policies/pools/west.lua" ] || cat > "$folder/policies/pools/west.lua" <<LUA
return {
  call_park = { pickup_timeout = "45s" },
  resiliency = { failure_detection = "20s", allow_fast_detection = true, failback_detection = "15s", drain_time = "30s" },
}
LUA
}

running() { [ -e "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null; }
launch() { # NAME COMMAND…
    name=$1 && shift
    running "$name" && return
    nohup "$@" >> "$folder/$name.log" 2>&1 &
    echo $! > "$folder/$name.pid"
}

start() {
    command -v etcd > /dev/null || { echo "there is no etcd here: apt-get install etcd-server" >&2 && exit 1; }
    # Members of etcd that do not run are started with whatever is named.
    case $1 in etcd[123]) names= ;; *) names=$(hosts "$1") || exit 2 ;; esac
    files
    cluster=etcd1=http://$etcd:23801,etcd2=http://$etcd:23802,etcd3=http://$etcd:23803
    for n in 1 2 3; do
        # Among themselves without TLS, as a member checks whence another comes, and here they all come from 127.0.0.1.
        launch etcd$n etcd --name etcd$n --data-dir "$folder/etcd$n" \
            --listen-client-urls https://$etcd:2379$n --advertise-client-urls https://$etcd:2379$n \
            --listen-peer-urls http://$etcd:2380$n --initial-advertise-peer-urls http://$etcd:2380$n \
            --initial-cluster "$cluster" --cert-file "$folder/tls/etcd-$etcd.pem" --key-file "$folder/tls/etcd-$etcd.key" \
            --client-cert-auth --trusted-ca-file "$folder/tls/ca.pem"
    done
    for host in $names; do
        launch "$host" "$program" run --config "$folder/$host.toml"
    done
    for host in $names; do
        tries=0
        until curl -sf "http://$(address "$host"):8080/readyz" > /dev/null; do
            tries=$((tries + 1))
            running "$host" && [ $tries -lt 60 ] || { tail -n 5 "$folder/$host.log" >&2 && exit 1; }
            sleep 0.5
        done
        echo "$host is up; it logs to $folder/$host.log"
    done
    echo "export SWITCHYARD_ADMIN=http://127.0.2.1:8080     # a host of the west, for switchyard pool list"
}

case ${1:-} in
files) files ;;
start) start "${2:-all}" ;;
kill)
    case ${2:?whom: east, fe1, etcd1, …} in etcd[123]) names=$2 ;; *) names=$(hosts "$2") || exit 2 ;; esac
    for name in $names; do running "$name" && kill -9 "$(cat "$folder/$name.pid")" || echo "$name does not run"; done
    ;;
end)
    for name in $(hosts) etcd1 etcd2 etcd3; do running "$name" && kill -9 "$(cat "$folder/$name.pid")" || :; done
    rm -rf "$folder"
    ;;
*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
