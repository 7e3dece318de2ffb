package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A tool is built in one `go build` from one Go module; its result is kept under a hash of all that went into it.
type tool struct {
	name     string
	module   string   // folder of its go.mod, below e2e/cluster
	sources  []string // own folders whose files belong into the hash, below the module
	packages []string
	flags    []string
	cgo      string
	links    []string // names by which a multi-call binary is started
	suite    bool     // a suite of tests, compiled by `go test -c`
	extra    bool     // not part of a cluster: built only when named
}

const versionFlags = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/client-go/pkg/version.gitVersion=v1.37.2"

var tools = []tool{
	{name: "pause", module: ".", sources: []string{"cmd/pause"}, packages: []string{"./cmd/pause"}, flags: []string{"-ldflags=-s -w"}, cgo: "0"},
	{name: "runc", module: "tools/runc", packages: []string{"github.com/opencontainers/runc"}, flags: []string{"-tags=seccomp", "-ldflags=-s -w"}, cgo: "1"},
	{name: "cni", module: "tools/cni", flags: []string{"-ldflags=-s -w"}, cgo: "0", packages: []string{
		"github.com/containernetworking/plugins/plugins/main/bridge", "github.com/containernetworking/plugins/plugins/main/loopback",
		"github.com/containernetworking/plugins/plugins/ipam/host-local", "github.com/containernetworking/plugins/plugins/meta/portmap"}},
	{name: "containerd", module: "tools/containerd", flags: []string{"-ldflags=-s -w"}, cgo: "0", packages: []string{
		"github.com/containerd/containerd/v2/cmd/containerd", "github.com/containerd/containerd/v2/cmd/ctr",
		"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"}},
	{name: "node", module: ".", sources: []string{"cmd/node"}, packages: []string{"./cmd/node"}, flags: []string{"-tags=providerless", "-ldflags=" + versionFlags}, cgo: "0",
		links: []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}},
	{name: "helm", module: "tools/helm", packages: []string{"helm.sh/helm/v4/cmd/helm"}, flags: []string{"-ldflags=-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1"}, cgo: "0"},
	{name: "dns", module: "tools/dns", sources: []string{"coredns"}, packages: []string{"./coredns"}, flags: []string{"-ldflags=-s -w"}, cgo: "0", extra: true},
	// Upstream's own suite and what its test images hold. The flags are the node's, or all of Kubernetes is compiled a second time.
	{name: "agnhost", module: "tools/conformance", packages: []string{"k8s.io/kubernetes/test/images/agnhost", "k8s.io/kubernetes/test/images/nonewprivs"},
		flags: []string{"-tags=providerless", "-ldflags=-s -w"}, cgo: "0", extra: true},
	{name: "ginkgo", module: "tools/conformance", packages: []string{"github.com/onsi/ginkgo/v2/ginkgo"}, flags: []string{"-ldflags=-s -w"}, cgo: "0", extra: true},
	{name: "e2e", module: "tools/conformance", packages: []string{"k8s.io/kubernetes/test/e2e"}, flags: []string{"-tags=providerless", "-ldflags=" + versionFlags}, cgo: "0", suite: true, extra: true},
}

func toolNamed(name string) (tool, error) {
	for _, t := range tools {
		if t.name == name {
			return t, nil
		}
	}
	return tool{}, fmt.Errorf("no tool is called %q; there are pause, runc, cni, containerd, node, helm, dns, and agnhost, ginkgo and e2e of upstream's suite", name)
}

func cacheDir() string {
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "/root"
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "freehold")
}

