#!/bin/sh
# A node in small, in namespaces of its own: a bridge with four pods behind it, Services by DNAT, a kubelet, a metadata service. Prints
# who reaches whom, first without the table and then with it. Started by packets.rs as: unshare --net --mount --pid --fork sh packets.sh TABLE
set -u
table=$1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/www
echo hello >/run/www/index.html
ip link set lo up
ip link add cni0 type bridge
ip addr add 10.244.0.1/24 dev cni0
ip link set cni0 up
ip link add node0 type bridge
ip addr add 10.200.0.10/24 dev node0
ip link set node0 up
ip route add default dev node0
ip addr add 169.254.169.254/32 dev lo
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
echo 1 >/proc/sys/net/bridge/bridge-nf-call-ip6tables
pod() {
  ip netns add "p$1"
  ip link add "v$1" type veth peer name eth0 netns "p$1"
  ip link set "v$1" master cni0 up
  echo 1 >"/sys/class/net/v$1/brport/hairpin_mode"
  ip -n "p$1" link set lo up
  ip -n "p$1" addr add "10.244.0.$1/24" dev eth0
  ip -n "p$1" addr add "fe80::$1/64" dev eth0 nodad
  ip -n "p$1" link set eth0 up
  ip -n "p$1" route add default via 10.244.0.1
  for port in 8080 5432; do ip netns exec "p$1" busybox httpd -f -p "$port" -h /run/www & done
  ip netns exec "p$1" busybox nc -ll -p 9000 -e cat &
}
for one in 2 3 4 5 9; do pod $one; done
busybox httpd -f -p 10250 -h /run/www &
busybox httpd -f -p 169.254.169.254:80 -h /run/www &
nft -f - <<'NFT'
table ip services {
  chain pre {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 10.96.0.3 tcp dport 80 dnat to 10.244.0.3:5432
    ip daddr 10.96.0.4 tcp dport 80 dnat to 10.244.0.4:8080
    ip daddr 10.96.0.2 tcp dport 80 dnat to 10.244.0.2:8080
  }
  chain out {
    type nat hook output priority -100; policy accept;
    ip daddr 10.96.0.3 tcp dport 80 dnat to 10.244.0.3:5432
    ip daddr 10.96.0.4 tcp dport 80 dnat to 10.244.0.4:8080
  }
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    ct original ip saddr 10.244.0.2 ct reply ip saddr 10.244.0.2 masquerade
    ct status dnat ip saddr != 10.244.0.0/24 masquerade
  }
}
NFT
ask() { printf 'GET / HTTP/1.0\r\n\r\n' | timeout 2 "$@" 2>/dev/null | grep -q hello && echo yes || echo no; }
from() { echo "$2 $1 $(ask ip netns exec "p${1#pod}" busybox nc -w 1 "${2%:*}" "${2#*:}")" | sed 's/\(.*\) \(.*\) \(.*\)/\2 \1 \3/' >>/run/answers; }
ping6() { ip netns exec p2 busybox ping6 -c 1 -W 1 -I eth0 fe80::4 >/dev/null 2>&1 && echo yes || echo no; }
all() {
  : >/run/answers
  waiting=
  while read -r pod to; do
    from "$pod" "$to" &
    waiting="$waiting $!"
  done <<'LIST'
pod2 10.244.0.3:5432
pod2 10.244.0.3:8080
pod3 10.244.0.2:8080
pod4 10.244.0.5:8080
pod2 10.244.0.4:8080
pod4 10.244.0.2:8080
pod2 10.96.0.3:80
pod2 10.96.0.4:80
pod2 10.96.0.2:80
pod2 10.200.0.10:10250
pod2 10.244.0.1:10250
pod2 169.254.169.254:80
pod9 10.244.0.2:8080
pod9 10.200.0.10:10250
pod2 10.244.0.9:8080
LIST
  # shellcheck disable=SC2086 # several numbers
  wait $waiting
  for one in 4 9; do echo "node 10.244.0.$one:8080 $(ask busybox nc -w 1 "10.244.0.$one" 8080)" >>/run/answers; done
  for one in 3 4; do echo "node 10.96.0.$one:80 $(ask busybox nc -w 1 "10.96.0.$one" 80)" >>/run/answers; done
  echo "pod2 fe80::4 $(ping6)" >>/run/answers
  sort /run/answers | sed "s/^/$1 /"
}
# Servers and addresses take a moment; without the table everyone answers in the end.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  all without >/run/control
  grep -q ' no$' /run/control || break
done
cat /run/control
nft -f "$table"
all with

# An open connection, a policy that closes, one that opens.
: >/run/ticks
(while :; do echo tick; sleep 0.1; done | ip netns exec p3 busybox nc 10.244.0.2 9000 >/run/ticks) &
flow() { # what is expected, its name: lines come back within a second or none do, asked again for a while
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    before=$(wc -l </run/ticks)
    sleep 1
    after=$(wc -l </run/ticks)
    [ "$after" -gt "$before" ] && got=yes || got=no
    [ "$got" != "$1" ] || break
  done
  echo "open $2 $got"
}
flow yes before
nft insert rule inet freehold fence-in/team-a-dev drop
flow no closed
nft -f "$table"
flow yes replaced
kill $(jobs -p) 2>/dev/null
exit 0
