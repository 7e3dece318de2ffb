package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A hierarchy is one line of /proc/self/cgroup. Each line can name another path, so each is read for itself.
type hierarchy struct{ controllers, path string }

func hierarchies() ([]hierarchy, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var all []hierarchy
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if fields := strings.SplitN(line, ":", 3); len(fields) == 3 {
			all = append(all, hierarchy{fields[1], fields[2]})
		}
	}
	return all, nil
}

// mountName is the folder below /sys/fs/cgroup where the hierarchy is mounted by convention.
func (h hierarchy) mountName() string { return strings.TrimPrefix(h.controllers, "name=") }

const cgroupRoot = "/sys/fs/cgroup"

// isUnified says whether cgroup v2 is all there is.
func isUnified() bool {
	_, err := os.Stat(cgroupRoot + "/cgroup.controllers")
	return err == nil
}

// makeCgroups makes a child of our own cgroup in every hierarchy, and refuses one in which something still runs.
func makeCgroups(name string) ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var made []string
	for _, h := range all {
		base := filepath.Join(cgroupRoot, h.mountName(), h.path)
		if h.controllers == "" && !isUnified() {
			base = filepath.Join(cgroupRoot, "unified", h.path)
			if _, err := os.Stat(filepath.Join(base, "cgroup.procs")); err != nil {
				continue
			}
		}
		dir := filepath.Join(base, "freehold-"+name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return made, fmt.Errorf("making the cgroup %s: %w", dir, err)
		}
		made = append(made, dir)
		if members, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs")); len(members) > 0 {
			return made, fmt.Errorf("the cgroup %s has processes already; is another cluster called %s up?", dir, name)
		}
		switch h.controllers {
		case "cpuset": // empty in a new v1 cgroup, and then no process may enter
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				if err := copyCgroupFile(filepath.Join(base, file), filepath.Join(dir, file)); err != nil {
					return made, err
				}
			}
		case "memory": // without effect, or already so, on newer kernels
			_ = os.WriteFile(filepath.Join(dir, "memory.use_hierarchy"), []byte("1"), 0)
		case "": // best effort: a parent with processes of its own cannot hand on controllers, and the kubelet then says so
			_ = os.WriteFile(filepath.Join(base, "cgroup.subtree_control"), []byte("+cpu +cpuset +memory +pids +io"), 0)
		}
	}
	return made, nil
}

func copyCgroupFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0)
}

func enterCgroups(dirs []string) error {
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("entering the cgroup %s: %w", dir, err)
		}
	}
	return nil
}

// How long the kernel may take to let go of the cgroups of killed processes.
const cgroupRemovalLimit = 10 * time.Second

func removeCgroups(dirs []string) error {
	deadline := time.Now().Add(cgroupRemovalLimit)
	for _, dir := range dirs {
		for {
			removeCgroupTree(dir)
			if _, err := os.Stat(dir); err != nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("waited %s for the cgroup %s to become empty; its processes: see its cgroup.procs", cgroupRemovalLimit, dir)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

func removeCgroupTree(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeCgroupTree(filepath.Join(dir, e.Name()))
		}
	}
	_ = syscall.Rmdir(dir)
}

// mountCgroups mounts, inside the node, the hierarchies we are in; their roots are the node's own cgroups.
func mountCgroups(root string) error {
	if isUnified() {
		if err := syscall.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
			return fmt.Errorf("mounting cgroup2: %w", err)
		}
		return delegateUnified(root)
	}
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting %s: %w", root, err)
	}
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		if h.controllers == "" {
			continue
		}
		dir, options := filepath.Join(root, h.mountName()), h.controllers
		if strings.HasPrefix(options, "name=") {
			options = "none," + options
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("cgroup", dir, "cgroup", 0, options); err != nil {
			return fmt.Errorf("mounting the cgroup hierarchy %s: %w", h.controllers, err)
		}
		if parts := strings.Split(h.controllers, ","); len(parts) > 1 {
			for _, part := range parts {
				if err := os.Symlink(h.controllers, filepath.Join(root, part)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// delegateUnified moves all processes into a leaf: in v2 only a cgroup without processes can hand controllers on.
func delegateUnified(root string) error {
	leaf := filepath.Join(root, "init")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	members, err := os.ReadFile(filepath.Join(root, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(members)) {
		if pid != "0" { // the keeper, which is outside our PID namespace, moves itself
			_ = os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(pid), 0)
		}
	}
	return os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+cpu +cpuset +memory +pids +io"), 0)
}
