package main

import (
	"fmt"
	"syscall"
)

// No handler of Freehold here: its installer adds one below conf.d, and is tested by that.
const containerdConfig = `version = 4
root = '/var/lib/containerd'
state = '/run/containerd'
imports = ['/etc/containerd/conf.d/*.toml']

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '` + pauseImage + `'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = '/usr/local/bin/runc'
        SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/opt/cni/bin']
    conf_dir = '/etc/cni/net.d'
`

// The same for containerd 1.6 and 1.7. Without imports: these replace a plugin's whole table by the imported one.
const oldContainerdConfig = `version = 2
root = '/var/lib/containerd'
state = '/run/containerd'

[plugins.'io.containerd.grpc.v1.cri']
  sandbox_image = '` + pauseImage + `'
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.grpc.v1.cri'.containerd]
    snapshotter = 'overlayfs'
    default_runtime_name = 'runc'
    [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
        BinaryName = '/usr/local/bin/runc'
        SystemdCgroup = false
  [plugins.'io.containerd.grpc.v1.cri'.cni]
    bin_dir = '/opt/cni/bin'
    conf_dir = '/etc/cni/net.d'
`

// The MTU is not the card's default, so that a pod which guesses it is found out.
var cniConfig = `{"cniVersion":"1.0.0","name":"podnet","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":false,"hairpinMode":true,"mtu":1400,
  "ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","backend":"nftables","capabilities":{"portMappings":true}}]}
`

// The kubelet fails to start no pod for want of files, but logs an error if it cannot have as many as configured.
const wantedOpenFiles = 1000000

// Logs are rotated at a size that a test can write, and as soon as the kubelet may look.
func kubeletConfig() string {
	files := uint64(wantedOpenFiles)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		files = min(files, limit.Max)
	}
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %s
authentication: {anonymous: {enabled: false}, webhook: {enabled: true, cacheTTL: 10s}, x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: /etc/kubernetes/pki/kubelet-server.crt
tlsPrivateKeyFile: /etc/kubernetes/pki/kubelet-server.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
maxOpenFiles: %d
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
volumePluginDir: /var/lib/kubelet/volume-plugins
resolvConf: /etc/resolv.conf
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, imagefs.available: 1%%}
imageGCHighThresholdPercent: 100
containerLogMaxSize: 1Mi
containerLogMonitorInterval: 3s
`, nodeAddress, files)
}

// A component is a process that the node's first process starts, and starts again when it ends.
type component struct {
	name string
	args []string
}

func clientFlags(name string) []string {
	file := "/etc/kubernetes/pki/" + name + ".kubeconfig"
	return []string{"--kubeconfig=" + file, "--authentication-kubeconfig=" + file, "--authorization-kubeconfig=" + file, "--bind-address=127.0.0.1", "--leader-elect=false"}
}

const pki = "/etc/kubernetes/pki/"

var etcd = component{"etcd", []string{"etcd", "--data-dir=/var/lib/etcd", "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
	"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380", "--initial-cluster=default=http://127.0.0.1:2380", "--unsafe-no-fsync"}}

var containerd = component{"containerd", []string{"containerd", "--config", "/etc/containerd/config.toml"}}

var apiserver = component{"apiserver", []string{"kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--advertise-address=" + nodeAddress, "--bind-address=0.0.0.0",
	"--secure-port=6443", "--service-cluster-ip-range=10.96.0.0/16", "--tls-cert-file=" + pki + "apiserver.crt", "--tls-private-key-file=" + pki + "apiserver.key",
	"--client-ca-file=" + pki + "ca.crt", "--kubelet-client-certificate=" + pki + "apiserver-kubelet-client.crt", "--kubelet-client-key=" + pki + "apiserver-kubelet-client.key",
	"--kubelet-certificate-authority=" + pki + "ca.crt", "--kubelet-preferred-address-types=InternalIP",
	"--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-account-key-file=" + pki + "sa.pub", "--service-account-signing-key-file=" + pki + "sa.key",
	"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
	"--requestheader-client-ca-file=" + pki + "front-proxy-ca.crt", "--requestheader-allowed-names=front-proxy-client", "--requestheader-username-headers=X-Remote-User",
	"--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
	"--proxy-client-cert-file=" + pki + "front-proxy-client.crt", "--proxy-client-key-file=" + pki + "front-proxy-client.key", "--profiling=false"}}

// The queries a second are raised: with the default a new namespace waits for its default ServiceAccount.
var controllerManager = component{"controller-manager", append([]string{"kube-controller-manager"}, append(clientFlags("controller-manager"),
	"--use-service-account-credentials=true", "--service-account-private-key-file="+pki+"sa.key", "--root-ca-file="+pki+"ca.crt",
	"--cluster-signing-cert-file="+pki+"ca.crt", "--cluster-signing-key-file="+pki+"ca.key", "--client-ca-file="+pki+"ca.crt",
	"--requestheader-client-ca-file="+pki+"front-proxy-ca.crt", "--allocate-node-cidrs=true", "--cluster-cidr=10.244.0.0/16", "--node-cidr-mask-size=24",
	"--service-cluster-ip-range=10.96.0.0/16", "--kube-api-qps=300", "--kube-api-burst=600")...)}

var scheduler = component{"scheduler", append([]string{"kube-scheduler"}, clientFlags("scheduler")...)}

var kubelet = component{"kubelet", []string{"kubelet", "--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig=" + pki + "kubelet.kubeconfig", "--hostname-override=" + nodeName,
	"--node-ip=" + nodeAddress, "--root-dir=/var/lib/kubelet", "--v=2"}}

// The conntrack flags of 0 leave the host's limits alone: they are the whole kernel's.
var proxy = component{"proxy", []string{"kube-proxy", "--kubeconfig=" + pki + "proxy.kubeconfig", "--hostname-override=" + nodeName, "--proxy-mode=nftables",
	"--cluster-cidr=10.244.0.0/16", "--conntrack-max-per-core=0", "--conntrack-min=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	"--bind-address=" + nodeAddress, "--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249"}}