// sourceDir finds e2e/cluster: named by FREEHOLD_CLUSTER_SOURCE, or above the executable, or above the working directory.
func sourceDir() (string, error) {
	starts := []string{os.Getenv("FREEHOLD_CLUSTER_SOURCE")}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	for _, start := range starts {
		for dir := start; filepath.IsAbs(dir); dir = filepath.Dir(dir) {
			for _, candidate := range []string{dir, filepath.Join(dir, "e2e/cluster")} {
				text, err := os.ReadFile(filepath.Join(candidate, "go.mod"))
				if err == nil && strings.HasPrefix(string(text), "module freehold.dev/e2e/cluster\n") {
					return candidate, nil
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	return "", fmt.Errorf("the folder e2e/cluster was not found above the working directory; run this inside the repository or set FREEHOLD_CLUSTER_SOURCE")
}

func (t tool) arguments() []string {
	command := []string{"build"}
	if t.suite {
		command = []string{"test", "-c"}
	}
	return append(append(append(command, "-trimpath", "-buildvcs=false"), t.flags...), "-o")
}

func (t tool) dir(source string) (string, error) {
	hash := sha256.New()
	add := func(path string) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("hash of %s: %w", t.name, err)
		}
		fmt.Fprintf(hash, "%s %d\n%s", filepath.Base(path), len(text), text)
		return nil
	}
	module := filepath.Join(source, t.module)
	for _, file := range []string{"go.mod", "go.sum"} {
		if err := add(filepath.Join(module, file)); err != nil {
			return "", err
		}
	}
	for _, folder := range t.sources {
		err := filepath.WalkDir(filepath.Join(module, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			return add(path)
		})
		if err != nil {
			return "", err
		}
	}
	fmt.Fprintf(hash, "%q %q %s %q", t.packages, t.arguments(), t.cgo, t.links)
	return filepath.Join(cacheDir(), "bin", t.name+"-"+hex.EncodeToString(hash.Sum(nil))[:16]), nil
}

// ensure returns the folder with the tool's binaries, and builds them first if the cache has none.
func (t tool) ensure() (string, error) {
	source, err := sourceDir()
	if err != nil {
		return "", err
	}
	dir, err := t.dir(source)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock, err := lockFile(dir+".lock", syscall.LOCK_EX)
	if err != nil {
		return "", fmt.Errorf("lock of %s: %w", t.name, err)
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, t.build(source, dir)
}

func (t tool) build(source, dir string) error {
	began := time.Now()
	temporary, err := os.MkdirTemp(filepath.Dir(dir), "."+t.name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	fmt.Fprintf(os.Stderr, "cluster: building %s\n", t.name)
	command := exec.Command("go", append(append(t.arguments(), temporary+"/"), t.packages...)...)
	command.Dir = filepath.Join(source, t.module)
	command.Env = append(os.Environ(), "CGO_ENABLED="+t.cgo, "GOWORK=off", "GOFLAGS=-mod=readonly")
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return fmt.Errorf("building %s failed (%w):\n%s", t.name, err, lastLines(output.String(), 20))
	}
	for _, link := range t.links {
		if err := os.Symlink(t.name, filepath.Join(temporary, link)); err != nil {
			return err
		}
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "cluster: built %s in %.1f s\n", t.name, time.Since(began).Seconds())
	return nil
}

func buildCommand(names []string) error {
	if len(names) == 0 {
		for _, t := range tools {
			if !t.extra {
				names = append(names, t.name)
			}
		}
	}
	for _, name := range names {
		t, err := toolNamed(name)
		if err != nil {
			return err
		}
		if _, err := t.ensure(); err != nil {
			return err
		}
	}
	return nil
}

func pathCommand(names []string) error {
	if len(names) != 1 {
		return fmt.Errorf("path needs the name of one tool or binary")
	}
	source, err := sourceDir()
	if err != nil {
		return err
	}
	for _, t := range tools {
		dir, err := t.dir(source)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, names[0])
		if _, err := os.Stat(file); err == nil {
			fmt.Println(file)
			return nil
		}
		if t.name == names[0] {
			if _, err := os.Stat(dir); err == nil {
				fmt.Println(dir)
				return nil
			}
		}
	}
	return fmt.Errorf("%s is not built; run: cluster build", names[0])
}

func lockFile(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), how); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
