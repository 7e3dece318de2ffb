package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	sysSetns    = 308 // setns(2) on x86_64; the syscall package has no name for it
	dialLimit   = 5 * time.Second
	relayBuffer = 64 // connections that wait for the one thread in the node's network namespace
)

// keep is the host side of a running cluster: it enters the node's cgroups, starts the node's first process in new
// namespaces, and relays a loopback port of the host to the API server. It ends when that process ends.
func (c cluster) keep() error {
	runtime.LockOSThread() // Pdeathsig follows the thread that started the child
	p, err := readJSON[plan](c.path("plan.json"))
	if err != nil {
		return err
	}
	if err := enterCgroups(p.Cgroups); err != nil {
		return err
	}
	listener, err := c.listen()
	if err != nil {
		return err
	}
	child := exec.Command(p.Program, "__init", c.name)
	child.Dir, child.Stdout, child.Stderr = "/", os.Stdout, os.Stderr
	child.Env = []string{"PATH=" + nodePath, "HOME=/root", "XDG_CACHE_HOME=" + filepath.Dir(cacheDir())}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWNS |
		syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWCGROUP}
	if err := child.Start(); err != nil {
		return fmt.Errorf("starting the node's first process in new namespaces: %w", err)
	}
	if isUnified() { // a cgroup that hands on controllers may hold no process itself
		_ = os.MkdirAll(filepath.Join(p.Cgroups[0], "init"), 0o755)
		_ = os.WriteFile(filepath.Join(p.Cgroups[0], "init", "cgroup.procs"), []byte("0"), 0)
	}
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", child.Process.Pid))
	if err != nil {
		return err
	}
	state := keeperState{Keeper: os.Getpid(), Init: child.Process.Pid, Port: listener.Addr().(*net.TCPAddr).Port}
	state.KeeperStart, state.InitStart = startTime(state.Keeper), startTime(state.Init)
	if err := writeJSON(c.path("keeper.json"), state); err != nil {
		return err
	}
	accepted := make(chan net.Conn, relayBuffer)
	go dialInside(namespace, accepted)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- connection
		}
	}()
	return child.Wait()
}

// listen takes the port of the last time if it is free, so that kubeconfigs stay valid over a restart.
func (c cluster) listen() (net.Listener, error) {
	if port, err := readJSON[int](c.path("port.json")); err == nil {
		if listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return listener, nil
		}
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("a loopback port for the API server: %w", err)
	}
	return listener, writeJSON(c.path("port.json"), listener.Addr().(*net.TCPAddr).Port)
}

// dialInside moves its thread, and no other, into the node's network namespace; a socket belongs to the namespace of
// the thread that made it, and may be used by all.
func dialInside(namespace *os.File, accepted <-chan net.Conn) {
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(sysSetns, namespace.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
		fmt.Fprintln(os.Stderr, "relay: entering the node's network namespace:", errno)
		return
	}
	dialer := net.Dialer{Timeout: dialLimit}
	for outside := range accepted {
		inside, err := dialer.Dial("tcp4", nodeAddress+":6443")
		if err != nil {
			outside.Close()
			continue
		}
		go pass(outside, inside)
	}
}

func pass(outside, inside net.Conn) {
	done := make(chan error, 2)
	forward := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		done <- errors.Join(err, to.(*net.TCPConn).CloseWrite())
	}
	go forward(outside, inside)
	go forward(inside, outside)
	if <-done == nil {
		<-done
	}
	outside.Close()
	inside.Close()
}
