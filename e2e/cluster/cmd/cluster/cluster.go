package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	nodeName    = "node1"
	nodeAddress = "10.200.0.10" // in the node's own network namespace, so the same in every cluster

	startLimit = 3 * time.Minute  // of one `up`, after the builds; 5 s on an idle machine
	stopLimit  = 20 * time.Second // for the kernel to end the node's processes
)

// A cluster is a folder in the cache: pki, images, state (the node's disks), log, and keeper.json while it is up.
type cluster struct{ name, dir string }

func clusterNamed(name string) cluster {
	return cluster{name, filepath.Join(cacheDir(), "clusters", name)}
}

func (c cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// keeperState is what the keeper writes once the node's first process runs.
type keeperState struct {
	Keeper, Init           int
	KeeperStart, InitStart string // field 22 of /proc/PID/stat: a PID alone may have been given to another process
	Port                   int
}

// plan is what `up` hands to the keeper and to the node's first process.
type plan struct {
	Tools   map[string]string
	Cgroups []string
	Program string // this program, for the node's own commands
	// Whether nodes, pods and Services have addresses of IPv6 too.
	DualStack bool
	// Whether containerd is of series 1, whose configuration has another form.
	OldContainerd bool
}

func readJSON[T any](path string) (value T, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &value)
	}
	return value, err
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func startTime(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// the command's name, in parentheses, may hold spaces
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

func alive(pid int, start string) bool { return pid > 1 && start != "" && startTime(pid) == start }

func (c cluster) running() (keeperState, bool) {
	state, err := readJSON[keeperState](c.path("keeper.json"))
	return state, err == nil && alive(state.Init, state.InitStart)
}

func (c cluster) lock() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(c.dir), 0o755); err != nil {
		return nil, err
	}
	file, err := lockFile(c.dir+".lock", syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another up or down of the cluster %s is under way; wait for it", c.name)
	}
	return file, err
}

func (c cluster) up(dualStack bool) error {
	for _, program := range []string{"ip", "nft", "mount", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("no %s on PATH; install the Debian packages iproute2, nftables, mount and util-linux", program)
		}
	}
	lock, err := c.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if state, ok := c.running(); ok {
		return fmt.Errorf("a cluster called %s is up already (its first process is %d); stop it with: cluster down %s", c.name, state.Init, c.name)
	}
	p := plan{Tools: map[string]string{}, DualStack: dualStack}
	for _, name := range []string{"pause", "runc", "cni", "containerd", "node"} {
		if given := os.Getenv("FREEHOLD_CONTAINERD"); given != "" && name == "containerd" {
			if p.OldContainerd, err = isOldContainerd(given); err != nil {
				return err
			}
			p.Tools[name] = given
			continue
		}
		t, err := toolNamed(name)
		if err != nil {
			return err
		}
		if p.Tools[name], err = t.ensure(); err != nil {
			return err
		}
	}
	if err := c.start(p); err != nil {
		if failure := c.stop(); failure != nil {
			fmt.Fprintln(os.Stderr, "cluster: while cleaning up: "+failure.Error())
		}
		return err
	}
	return nil
}

// isOldContainerd asks the containerd in a folder whether it is of series 1: "containerd github.com/containerd/containerd 1.7.24~ds1 ...".
func isOldContainerd(folder string) (bool, error) {
	said, err := exec.Command(filepath.Join(folder, "containerd"), "--version").Output()
	words := strings.Fields(string(said))
	if err != nil || len(words) < 3 {
		return false, fmt.Errorf("FREEHOLD_CONTAINERD=%s holds no containerd that says its version (%q, %v)", folder, said, err)
	}
	return strings.HasPrefix(strings.TrimPrefix(words[2], "v"), "1."), nil
}

