// Command cluster runs a one-node Kubernetes in namespaces of its own on one Linux machine, without a container
// engine, a registry or a systemd: everything it runs is built here from Go modules. Its users are the tests and the
// demo, which need a real API server, kubelet and containerd, and a host that looks the same afterwards.
//
// `up` starts a keeper (host side: the node's cgroups, the relay to the API server), and the keeper starts the node's
// PID 1 in new mount, PID, network, UTS, IPC and cgroup namespaces. Killing PID 1 ends everything; the kernel then
// takes the mounts, links and rules with the namespaces, and `down` removes the cgroups.
//
// Tried on cgroup v1 (hybrid). The path for a pure cgroup v2 host is written but has not been run.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const usage = `cluster: a one-node Kubernetes 1.37 in its own namespaces, for tests. Needs root.

  cluster build [node|containerd|runc|cni|pause|helm ...]   build what is not in the cache; without names: all of these, helm last
  cluster build agnhost ginkgo e2e                          upstream's own test suite, and the programs of its test images
  cluster suite-images FOLDER                               write the images that upstream's suite uses, and print their files
  cluster build dns                                         the cluster's DNS (CoreDNS), which a cluster has only if it is asked for
  cluster dns FILE                                          write its image, and print the manifests that run it
  cluster path TOOL                                         print the file or folder where a built tool lies (helm, kubectl, ctr, ...)
  cluster up NAME [--dual-stack]                            start (or start again with its kept state) and wait until it is usable; with IPv6 too
                                                            FREEHOLD_CONTAINERD=FOLDER takes containerd, ctr and the shim of runc from there
  cluster down NAME [--purge]                               stop; --purge also deletes its state and logs
  cluster status                                            one line a cluster
  cluster kubeconfig NAME [--user U] [--group G]...         a kubeconfig for this host; without --user: cluster administrator
  cluster load NAME FILE...                                 import image archives
  cluster logs NAME COMPONENT                               init, etcd, apiserver, controller-manager, scheduler, containerd, kubelet, proxy
  cluster exec NAME -- COMMAND...                           run a command in the node (KUBECONFIG and PATH are set)
`

var validName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$`)

func main() {
	var err error
	switch name := filepath.Base(os.Args[0]); {
	case name == "restart-containerd":
		err = restartContainerd()
	case len(os.Args) < 2:
		err = errors.New("no command given\n" + usage)
	default:
		err = dispatch(os.Args[1], os.Args[2:])
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster: "+err.Error())
		os.Exit(1)
	}
}

func dispatch(command string, args []string) error {
	switch command {
	case "help", "-h", "--help":
		fmt.Print(usage)
		return nil
	case "build":
		return buildCommand(args)
	case "path":
		return pathCommand(args)
	case "suite-images":
		if len(args) != 1 {
			return errors.New("suite-images needs the folder to write them to")
		}
		return suiteImages(args[0])
	case "dns":
		if len(args) != 1 {
			return errors.New("dns needs the file to write the image to")
		}
		return dns(args[0])
	case "status":
		return status()
	case "up", "down", "kubeconfig", "load", "logs", "exec", "__keeper", "__init":
	default:
		return fmt.Errorf("unknown command %q\n%s", command, usage)
	}
	if len(args) == 0 {
		return fmt.Errorf("%s needs the name of a cluster", command)
	}
	if !validName.MatchString(args[0]) {
		return fmt.Errorf("%q is no name for a cluster: use at most 30 lower-case letters, digits and dashes, a letter first", args[0])
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s needs root (namespaces, mounts, cgroups); run it with sudo", command)
	}
	c, rest := clusterNamed(args[0]), args[1:]
	switch command {
	case "up":
		dualStack := len(rest) == 1 && rest[0] == "--dual-stack"
		if len(rest) > 0 && !dualStack {
			return fmt.Errorf("up takes only --dual-stack, not %q", strings.Join(rest, " "))
		}
		return c.up(dualStack)
	case "down":
		purge := len(rest) == 1 && rest[0] == "--purge"
		if len(rest) > 0 && !purge {
			return fmt.Errorf("down takes only --purge, not %q", strings.Join(rest, " "))
		}
		return c.down(purge)
	case "kubeconfig":
		return c.printKubeconfig(rest)
	case "load":
		return c.load(rest)
	case "logs":
		return c.logs(rest)
	case "exec":
		return c.exec(rest)
	case "__keeper":
		return c.keep()
	default:
		return c.initNode()
	}
}
