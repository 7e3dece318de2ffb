// Command frames writes Ethernet frames under false addresses, and says which of them arrive: for the tests of what a pod can
// put on the node's network. Each frame carries its name; `done`, under the pod's own addresses, is the last. It also sends bytes
// to a pod and looks at what comes back.
//
//	frames send INTERFACE               from inside a pod
//	frames listen SECONDS               on the node: the names that arrived until `done` or the time is over, in order, each once
//	frames echo PORT                    sends back what comes by TCP and by UDP, says so once it listens
//	frames ask udp|tcp ADDRESS SIZE     sends so many random bytes there, by UDP in one datagram, and says whether the same come back
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

const mark = "freehold-frame:"

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "send":
		err = send(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "echo":
		err = echo(os.Args[2])
	case len(os.Args) == 5 && os.Args[1] == "ask":
		err = ask(os.Args[2], os.Args[3], os.Args[4])
	case len(os.Args) == 3 && os.Args[1] == "listen":
		err = listen(os.Args[2])
	default:
		err = errors.New("usage: frames send INTERFACE | frames listen SECONDS | frames echo PORT | frames ask udp|tcp ADDRESS SIZE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "frames:", err)
		os.Exit(1)
	}
}

func open() (int, error) {
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, syscall.ETH_P_ALL))
	return syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, int(all))
}

func send(name string) error {
	card, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	addresses, err := card.Addrs()
	if err != nil {
		return err
	}
	var own net.IP
	for _, address := range addresses {
		if ip, _, err := net.ParseCIDR(address.String()); err == nil && ip.To4() != nil {
			own = ip.To4()
		}
	}
	if own == nil {
		return fmt.Errorf("%s has no IPv4 address", name)
	}
	fd, err := open()
	if err != nil {
		return err
	}
	other := net.HardwareAddr{2, 0, 0, 0xbe, 0xef, 1}
	gateway := net.IP{own[0], own[1], own[2], 1}
	local := append([]byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0, card.HardwareAddr[0] ^ 2}, card.HardwareAddr[1], card.HardwareAddr[2], 0xff, 0xfe,
		card.HardwareAddr[3], card.HardwareAddr[4], card.HardwareAddr[5])
	foreign := append([]byte{0xfe, 0x80}, bytes.Repeat([]byte{9}, 14)...)
	frames := []struct {
		name     string
		from     net.HardwareAddr
		protocol uint16
		payload  []byte
	}{
		{"another-ip", card.HardwareAddr, 0x0800, ipv4(net.IP{own[0], own[1], own[2], 250})},
		{"another-mac", other, 0x0800, ipv4(own)},
		{"gateway-arp", card.HardwareAddr, 0x0806, arp(card.HardwareAddr, gateway)},
		{"another-mac-arp", card.HardwareAddr, 0x0806, arp(other, own)},
		{"router-advertisement", card.HardwareAddr, 0x86dd, ipv6(local, 58, append([]byte{134}, make([]byte, 15)...))},
		{"hidden-router-advertisement", card.HardwareAddr, 0x86dd, ipv6(local, 0, append([]byte{58, 0, 1, 4, 0, 0, 0, 0, 134}, make([]byte, 15)...))},
		{"another-ipv6", card.HardwareAddr, 0x86dd, ipv6(foreign, 17, make([]byte, 8))},
		{"other-protocol", card.HardwareAddr, 0x88b5, make([]byte, 8)},
		{"own-arp", card.HardwareAddr, 0x0806, arp(card.HardwareAddr, own)},
		{"own-ipv6", card.HardwareAddr, 0x86dd, ipv6(local, 17, make([]byte, 8))},
		{"done", card.HardwareAddr, 0x0800, ipv4(own)},
	}
	for _, frame := range frames {
		out := append(bytes.Repeat([]byte{0xff}, 6), frame.from...)
		out = binary.BigEndian.AppendUint16(out, frame.protocol)
		out = append(append(out, frame.payload...), mark+frame.name+"\n"...)
		out = append(out, make([]byte, 32)...)
		if err := syscall.Sendto(fd, out, 0, &syscall.SockaddrLinklayer{Ifindex: card.Index}); err != nil {
			return fmt.Errorf("%s: %w", frame.name, err)
		}
	}
	return nil
}

func ipv4(source net.IP) []byte {
	header := []byte{0x45, 0, 0, 92, 0, 0, 0, 0, 64, 17, 0, 0}
	return append(append(append(header, source...), 255, 255, 255, 255), make([]byte, 8)...)
}

func arp(sender net.HardwareAddr, ip net.IP) []byte {
	out := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, sender...)
	return append(append(out, ip...), make([]byte, 10)...)
}

func ipv6(source []byte, next byte, payload []byte) []byte {
	header := []byte{0x60, 0, 0, 0, 0, byte(len(payload) + 72), next, 255}
	out := append(append(header, source...), 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	return append(out, payload...)
}

func echo(port string) error {
	datagrams, err := net.ListenPacket("udp4", ":"+port)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", ":"+port)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	go func() {
		buffer := make([]byte, 65536)
		for {
			n, from, err := datagrams.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = datagrams.WriteTo(buffer[:n], from)
		}
	}()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			_, _ = io.Copy(connection, connection)
		}()
	}
}

// askLimit is for 50 MiB and back through two machines by emulation.
const askLimit = time.Minute

func ask(protocol, address, text string) error {
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return err
	}
	connection, err := net.Dial(protocol+"4", address)
	if err != nil {
		return err
	}
	limit := askLimit
	if protocol == "udp" {
		limit = 2 * time.Second // a lost one does not come later
	}
	if err := connection.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	sent, came := sha256.New(), sha256.New()
	if protocol == "udp" {
		datagram, buffer := make([]byte, size), make([]byte, 65536)
		_, _ = rand.Read(datagram)
		sent.Write(datagram)
		if _, err := connection.Write(datagram); err != nil {
			return err
		}
		n, err := connection.Read(buffer)
		if err != nil {
			return err
		}
		came.Write(buffer[:n])
	} else {
		failed := make(chan error, 1)
		go func() {
			_, err := io.CopyN(io.MultiWriter(connection, sent), rand.Reader, size)
			failed <- errors.Join(err, connection.(*net.TCPConn).CloseWrite())
		}()
		if _, err := io.Copy(came, connection); err != nil {
			return err
		}
		if err := <-failed; err != nil {
			return err
		}
	}
	if !bytes.Equal(sent.Sum(nil), came.Sum(nil)) {
		return errors.New("other bytes came back")
	}
	fmt.Println("the same", size, "bytes")
	return nil
}

func listen(text string) error {
	seconds, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	fd, err := open()
	if err != nil {
		return err
	}
	wait := syscall.Timeval{Usec: 200000}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait); err != nil {
		return err
	}
	fmt.Println("listening")
	seen := map[string]bool{}
	buffer := make([]byte, 65536)
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end) && !seen["done"]; {
		n, _, err := syscall.Recvfrom(fd, buffer, 0)
		if err != nil {
			continue // the time to wait is over, or a signal
		}
		_, after, found := bytes.Cut(buffer[:n], []byte(mark))
		name, _, whole := bytes.Cut(after, []byte("\n"))
		if found && whole && !seen[string(name)] {
			seen[string(name)] = true
			fmt.Println(string(name))
		}
	}
	return nil
}
