package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	pauseImage = "registry.k8s.io/pause:3.10.2"
	testImage  = "freehold.dev/test:dev"
)

// writeImages makes the images without which no pod starts: pause, and busybox if the machine has a static one.
func writeImages(dir, pause string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	program, err := os.ReadFile(filepath.Join(pause, "pause"))
	if err != nil {
		return err
	}
	layer := []entry{{name: "pause", mode: 0o755, data: program}}
	if err := writeArchive(filepath.Join(dir, "pause.tar"), pauseImage, map[string]any{"Entrypoint": []string{"/pause"}, "User": "65535:65535"}, layer); err != nil {
		return fmt.Errorf("image %s: %w", pauseImage, err)
	}
	path := os.Getenv("FREEHOLD_BUSYBOX")
	if path == "" {
		path = "/bin/busybox"
	}
	layer, err = busyboxLayer(path)
	if err != nil {
		fmt.Fprintf(os.Stderr, "cluster: no image %s: %v (install busybox-static or set FREEHOLD_BUSYBOX)\n", testImage, err)
		return nil
	}
	config := map[string]any{"Cmd": []string{"sh"}, "Env": []string{"PATH=/bin"}, "WorkingDir": "/"}
	if err := writeArchive(filepath.Join(dir, "test.tar"), testImage, config, layer); err != nil {
		return fmt.Errorf("image %s: %w", testImage, err)
	}
	return nil
}

// An entry is a directory (name ends in a slash), a link (link set) or a file.
type entry struct {
	name, link string
	mode       int64
	data       []byte
}

func busyboxLayer(path string) ([]entry, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", path, err)
	}
	layer := []entry{{name: "bin/", mode: 0o755}, {name: "etc/", mode: 0o755}, {name: "root/", mode: 0o700}, {name: "tmp/", mode: 0o1777}, {name: "var/", mode: 0o755},
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{name: "bin/busybox", mode: 0o755, data: program}}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" && !strings.Contains(applet, "/") {
			layer = append(layer, entry{name: "bin/" + applet, link: "busybox", mode: 0o777})
		}
	}
	return layer, nil
}

func writeTar(to io.Writer, entries []entry) error {
	archive := tar.NewWriter(to)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if e.link != "" {
			header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
		} else if strings.HasSuffix(e.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(e.data); err != nil {
			return err
		}
	}
	return archive.Close()
}

// writeArchive writes the format of `docker save` with one layer; the same input gives the same bytes.
func writeArchive(path, name string, config map[string]any, layer []entry) error {
	var rootfs bytes.Buffer
	if err := writeTar(&rootfs, layer); err != nil {
		return err
	}
	sum := sha256.Sum256(rootfs.Bytes())
	configText, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}}})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return writeTar(file, []entry{{name: "config.json", mode: 0o644, data: configText}, {name: "layer.tar", mode: 0o644, data: rootfs.Bytes()},
		{name: "manifest.json", mode: 0o644, data: manifest}})
}
