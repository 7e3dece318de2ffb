// Command sequence prints the secret part of two TCP connections' first sequence numbers, for the test that two clones of one
// machine have secrets of their own. The connections are always the same, 127.0.0.1:40000 to 40001 and to 40002; Linux adds a clock
// to what it makes of the addresses and its secret (64 ns a step, net/core/secure_seq.c), so that is taken off again. What is left
// is exact to some milliseconds, which are some hundred thousand steps of 2^32.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

const from = 40000

func main() {
	for _, to := range []int{40001, 40002} {
		if err := run(to); err != nil {
			fmt.Fprintln(os.Stderr, "sequence:", err)
			os.Exit(1)
		}
	}
}

func run(to int) error {
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, syscall.ETH_P_ALL))
	watch, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, int(all))
	if err != nil {
		return err
	}
	if err := syscall.SetsockoptTimeval(watch, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 10}); err != nil {
		return err
	}
	server, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: to})
	if err != nil {
		return err
	}
	defer server.Close()
	defer syscall.Close(watch)
	// The first connection keeps the port for a while after its end.
	reuse := func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
		return errors.Join(err, failed)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: from}, Control: reuse}
	at := time.Now()
	connection, err := dialer.Dial("tcp4", server.Addr().String())
	if err != nil {
		return err
	}
	defer connection.Close()
	frame := make([]byte, 2048)
	for {
		n, _, err := syscall.Recvfrom(watch, frame, 0)
		if err != nil {
			return fmt.Errorf("the first packet was not seen: %w", err)
		}
		// Ethernet, IPv4 without options, TCP with SYN alone.
		if n < 54 || frame[12] != 8 || frame[23] != syscall.IPPROTO_TCP || frame[47]&0x12 != 2 || binary.BigEndian.Uint16(frame[34:]) != from || int(binary.BigEndian.Uint16(frame[36:])) != to {
			continue
		}
		fmt.Println(binary.BigEndian.Uint32(frame[38:]) - uint32(at.UnixNano()>>6))
		return nil
	}
}
