#!/bin/sh
# Two nodes in small, in namespaces of their own: n1 with a bridge, n2 with a route and a link a pod. Prints who reaches whom and what arrives, without
# tables, with both, and with that of n2 alone. Started by nodes.rs as: unshare --net --mount --pid --fork sh nodes.sh TABLE1 TABLE2 <LIST
set -u
table1=$1 table2=$2
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/www
echo hello >/run/www/index.html
cat >/run/list
in_() { ip netns exec "$@"; }
put() { in_ "$1" sh -c "echo $2 >/proc/sys/net/$3"; }
number() { case $1 in a?) echo 2 ;; b?) echo 3 ;; z?) echo 4 ;; u?) echo 9 ;; esac; }
# The address of a name, in a family.
address() {
  case $2.$1 in
  4.n?) echo "10.200.0.${1#n}" ;;
  6.n?) echo "fd00:200::${1#n}" ;;
  4.s-a2) echo 10.96.0.2 ;;
  6.s-a2) echo fd00:96::2 ;;
  4.elsewhere) echo 192.0.2.7 ;;
  6.elsewhere) echo 2001:db8::7 ;;
  4.*) echo "10.244.${1#?}.$(number "$1")" ;;
  6.*) echo "fd00:${1#?}::$(number "$1")" ;;
  esac
}
for node in 1 2; do
  ip netns add "n$node"
  ip -n "n$node" link set lo up
  put "n$node" 1 ipv4/ip_forward
  put "n$node" 1 ipv6/conf/all/forwarding
done
ip -n n1 link add node0 type veth peer name node0 netns n2
for node in 1 2; do
  other=$((3 - node))
  ip -n "n$node" addr add "10.200.0.$node/24" dev node0
  ip -n "n$node" addr add "fd00:200::$node/64" dev node0 nodad
  ip -n "n$node" link set node0 up
  ip -n "n$node" route add "10.244.$other.0/24" via "10.200.0.$other"
  ip -n "n$node" route add "fd00:$other::/64" via "fd00:200::$other"
  ip -n "n$node" route add default via "10.200.0.$other"
  ip -n "n$node" route add default via "fd00:200::$other"
done
ip -n n1 link add cni0 type bridge
ip -n n1 addr add 10.244.1.1/24 dev cni0
ip -n n1 addr add fd00:1::1/64 dev cni0 nodad
ip -n n1 link set cni0 up
put n1 1 bridge/bridge-nf-call-iptables
put n1 1 bridge/bridge-nf-call-ip6tables
for pod in a1 b1 z1 u1 a2 b2 z2 u2; do
  node=n${pod#?}
  ip netns add "$pod"
  ip -n "$node" link add "v$pod" type veth peer name eth0 netns "$pod"
  ip -n "$pod" link set lo up
  ip -n "$pod" link set eth0 up
  v4=$(address "$pod" 4) v6=$(address "$pod" 6)
  if [ "$node" = n1 ]; then
    ip -n n1 link set "v$pod" master cni0 up
    ip -n "$pod" addr add "$v4/24" dev eth0
    ip -n "$pod" addr add "$v6/64" dev eth0 nodad
    ip -n "$pod" route add default via 10.244.1.1
    ip -n "$pod" route add default via fd00:1::1
  else
    ip -n n2 link set "v$pod" up
    ip -n n2 addr add fe80::1/64 dev "v$pod" nodad
    put n2 1 "ipv4/conf/v$pod/proxy_arp"
    ip -n n2 route add "$v4/32" dev "v$pod"
    ip -n n2 route add "$v6/128" dev "v$pod"
    ip -n "$pod" addr add "$v4/32" dev eth0
    ip -n "$pod" addr add "$v6/128" dev eth0 nodad
    ip -n "$pod" route add 169.254.1.1 dev eth0
    ip -n "$pod" route add default via 169.254.1.1
    ip -n "$pod" route add default via fe80::1 dev eth0
  fi
  for port in 8080 5432; do in_ "$pod" busybox httpd -f -p "[::]:$port" -h /run/www & done
done
for node in n1 n2; do in_ $node busybox httpd -f -p "[::]:10250" -h /run/www & done
in_ n1 nft -f - <<'NFT'
table inet services {
  chain pre {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 10.96.0.2 tcp dport 80 dnat ip to 10.244.2.2:8080
    ip6 daddr fd00:96::2 tcp dport 80 dnat ip6 to [fd00:2::2]:8080
  }
}
NFT
answers() { printf 'GET / HTTP/1.0\r\n\r\n' | timeout 2 ip netns exec "$1" busybox nc -w 1 "$2" "$3" 2>/dev/null | grep -q hello && echo yes || echo no; }
ask() { # prefix family list: whoever asks asks at once
  waiting=
  while read -r kind from to port; do
    [ "$kind" = ask ] || continue
    (echo "$1 $2 ask $from $to $port $(answers "$from" "$(address "$to" "$2")" "$port")") &
    waiting="$waiting $!"
  done </run/list
  # shellcheck disable=SC2086 # several numbers
  wait $waiting
}
# 3000 bytes, so in fragments, from the sender's own or a borrowed address. What arrives is counted by the receiver, since answers go to the owner.
sent() { # prefix family from source to
  own=$(address "$3" "$2") as=$(address "$4" "$2") there=$(address "$5" "$2") seen="$3-as-$4"
  case $2 in 4) length=32 match=ip ping=ping ;; 6) length=128 match=ip6 ping=ping6 ;; esac
  # shellcheck disable=SC2046 # a word or none
  [ "$own" = "$as" ] || ip -n "$3" addr add "$as/$length" dev eth0 $([ "$2" = 4 ] || echo nodad)
  # A fragment of IPv6 is put together only after this hook.
  in_ "$5" nft "table inet $seen { chain in { type filter hook input priority 0; $match saddr $as meta length > 1400 counter accept; }; }"
  timeout 0.4 ip netns exec "$3" busybox $ping -c 2 -i 0.1 -s 3000 -I "$as" "$there" >/dev/null 2>&1
  in_ "$5" nft list table inet "$seen" | grep -q 'packets 0 ' && got=no || got=yes
  echo "$1 $2 send $3 $4 $5 $got"
  in_ "$5" nft delete table inet "$seen"
  [ "$own" = "$as" ] || ip -n "$3" addr del "$as/$length" dev eth0
}
send() { # prefix family: one after the other, since who takes an address keeps others from it
  while read -r kind from source to; do
    [ "$kind" = send ] && sent "$1" "$2" "$from" "$source" "$to"
  done </run/list
}
# Servers and addresses take a moment; without tables everyone answers in the end.
for family in 4 6; do
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    ask without $family >/run/control
    grep -q ' no$' /run/control || break
  done
  cat /run/control
  send without $family
done
in_ n2 nft -f "$table2"
for family in 4 6; do ask half $family; done
in_ n1 nft -f "$table1"
for family in 4 6; do
  ask with $family
  send with $family
done
kill $(jobs -p) 2>/dev/null
exit 0
