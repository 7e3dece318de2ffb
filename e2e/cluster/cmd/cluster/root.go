package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Where commands are found inside the node. /usr/local is the node's own.
const nodePath = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

// Folders of the node that live on the disk, in the cluster's state, and stay over a restart.
var stateDirs = []string{"var", "opt", "etc/containerd", "etc/cni", "etc/freehold"}

// Sysctls of the whole kernel that a kubelet sets. Files lie over them, so that it writes there and the host keeps its own.
var shadowed = []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"}

func bind(from, to string, flags uintptr) error {
	if err := syscall.Mount(from, to, "", syscall.MS_BIND|flags, ""); err != nil {
		return fmt.Errorf("binding %s on %s: %w", from, to, err)
	}
	return nil
}

func bindReadOnly(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := bind(from, to, syscall.MS_REC); err != nil {
		return err
	}
	if err := syscall.Mount("", to, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("making %s read-only: %w", to, err)
	}
	return nil
}

func mountNew(kind, to, options string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(kind, to, kind, 0, options); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", kind, to, err)
	}
	return nil
}

// makeRoot makes the node's root a tmpfs with the host's programs, read-only, and folders of its own for all that is
// written: so no mount point, file or link is ever made on the host.
func (c cluster) makeRoot(p plan) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	root := c.path("root")
	in := func(path string) string { return filepath.Join(root, path) }
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting the node's root: %w", err)
	}
	for _, name := range []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		if err := likeHost(name, root); err != nil {
			return err
		}
	}
	for _, name := range []string{"tmp", "root", "home", "mnt", "srv", "media", "dev", "proc", "sys", "run", "old", "etc"} {
		if err := os.MkdirAll(in(name), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(in("tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := bind("/dev", in("dev"), syscall.MS_REC); err != nil {
		return err
	}
	for _, name := range stateDirs {
		state := c.path("state", name)
		if err := errors.Join(os.MkdirAll(state, 0o755), os.MkdirAll(in(name), 0o755)); err != nil {
			return err
		}
		if err := bind(state, in(name), 0); err != nil {
			return err
		}
	}
	for _, name := range []string{"var/lib/kubelet", "var/lib/etcd", "var/log", "var/tmp", "opt/cni/bin", "etc/cni/net.d", "etc/containerd/conf.d", "etc/kubernetes"} {
		if err := os.MkdirAll(in(name), 0o755); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(in("var/run")); err != nil {
		if err := os.Symlink("/run", in("var/run")); err != nil {
			return err
		}
	}
	if err := bindReadOnly(c.path("pki"), in("etc/kubernetes/pki")); err != nil {
		return err
	}
	if err := bindReadOnly(c.path("images"), in("etc/kubernetes/images")); err != nil {
		return err
	}
	if err := bindReadOnly(p.Tools["cni"], in("opt/cni/bin")); err != nil {
		return err
	}
	if err := c.fillEtc(in("etc"), p); err != nil {
		return err
	}
	if err := installPrograms(p, in("usr/local")); err != nil {
		return err
	}
	return c.mountKernel(root)
}

// likeHost repeats a top-level folder or link of the host.
func likeHost(name, root string) error {
	host := "/" + name
	info, err := os.Lstat(host)
	if err != nil {
		return nil
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(host)
		if err != nil {
			return err
		}
		return os.Symlink(target, filepath.Join(root, name))
	}
	return bindReadOnly(host, filepath.Join(root, name))
}

func (c cluster) fillEtc(etc string, p plan) error {
	for _, name := range []string{"passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "protocols", "services", "localtime"} {
		if text, err := os.ReadFile("/etc/" + name); err == nil {
			if err := os.WriteFile(filepath.Join(etc, name), text, 0o644); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{"ssl", "ca-certificates", "alternatives", "ld.so.conf.d"} {
		if info, err := os.Stat("/etc/" + name); err == nil && info.IsDir() {
			if err := bindReadOnly("/etc/"+name, filepath.Join(etc, name)); err != nil {
				return err
			}
		}
	}
	config := containerdConfig
	if p.OldContainerd {
		config = oldContainerdConfig
	}
	files := map[string]string{
		"hostname": nodeName + "\n", "hosts": "127.0.0.1 localhost\n" + nodeAddress + " " + nodeName + "\n", "resolv.conf": "nameserver 10.96.0.10\n",
		"os-release": "ID=freehold-test\nPRETTY_NAME=\"Freehold test node\"\n", "machine-id": fmt.Sprintf("%032x\n", len(c.name)+1),
		"kubernetes/kubelet.yaml": kubeletConfig(), "containerd/config.toml": config, "cni/net.d/10-bridge.conflist": cniConfig,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// installPrograms makes /usr/local the node's own, and links every program into its bin.
func installPrograms(p plan, local string) error {
	if _, err := os.Stat(local); err != nil {
		return errors.New("this host has no /usr/local, on which the node's programs are mounted; make that folder")
	}
	if err := syscall.Mount("tmpfs", local, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting /usr/local: %w", err)
	}
	bin := filepath.Join(local, "bin")
	if err := errors.Join(os.MkdirAll(bin, 0o755), os.MkdirAll(filepath.Join(local, "sbin"), 0o755)); err != nil {
		return err
	}
	for _, name := range []string{"runc", "containerd", "node"} {
		if err := bindReadOnly(p.Tools[name], filepath.Join(local, "lib", name)); err != nil {
			return err
		}
		entries, err := os.ReadDir(p.Tools[name])
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.Symlink(filepath.Join("/usr/local/lib", name, e.Name()), filepath.Join(bin, e.Name())); err != nil {
				return err
			}
		}
	}
	program, err := os.ReadFile(p.Program)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bin, "restart-containerd"), program, 0o755)
}

// mountKernel changes into the new root and mounts the kernel's file systems as the new namespaces see them.
func (c cluster) mountKernel(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := syscall.PivotRoot(".", "old"); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	for _, m := range [][3]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run", "mode=755"}, {"tmpfs", "/dev/shm"}, {"mqueue", "/dev/mqueue"}} {
		if m[0] == "mqueue" {
			if _, err := os.Stat(m[1]); err != nil {
				continue // this is the host's /dev: make nothing in it
			}
		}
		if err := mountNew(m[0], m[1], m[2]); err != nil {
			return err
		}
	}
	if err := syscall.Mount("devpts", "/dev/pts", "devpts", 0, "newinstance,mode=0620,ptmxmode=0666,gid=5"); err != nil {
		return fmt.Errorf("mounting /dev/pts: %w", err)
	}
	if err := mountCgroups(cgroupRoot); err != nil {
		return err
	}
	if err := syscall.Unmount("/old", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	if err := os.Remove("/old"); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing the node's mounts with its pods: %w", err)
	}
	// A proc without mounts over it: the kernel lets a pod with its own user namespace mount proc only if one such is visible.
	if err := mountNew("proc", "/run/proc-full", ""); err != nil {
		return err
	}
	return shadowSysctls()
}

func shadowSysctls() error {
	for _, name := range shadowed {
		text, err := os.ReadFile("/proc/sys/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if name == "vm/overcommit_memory" {
			text = []byte("1\n") // what the kubelet sets; it would write it without the newline that QEMU, like any reader of a real sysctl, expects
		}
		file := filepath.Join("/run/shadow", name)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, text, 0o644), bind(file, "/proc/sys/"+name, 0)); err != nil {
			return err
		}
	}
	return nil
}

func setUpNetwork() error {
	for _, line := range []string{"link set lo up", "link add node0 type bridge", "addr add " + nodeAddress + "/24 dev node0", "link set node0 up", "route add default dev node0"} {
		if output, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, output)
		}
	}
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding", "net/bridge/bridge-nf-call-iptables"} {
		if err := os.WriteFile("/proc/sys/"+name, []byte("1"), 0); err != nil {
			return fmt.Errorf("%w (the kernel needs IPv4 forwarding and br_netfilter: modprobe br_netfilter)", err)
		}
	}
	return nil
}
