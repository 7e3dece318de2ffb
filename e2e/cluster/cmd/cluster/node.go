package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	stepLimit      = 90 * time.Second // of one wait while the node starts; 3 s at most on an idle machine
	restartPause   = 300 * time.Millisecond
	earlyEndsLimit = 5 // a component that ends so often before the node is ready has a fault
	containerdPID  = "/run/containerd.pid"
	containerdSock = "/run/containerd/containerd.sock"
)

// A node is the state of PID 1: it is the parent of all orphans, so it alone waits for children.
type node struct {
	mutex    sync.Mutex
	waiting  map[int]chan syscall.WaitStatus
	programs map[string]string
	logs     *os.File // the folder; opened before the root changed
	progress *os.File
	ready    bool
	failed   chan error
}

// A stepError names the component whose log explains it.
type stepError struct {
	component, message string
}

func (e stepError) Error() string { return e.message }

func (c cluster) initNode() error {
	if os.Getpid() != 1 {
		return errors.New("__init is started by the keeper only")
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	p, err := readJSON[plan](c.path("plan.json"))
	if err != nil {
		return err
	}
	if p.DualStack {
		dualStack()
	}
	n := &node{waiting: map[int]chan syscall.WaitStatus{}, failed: make(chan error, 8)}
	if n.progress, err = os.OpenFile(c.path("progress"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	if n.logs, err = os.Open(c.path("log")); err != nil {
		return err
	}
	err = errors.Join(syscall.Sethostname([]byte(nodeName)))
	if err == nil {
		err = c.makeRoot(p)
	}
	if err == nil {
		err = setUpNetwork()
	}
	if err == nil && p.DualStack {
		err = setUpNetwork6()
	}
	if err == nil {
		fmt.Fprintln(n.progress, "namespaces, mounts and network made")
		go n.reap()
		started := make(chan error, 1)
		go func() { started <- n.startAll() }()
		select {
		case err = <-started:
		case err = <-n.failed:
		}
	}
	if err != nil {
		name := "init"
		var step stepError
		if errors.As(err, &step) {
			name = step.component
		}
		fmt.Fprintln(os.Stderr, err)
		fmt.Fprintf(n.progress, "failed %s %s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
		return err
	}
	n.mutex.Lock()
	n.ready = true
	n.mutex.Unlock()
	fmt.Fprintln(n.progress, "ready: node and default ServiceAccount")
	select {}
}

// reap waits for every child, ours and adopted, and tells who waits for it.
func (n *node) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil {
			time.Sleep(20 * time.Millisecond) // no child yet
			continue
		}
		n.mutex.Lock()
		if ended, ok := n.waiting[pid]; ok {
			ended <- status
			delete(n.waiting, pid)
		}
		n.mutex.Unlock()
	}
}

// launch starts a process; the lock keeps its end from being reaped before it is known here.
func (n *node) launch(args []string, log *os.File) (int, <-chan syscall.WaitStatus, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, nil, err
	}
	null, err := os.OpenFile("/dev/null", os.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	n.mutex.Lock()
	defer n.mutex.Unlock()
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{Dir: "/", Env: []string{"PATH=" + nodePath, "HOME=/root"},
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return 0, nil, fmt.Errorf("starting %s: %w", args[0], err)
	}
	ended := make(chan syscall.WaitStatus, 1)
	n.waiting[pid] = ended
	return pid, ended, nil
}

func (n *node) openLog(name string) (*os.File, error) {
	fd, err := syscall.Openat(int(n.logs.Fd()), name+".log", syscall.O_CREAT|syscall.O_TRUNC|syscall.O_WRONLY|syscall.O_APPEND|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// supervise keeps a component running; one that keeps ending while the node starts ends the start.
func (n *node) supervise(c component) error {
	log, err := n.openLog(c.name)
	if err != nil {
		return err
	}
	go func() {
		for ends := 0; ; time.Sleep(restartPause) {
			pid, ended, err := n.launch(c.args, log)
			if err != nil {
				n.failed <- stepError{c.name, err.Error()}
				return
			}
			if c.name == "containerd" {
				_ = os.WriteFile(containerdPID, []byte(strconv.Itoa(pid)), 0o644)
			}
			status := <-ended
			ends++
			fmt.Fprintf(os.Stderr, "%s %s ended (exit status %d, signal %d); starting it again\n", time.Now().UTC().Format(time.RFC3339), c.name, status.ExitStatus(), status.Signal())
			n.mutex.Lock()
			early := !n.ready && ends >= earlyEndsLimit
			n.mutex.Unlock()
			if early {
				n.failed <- stepError{c.name, fmt.Sprintf("%s ended %d times before the node was ready", c.name, ends)}
				return
			}
		}
	}()
	return nil
}

func (n *node) run(log *os.File, args ...string) error {
	_, ended, err := n.launch(args, log)
	if err != nil {
		return err
	}
	if status := <-ended; status != 0 {
		return fmt.Errorf("%s ended with %d", strings.Join(args, " "), status.ExitStatus())
	}
	return nil
}

func await(component, what string, limit time.Duration, condition func() error) error {
	var last error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = condition(); last == nil {
			return nil
		}
	}
	return stepError{component, fmt.Sprintf("waited %s for %s; last seen: %v", limit, what, last)}
}

func dialContainerd() error {
	connection, err := net.DialTimeout("unix", containerdSock, time.Second)
	if err == nil {
		connection.Close()
	}
	return err
}

func (n *node) startAll() error {
	for _, c := range []component{etcd, containerd, apiserver} {
		if err := n.supervise(c); err != nil {
			return err
		}
	}
	api, err := newAPI()
	if err != nil {
		return err
	}
	if err := await("apiserver", "the API server to be ready", stepLimit, func() error { _, err := api.get("/readyz"); return err }); err != nil {
		return err
	}
	fmt.Fprintln(n.progress, "API server ready")
	for _, c := range []component{controllerManager, scheduler, proxy} {
		if err := n.supervise(c); err != nil {
			return err
		}
	}
	if err := await("containerd", "containerd's socket", stepLimit, dialContainerd); err != nil {
		return err
	}
	if err := n.importImages(); err != nil {
		return err
	}
	fmt.Fprintln(n.progress, "containerd ready, images imported")
	if err := n.supervise(kubelet); err != nil {
		return err
	}
	if err := await("kubelet", "the node to be Ready", stepLimit, api.nodeReady); err != nil {
		return err
	}
	return await("controller-manager", "the default ServiceAccount", stepLimit, func() error {
		_, err := api.get("/api/v1/namespaces/default/serviceaccounts/default")
		return err
	})
}

// importImages comes before the kubelet: an image that it once tried to pull is pulled again even if imported since.
func (n *node) importImages() error {
	log, err := n.openLog("images")
	if err != nil {
		return err
	}
	defer log.Close()
	archives, err := filepath.Glob("/etc/kubernetes/images/*.tar")
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if err := n.run(log, "ctr", "-n", "k8s.io", "images", "import", "--all-platforms", archive); err != nil {
			return stepError{"images", err.Error()}
		}
	}
	return nil
}

// api asks the API server as the cluster's administrator.
type api struct{ client http.Client }

func newAPI() (*api, error) {
	certificate, err := tls.LoadX509KeyPair(pki+"admin.crt", pki+"admin.key")
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(pki + "ca.crt")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &api{http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{certificate}}}}}, nil
}