func (c cluster) start(p plan) error {
	began := time.Now()
	for _, dir := range []string{"log", "root", "state"} {
		if err := os.MkdirAll(c.path(dir), 0o755); err != nil {
			return err
		}
	}
	_ = os.Remove(c.path("progress"))
	if err := ensurePKI(c.path("pki")); err != nil {
		return err
	}
	if err := writeImages(c.path("images"), p.Tools["pause"]); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("reading this program: %w", err)
	}
	p.Program = c.path("cluster-program")
	if err := os.WriteFile(p.Program+".new", program, 0o755); err != nil {
		return fmt.Errorf("copying %s: %w", self, err)
	}
	if err := os.Rename(p.Program+".new", p.Program); err != nil {
		return err
	}
	if p.Cgroups, err = makeCgroups(c.name); err != nil {
		return err
	}
	if err := writeJSON(c.path("plan.json"), p); err != nil {
		return err
	}
	log, err := os.Create(c.path("log", "init.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	keeper := exec.Command(p.Program, "__keeper", c.name)
	keeper.Dir, keeper.Stdout, keeper.Stderr = "/", log, log
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := keeper.Start(); err != nil {
		return fmt.Errorf("starting the keeper: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = keeper.Wait(); close(ended) }()
	return c.awaitReady(began, ended)
}

// awaitReady follows the progress that the node's first process writes, and shows each step with its second.
func (c cluster) awaitReady(began time.Time, ended <-chan struct{}) error {
	shown, dead := 0, false
	for deadline := began.Add(startLimit); ; time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(c.path("progress"))
		lines := strings.Split(string(text), "\n")
		for ; shown < len(lines)-1; shown++ {
			word, rest, _ := strings.Cut(lines[shown], " ")
			if word == "failed" {
				component, message, _ := strings.Cut(rest, " ")
				return c.failure(message, component)
			}
			fmt.Fprintf(os.Stderr, "cluster: %5.1f s %s\n", time.Since(began).Seconds(), lines[shown])
			if word == "ready:" {
				return nil
			}
		}
		if dead {
			return c.failure("the node ended while it started", "init")
		}
		select {
		case <-ended:
			dead = true // its last words may just have been written: look once more
		default:
		}
		if time.Now().After(deadline) {
			return c.failure(fmt.Sprintf("waited %s for the node to be ready", startLimit), "init")
		}
	}
}

func (c cluster) failure(message, component string) error {
	text, _ := os.ReadFile(c.path("log", component+".log"))
	return fmt.Errorf("%s; the end of %s:\n%s", message, c.path("log", component+".log"), lastLines(string(text), 15))
}

func (c cluster) down(purge bool) error {
	lock, err := c.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(c.dir); err != nil {
		return fmt.Errorf("there is no cluster called %s; `cluster status` lists what there is", c.name)
	}
	if err := c.stop(); err != nil {
		return err
	}
	if purge {
		if err := os.RemoveAll(c.dir); err != nil {
			return fmt.Errorf("deleting %s: %w", c.dir, err)
		}
		_ = os.Remove(c.dir + ".lock")
	}
	return nil
}

// stop kills the node's first process, with which the kernel ends all others, and removes the cgroups.
func (c cluster) stop() error {
	state, _ := readJSON[keeperState](c.path("keeper.json"))
	if alive(state.Init, state.InitStart) {
		_ = syscall.Kill(state.Init, syscall.SIGKILL)
	}
	for deadline := time.Now().Add(stopLimit); alive(state.Init, state.InitStart) || alive(state.Keeper, state.KeeperStart); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s for the processes %d and %d of the cluster %s to end", stopLimit, state.Init, state.Keeper, c.name)
		}
	}
	if p, err := readJSON[plan](c.path("plan.json")); err == nil {
		if err := removeCgroups(p.Cgroups); err != nil {
			return err
		}
	}
	_ = os.Remove(c.path("keeper.json"))
	_ = os.Remove(c.path("plan.json"))
	return nil
}

func status() error {
	entries, _ := os.ReadDir(filepath.Join(cacheDir(), "clusters"))
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if state, ok := clusterNamed(e.Name()).running(); ok {
			fmt.Printf("%-20s up    https://127.0.0.1:%d  first process %d\n", e.Name(), state.Port, state.Init)
		} else {
			fmt.Printf("%-20s down\n", e.Name())
		}
	}
	return nil
}

func (c cluster) requireRunning() (keeperState, error) {
	state, ok := c.running()
	if !ok {
		return state, fmt.Errorf("the cluster %s is not up; start it with: cluster up %s", c.name, c.name)
	}
	return state, nil
}

func (c cluster) printKubeconfig(args []string) error {
	state, err := c.requireRunning()
	if err != nil {
		return err
	}
	id := identity{ca: "ca"}
	for i := 0; i < len(args); i += 2 {
		if i+1 >= len(args) {
			return fmt.Errorf("%s needs a value", args[i])
		}
		switch args[i] {
		case "--user":
			id.user = args[i+1]
		case "--group":
			id.groups = append(id.groups, args[i+1])
		default:
			return fmt.Errorf("kubeconfig takes --user and --group, not %q", args[i])
		}
	}
	if id.user == "" {
		if len(id.groups) > 0 {
			return errors.New("--group needs --user too")
		}
		id.user, id.groups = "freehold-test-admin", []string{"system:masters"}
	}
	certificate, key, err := issue(c.path("pki"), id)
	if err != nil {
		return err
	}
	text, err := kubeconfig(c.path("pki"), "https://127.0.0.1:"+strconv.Itoa(state.Port), id.user, certificate, key)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

// inNode is a command inside the node's namespaces.
func inNode(state keeperState, args ...string) *exec.Cmd {
	command := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(state.Init), "-m", "-n", "-p", "-u", "-i", "-C", "--",
		"/usr/bin/env", "PATH=" + nodePath, "HOME=/root", "KUBECONFIG=/etc/kubernetes/pki/admin.kubeconfig"}, args...)...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	return command
}

func (c cluster) exec(args []string) error {
	state, err := c.requireRunning()
	if err != nil {
		return err
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("exec needs a command: cluster exec NAME -- COMMAND")
	}
	return inNode(state, args...).Run()
}

func (c cluster) load(files []string) error {
	state, err := c.requireRunning()
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("load needs at least one image archive")
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		command := inNode(state, "ctr", "-n", "k8s.io", "images", "import", "--all-platforms", "-")
		command.Stdin = file
		err = command.Run()
		file.Close()
		if err != nil {
			return fmt.Errorf("importing %s: %w", name, err)
		}
	}
	return nil
}

func (c cluster) logs(args []string) error {
	if len(args) != 1 || strings.Contains(args[0], "/") {
		return errors.New("logs needs one component: init, etcd, apiserver, controller-manager, scheduler, containerd, kubelet or proxy")
	}
	text, err := os.ReadFile(c.path("log", args[0]+".log"))
	if err != nil {
		return fmt.Errorf("the cluster %s has no log of %q", c.name, args[0])
	}
	_, err = os.Stdout.Write(text)
	return err
}
