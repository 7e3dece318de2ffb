package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// The node's address of IPv6, and behind each range of IPv4 the one of IPv6 that goes with it.
const nodeAddress6 = "fd00:10:200::10"

var secondFamily = strings.NewReplacer(
	"--service-cluster-ip-range=10.96.0.0/16", "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
	"--cluster-cidr=10.244.0.0/16", "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56",
	"--node-cidr-mask-size=24", "--node-cidr-mask-size-ipv4=24",
	"--node-ip="+nodeAddress, "--node-ip="+nodeAddress+","+nodeAddress6,
	`[{"subnet":"10.244.0.0/24"}]`, `[{"subnet":"10.244.0.0/24"}],[{"subnet":"fd00:10:244::/64"}]`,
	`{"dst":"0.0.0.0/0"}`, `{"dst":"0.0.0.0/0"},{"dst":"::/0"}`,
)

// dualStack gives what the node is about to start a second family of addresses. Without it nothing here has one.
func dualStack() {
	cniConfig = secondFamily.Replace(cniConfig)
	for _, c := range []component{apiserver, controllerManager, kubelet, proxy} {
		for i := range c.args { // the same array as the variable's
			c.args[i] = secondFamily.Replace(c.args[i])
		}
	}
}

func setUpNetwork6() error {
	for _, name := range []string{"net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6"} {
		if err := os.WriteFile("/proc/sys/"+name, []byte("0"), 0); err != nil {
			return fmt.Errorf("%w (a dual-stack cluster needs a kernel with IPv6)", err)
		}
	}
	for _, name := range []string{"net/ipv6/conf/all/forwarding", "net/bridge/bridge-nf-call-ip6tables"} {
		if err := os.WriteFile("/proc/sys/"+name, []byte("1"), 0); err != nil {
			return fmt.Errorf("%w (a dual-stack cluster needs IPv6 forwarding and br_netfilter)", err)
		}
	}
	for _, line := range []string{"addr add " + nodeAddress6 + "/64 dev node0 nodad", "route add default dev node0"} {
		if output, err := exec.Command("ip", append([]string{"-6"}, strings.Fields(line)...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip -6 %s: %w: %s", line, err, output)
		}
	}
	return nil
}