const answerLimit = 1 << 20

func (a *api) get(path string) ([]byte, error) {
	response, err := a.client.Get("https://" + nodeAddress + ":6443" + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, response.Status)
	}
	return text, err
}

func (a *api) nodeReady() error {
	text, err := a.get("/api/v1/nodes/" + nodeName)
	if err != nil {
		return err
	}
	var object struct {
		Status struct {
			Conditions []struct{ Type, Status, Message, LastHeartbeatTime string }
		}
	}
	if err := json.Unmarshal(text, &object); err != nil {
		return err
	}
	for _, condition := range object.Status.Conditions {
		if condition.Type == "Ready" {
			// a restarted cluster still holds the condition of its last life
			if beat, err := time.Parse(time.RFC3339, condition.LastHeartbeatTime); err != nil || beat.Before(started.Truncate(time.Second)) {
				return errors.New("no heartbeat since the start")
			}
			if condition.Status == "True" {
				return nil
			}
			return errors.New(condition.Message)
		}
	}
	return errors.New("no condition Ready yet")
}

var started = time.Now()

// How long containerd may take to end and to listen again.
const restartLimit = 30 * time.Second

// restartContainerd is a command inside the node, for who has changed containerd's configuration. The node's first
// process starts it again; the pods' shims, and so the pods, live on.
func restartContainerd() error {
	read := func() (int, error) {
		text, err := os.ReadFile(containerdPID)
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(string(text))
	}
	old, err := read()
	if err != nil {
		return fmt.Errorf("which process is containerd: %w", err)
	}
	if err := syscall.Kill(old, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending containerd (process %d): %w", old, err)
	}
	return await("containerd", "containerd to run again", restartLimit, func() error {
		if now, err := read(); err != nil || now == old {
			return errors.New("not started again yet")
		}
		return dialContainerd()
	})
}
